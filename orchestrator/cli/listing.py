"""The verb `list`: methods with their hyperparameters, models and datasets, ours and those of installed packages."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, replace
from importlib.metadata import entry_points
from importlib.util import find_spec
from inspect import getdoc
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from prunesweep.orchestrator.cli.options import JsonOption
from prunesweep.orchestrator.cli.printing import as_json, console
from prunesweep.orchestrator.cli.reference import REFERENCES, reference_lines
from prunesweep.workers import registry
from prunesweep.workers.data import DATASETS
from prunesweep.workers.errors import UserError, unknown
from prunesweep.workers.methods import METHODS, method_class
from prunesweep.workers.methods.base import Hyperparameter
from prunesweep.workers.models import MODELS
from prunesweep.workers.registry import Entry

KINDS: dict[str, Mapping[str, Entry]] = {"methods": METHODS, "models": MODELS, "datasets": DATASETS}


def list_(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help=f"{', '.join((*KINDS, *REFERENCES)[:-1])} or {[*REFERENCES][-1]}.",
            autocompletion=lambda: [*KINDS, *REFERENCES],
        ),
    ],
    as_json_: JsonOption = False,
) -> None:
    """List methods with their hyperparameters, models, datasets, columns of results, schedules, recipes and more."""
    rows = REFERENCES[kind]() if kind in REFERENCES else catalogue(kind)
    if as_json_:
        print(as_json(rows))
    elif kind in REFERENCES:
        print("\n".join(reference_lines(rows, console.width)))
    else:
        print("\n".join(_lines(kind, rows, console.width)))


def catalogue(kind: str) -> list[dict[str, Any]]:
    """Methods, models or datasets as JSON values; a `UserError` for another kind."""
    if kind not in KINDS:
        raise UserError(unknown("kind", kind, [*KINDS, *REFERENCES]))
    theirs = (point.name for point in entry_points(group=f"prunesweep.{kind}"))
    names = dict.fromkeys((*KINDS[kind], *theirs))
    return [_method(name) if kind == "methods" else _entry(kind, name) for name in names]


def _lines(kind: str, rows: list[dict[str, Any]], width: int) -> Iterator[str]:
    """A catalogue for people, in lines of at most `width` where words allow it."""
    if kind == "methods":
        for row in rows:
            yield from ("",) if row is not rows[0] else ()
            yield from _method_lines(row, width)
        return
    for summary, group in groupby(rows, key=lambda row: row["summary"]):
        yield from textwrap.wrap(summary, width)
        for _, alike in groupby(group, key=lambda row: tuple(row["options"])):
            yield from _group_lines(list(alike), width)
    if kind == "models":
        for module in ("timm_models", "transformers_models"):
            yield from textwrap.wrap(_summary(f"prunesweep.workers.models.{module}"), width)


def _method(name: str) -> dict[str, Any]:
    from prunesweep.orchestrator.sweepfile.methods import LEVELS
    from prunesweep.orchestrator.sweepfile.settings import SPARSITY

    cls = method_class(name)
    own = cls.hyperparameters()
    # Where the levels can be given instead, a sparsity need not be.
    sparsity = replace(SPARSITY, default=None) if LEVELS in [h.name for h in own] else SPARSITY
    settings = [_hyperparameter(h) for h in ([sparsity, *own] if cls.takes_sparsity else own)]
    return {"name": name, "summary": (getdoc(cls) or "").partition("\n")[0], "settings": settings}


def _hyperparameter(setting: Hyperparameter) -> dict[str, Any]:
    from prunesweep.orchestrator.sweepfile.settings import describe

    required = setting.default is MISSING
    return {
        "name": setting.name,
        "allowed": describe(setting.type, setting.limits),
        "required": required,
        "default": None if required else setting.default,
        "help": setting.help,
    }


def _entry(kind: str, name: str) -> dict[str, Any]:
    entry = registry.find(kind.removesuffix("s"), KINDS[kind], name)
    return {"name": name, "summary": _summary(entry.target.partition(":")[0]), "options": dict(entry.options)}


def _summary(module: str) -> str:
    """The first line of a module's docstring, without importing it: torchvision takes seconds."""
    spec = find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return module
    return (ast.get_docstring(ast.parse(Path(spec.origin).read_bytes())) or module).partition("\n")[0]


def _method_lines(row: Mapping[str, Any], width: int) -> Iterator[str]:
    yield from textwrap.wrap(f"{row['name']}: {row['summary']}", width, subsequent_indent="  ")
    column = max((len(setting["name"]) for setting in row["settings"]), default=0) + 4
    for setting in row["settings"]:
        default = "" if setting["default"] is None else f"; default {setting['default']}"
        required = "; required" if setting["required"] else ""
        text = f"{setting['help']}: {setting['allowed']}{default}{required}"
        first = f"  {setting['name']}".ljust(column)
        yield from textwrap.wrap(text, width, initial_indent=first, subsequent_indent=" " * column)


def _group_lines(group: list[dict[str, Any]], width: int) -> Iterator[str]:
    """Names that have the same options, then these, whose defaults may differ by the name."""
    names = ", ".join(row["name"] for row in group)
    yield from textwrap.wrap(names, width, initial_indent="  ", subsequent_indent="  ")
    for option, value in group[0]["options"].items():
        same = all(row["options"].get(option) == value for row in group)
        shown = list(value) if isinstance(value, tuple) else value
        yield f"    {option}: {f'default {shown}' if same else 'by the name'}"
