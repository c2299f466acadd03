"""How a name becomes a thing: the project's own registries, entry points, and `module:name`.

The registries say where a thing lives, as text, so that a name can be looked up and its options checked without
importing torch.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from prunesweep.workers import signature
from prunesweep.workers.errors import UserError, nearest, unknown
from prunesweep.workers.lazy import torch
from prunesweep.workers.source import look_here
from prunesweep.workers.spec import Choice, Value, freeze

foreign_packages: set[str] = set()
"""The top-level names of the packages and modules of others that were used in this process."""


@dataclass(frozen=True)
class Entry:
    """Where a dataset or a model lives (`module:name`) and its options with their defaults.

    `version` is raised when the same name and options give other images, or another network: it then is in the key.
    Options that came `later` are in no choice at their defaults, so that old keys stay. `targets` are those of a
    dataset: `workers.data.base.Dataset.targets`.
    """

    target: str
    options: Mapping[str, Value] = field(default_factory=dict)
    version: int = 1
    later: Mapping[str, Value] = field(default_factory=dict)
    targets: str = "classes"


def load(target: str) -> Any:
    """The object that `module:name` names; a `UserError` when it cannot be imported."""
    module, _, name = target.partition(":")
    if module.endswith(".py"):
        stem = module.removesuffix(".py").removeprefix("./").replace("/", ".")
        raise UserError(f'cannot load "{target}": write "{stem}:{name}", a module that Python finds from this folder')
    if module.partition(".")[0] != "prunesweep":
        look_here()
    try:
        home = import_module(module)
    except ModuleNotFoundError as error:
        absent = f"; is there a {module}.py in this folder?" if error.name == module else ""
        raise UserError(f'cannot load "{target}": {error}{absent}') from error
    except (ImportError, AttributeError) as error:
        raise UserError(f'cannot load "{target}": {error}') from error
    if not hasattr(home, name):
        raise UserError(f'cannot load "{target}": {module} has no {name}{nearest(name, vars(home))}')
    return getattr(home, name)


def is_foreign(entry: Entry) -> bool:
    """Whether it is another package's."""
    return entry.target.partition(".")[0] != "prunesweep"


def find(kind: str, registry: Mapping[str, Entry], name: str) -> Entry:
    """The entry for a name: the registry's, an installed package's, or the one that `module:name` points to.

    `kind` is one of `spec.KINDS`; other packages register under the entry-point group `prunesweep.<kind>s`.
    """
    if name in registry:
        return registry[name]
    if ":" in name:
        return _foreign(kind, name)
    installed = _installed(kind, tuple(sys.path))
    if name in installed:
        return _foreign(kind, installed[name])
    if kind == "dataset" and "/" in name:
        raise UserError(f'dataset "{name}": for a folder of images write {{name: image_folder, path: {name}}}')
    raise UserError(unknown(kind, name, registry, more=" or module:name"))


def own_module(kind: str, registry: Mapping[str, Entry], name: str) -> str | None:
    """The module of another package that a name leads to, which is not imported; None for what is in the registry."""
    target = name if ":" in name else _installed(kind, tuple(sys.path)).get(name, "")
    module = target.partition(":")[0]
    return None if name in registry or module.partition(".")[0] in ("", "prunesweep") else module


def choose(kind: str, registry: Mapping[str, Entry], name: str, given: Mapping[str, Any]) -> Choice:
    """A dataset, model or task by name with its options complete; raises `UserError` on an option that it lacks."""
    entry = find(kind, registry, name)
    options = {**entry.options, **entry.later}
    for option, value in given.items():
        if option not in options:
            named = unknown(f"option of {kind} {name}", option, entry.options)
            raise UserError(named if entry.options else _no_options(kind, name))
        options[option] = _typed(option, value, options[option])
    return Choice.of(name, {o: v for o, v in options.items() if o not in entry.later or v != entry.later[o]})


def build(kind: str, registry: Mapping[str, Entry], choice: Choice, *args: Any) -> Any:
    """Call what a choice names with these arguments and the choice's options."""
    return load(find(kind, registry, choice.name).target)(*args, **choice.settings)


@cache
def _installed(kind: str, places: tuple[str, ...]) -> dict[str, str]:
    """What the packages in these places register, by name: looking through them all takes milliseconds."""
    return {point.name: point.value for point in entry_points(group=f"prunesweep.{kind}s")}


def _foreign(kind: str, target: str) -> Entry:
    """Another package's object, with its options and their defaults, which are part of the key.

    Those of a model are read from its signature (`workers.signature`), a dataset's are keyword-only parameters.
    """
    package = target.partition(":")[0].partition(".")[0]
    if package != "prunesweep":
        foreign_packages.add(package)
    loaded = load(target)
    if kind == "model":
        _require_factory(target, loaded)
        return Entry(target, signature.options(target, loaded))
    named = [p for p in _parameters(kind, target, loaded) if p.kind is p.KEYWORD_ONLY]
    defaults = {p.name: None if p.default is p.empty else freeze(p.default) for p in named}
    return Entry(target, {name: default for name, default in defaults.items() if signature.is_plain(default)})


def _parameters(kind: str, target: str, loaded: Any) -> Sequence[inspect.Parameter]:
    """Of a class of a method, or of a function that is called with the data folder and options by their names."""
    try:
        parameters = list(inspect.signature(loaded).parameters.values())
    except (TypeError, ValueError) as error:
        raise UserError(f"{kind} {target} is a {type(loaded).__name__}, and cannot be called: {error}") from error
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if kind == "dataset" and (not positional or any(p.default is p.empty for p in positional[1:])):
        given = ", ".join(p.name for p in positional) or "none"
        raise UserError(f"dataset {target}: it is called with the data folder alone, and has as parameters: {given}")
    return parameters


def _require_factory(target: str, loaded: Any) -> None:
    if not callable(loaded):
        raise UserError(f"model {target} is a {type(loaded).__name__}, not a function or class that makes a network")
    if isinstance(loaded, torch.nn.Module):
        raise UserError(
            f"model {target} is a network that is made already, and every trial needs its own; give the class, or a "
            "function that makes it: def net(shape, classes): return ..."
        )


def _typed(option: str, given: Any, default: Value) -> Value:
    value: Value = freeze(given)
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if default is not None and not _alike(value, default):
        raise UserError(f"{option}: {given!r} is not like the default {default!r} ({type(default).__name__})")
    return value


def _alike(value: Value, default: Value) -> bool:
    """Of one type, and a list's elements too."""
    if isinstance(value, tuple) and isinstance(default, tuple) and default:
        return all(type(item) is type(default[0]) for item in value)
    return type(value) is type(default)


def _no_options(kind: str, name: str) -> str:
    return f"{kind} {name} has no options"
