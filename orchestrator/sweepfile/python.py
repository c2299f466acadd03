"""Sweeps written in Python: a file whose `trials()` yields `TrialSpec`s, held to the same rules as the YAML ones."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from inspect import isgenerator
from pathlib import Path
from traceback import extract_tb
from types import FunctionType, ModuleType
from typing import Any

from prunesweep.orchestrator.sweepfile import evaluation_sets
from prunesweep.orchestrator.sweepfile.cells import Block, Element, grid
from prunesweep.orchestrator.sweepfile.document import Loc, Problem, Rejected, listed, noting, shown, where
from prunesweep.orchestrator.sweepfile.grammar import HEADER_KEYS, MAX_TRIALS, block_model, header
from prunesweep.orchestrator.sweepfile.methods import hyperparameters, known_method
from prunesweep.orchestrator.sweepfile.starting import FROM_INIT, absolute, absolute_model
from prunesweep.orchestrator.sweepfile.trials import check_rules, trial_of
from prunesweep.orchestrator.sweepfile.validation import validate
from prunesweep.orchestrator.sweepfile.yaml import plain_scalar
from prunesweep.workers.encoding import encode
from prunesweep.workers.errors import UserError, unknown
from prunesweep.workers.methods.base import Method
from prunesweep.workers.source import look_here
from prunesweep.workers.spec import ALL, Choice, Init, Scope, TrainSpec, TrialSpec

PARTS: dict[str, tuple[type, str]] = {
    "dataset": (Choice, 'a Choice, such as Choice.of("digits")'),
    "model": (Choice, 'a Choice, such as Choice.of("resnet8")'),
    "method": (Choice, 'a Choice, such as Choice.of("imp", {"retrain_epochs": 2})'),
    "task": (Choice, 'a Choice, such as Choice.of("regression")'),
    "train": (TrainSpec, "a TrainSpec, such as TrainSpec(epochs=20)"),
    "prune": (Scope, 'a Scope, such as Scope(exempt=("first",))'),
}


def read(path: Path, text: str) -> tuple[dict[str, Any], list[TrialSpec]]:
    """The file's `name`, `resources` and so on, where it has them, and its trials, completed and checked."""
    with _module(path, text) as module:
        given = {key: getattr(module, key) for key in HEADER_KEYS if hasattr(module, key)}
        yielded = list(_yielded(module))
    problems: list[Problem] = []
    top: dict[str, Any] = {}
    with noting(problems):
        top = header(path, given)
    trials: list[TrialSpec] = []
    for index, (line, item) in enumerate(yielded):
        with _noting(problems, line):
            trials.append(_checked(item, ("trials()", index), path.parent))
    with noting(problems):
        check_rules(top, trials)
    if problems:
        lines = _assigned(text)
        raise listed(f"{path}:{p.line or lines.get(p.loc[0], 1)}: {where(p.loc)}: {p.message}" for p in problems)
    return top, trials


# --- the file


@contextmanager
def _module(path: Path, text: str) -> Iterator[ModuleType]:
    """The file as a module that no `import` can find; what it raises is an error on the line that raised it."""
    look_here()
    module = ModuleType(f"sweep file {path}")
    module.__file__ = str(path)
    # Dataclasses look their module up while they are made; the name has spaces, so that it clashes with nothing.
    sys.modules[module.__name__] = module
    try:
        # Not through a loader, which would leave __pycache__ beside the sweeps and could run an older file's.
        exec(compile(text, str(path), "exec"), module.__dict__)
        yield module
    except Rejected as rejected:
        raise listed(f"{path}:{p.line}: {p.message}" for p in rejected.problems) from rejected
    except (Exception, SystemExit) as error:
        raise listed([f"{path}:{_line(error, path)}: {type(error).__name__}: {error}"]) from error
    finally:
        del sys.modules[module.__name__]


def _yielded(module: ModuleType) -> Iterator[tuple[int, Any]]:
    """What `trials()` yields, and the line on which it does."""
    function = getattr(module, "trials", None)
    if not isinstance(function, FunctionType):
        raise Rejected(Problem((), "no function trials(); it yields the TrialSpecs of the sweep", 1))
    start, made = function.__code__.co_firstlineno, function()
    if not isinstance(made, Iterable):
        raise Rejected(Problem((), f"trials() returns {shown(made)}; it must yield TrialSpecs", start))
    count = 0
    for count, item in enumerate(made, 1):
        frame = made.gi_frame if isgenerator(made) else None
        line = frame.f_lineno if frame else start
        if count > MAX_TRIALS:
            raise Rejected(Problem((), f"trials() yields too many trials: at most {MAX_TRIALS:,}", line))
        yield line, item
    if not count:
        raise Rejected(Problem((), "trials() yields no trial", start))


def _line(error: BaseException, path: Path) -> int:
    """The last line of this file that took part in raising an error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(path)]
    return (lines and lines[-1]) or 1


def _assigned(text: str) -> dict[str | int, int]:
    """The lines of the file's top-level assignments."""
    nodes = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    return {name.id: node.lineno for node in nodes for name in node.targets if isinstance(name, ast.Name)}


# --- its trials


@contextmanager
def _noting(problems: list[Problem], line: int) -> Iterator[None]:
    """Note the problems of a trial on the line that yields it."""
    of_trial: list[Problem] = []
    with noting(of_trial):
        yield
    problems += [replace(problem, line=line) for problem in of_trial]


def _checked(trial: Any, loc: Loc, folder: Path) -> TrialSpec:
    """The trial with all options spelled out; raises `Rejected` by the rules of a block of a YAML sweep.

    Paths of weights are below `folder`.
    """
    trial = _plain(trial)
    _check_types(trial, loc)
    cls = _method(trial, loc)
    settings = validate(block_model(trial.method.name), _block(trial, cls, folder), loc)
    block = Block(loc, Element(trial.method.name, (*loc, "method")), settings, {})
    cell = grid(block).cells()[0]
    for name, element in cell.items():
        if isinstance(element.loc[-1], int):
            raise Rejected(Problem((*loc, name), "a list is not allowed: a TrialSpec has one value for each setting"))
    sparsity = cell["sparsity"] if cls.takes_sparsity else Element(0.0, (*loc, "sparsity"))
    return trial_of({**cell, "sparsity": sparsity}, loc, trial.seed)


def _plain(value: Any) -> Any:
    """The same with NumPy's scalars, such as `numpy.arange` makes, as Python's: they are the same trial."""
    if isinstance(value, Choice):
        return Choice.of(_plain(value.name), {name: _plain(option) for name, option in value.options})
    if isinstance(value, TrialSpec | TrainSpec):
        return replace(value, **{field.name: _plain(getattr(value, field.name)) for field in fields(value)})
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    if type(value).__module__ == "numpy" and value.ndim == 0:
        return plain_scalar(value)
    return value


def _check_types(trial: Any, loc: Loc) -> None:
    if not isinstance(trial, TrialSpec):
        raise Rejected(Problem(loc, f"{shown(trial)} is not allowed: trials() yields TrialSpecs"))
    if not isinstance(trial.init, Init | None):
        example = 'an Init, such as Init.of({"path": "resnet18.pth"})'
        raise Rejected(Problem((*loc, "init"), f"{shown(trial.init)} is not allowed: {example}"))
    for name, (part, example) in PARTS.items():
        value = getattr(trial, name)
        if not isinstance(value, part):
            raise Rejected(Problem((*loc, name), f"{shown(value)} is not allowed: {example}"))
    if type(trial.seed) is not int or not 0 <= trial.seed < 2**32:
        raise Rejected(Problem((*loc, "seed"), f"{shown(trial.seed)} is not allowed: a whole number of at least 0"))


def _method(trial: TrialSpec, loc: Loc) -> type[Method]:
    """The trial's method, which has the hyperparameters that are given, and takes a sparsity if there is one."""
    try:
        cls = known_method(trial.method.name)
    except UserError as error:
        raise Rejected(Problem((*loc, "method"), str(error))) from error
    names = [h.name for h in hyperparameters(trial.method.name)]
    for option, _ in trial.method.options:
        if option not in names:
            message = unknown(f"hyperparameter of method {trial.method}", option, names)
            raise Rejected(Problem((*loc, "method", option), message))
    if not cls.takes_sparsity and trial.sparsity != 0:
        message = f"{shown(trial.sparsity)} is not allowed: method {trial.method} takes no sparsity"
        raise Rejected(Problem((*loc, "sparsity"), message))
    return cls


def _block(trial: TrialSpec, cls: type[Method], folder: Path) -> dict[str, Any]:
    """The trial as a block of a YAML sweep. What its method trains from given weights it trains as `train` says."""
    trains = (
        trial.init is not None and not cls.prunes_trained and (trial.method.name != "dense" or trial.init.fine_tunes)
    )
    sparsity = {"sparsity": trial.sparsity} if cls.takes_sparsity else {}
    return {
        **{name: encode(value) for name, value in trial.method.options},
        "method": trial.method.name,
        "dataset": _mapping(trial.dataset),
        "model": absolute_model(_mapping(trial.model), folder),
        "task": _mapping(trial.task),
        FROM_INIT if trains else "train": encode(trial.train),
        **({} if trial.init is None else {"init": _init(trial.init, folder)}),
        **({} if trial.prune == ALL else {"prune": _patterns(trial.prune)}),
        **({evaluation_sets.KEY: evaluation_sets.mappings(trial.test_sets)} if trial.test_sets else {}),
        **sparsity,
    }


def _patterns(scope: Scope) -> dict[str, Any]:
    return {"only": encode(scope.only), "except": encode(scope.exempt)}


def _init(init: Init, folder: Path) -> Any:
    return absolute({**(init.given or {"path": init.weights}), **({"head": "new"} if init.new_head else {})}, folder)


def _mapping(choice: Choice) -> dict[str, Any]:
    return {**{option: encode(value) for option, value in choice.options}, "name": choice.name}
