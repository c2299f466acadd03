"""The method that a trial block names: its class and its hyperparameters, ours or another package's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache

from prunesweep.orchestrator.results.schemas import TRIALS
from prunesweep.workers.errors import UserError
from prunesweep.workers.methods import METHODS, method_class
from prunesweep.workers.methods.base import Hyperparameter, Method
from prunesweep.workers.spec import TrainSpec

RETRAIN = "retrain_epochs"
PHASE = "phase_epochs"
BUDGET = "retrain_budget"
TIMES = "budget"
"""The whole path of a trial, as a multiple of the dense training."""

TRAIN_COLUMNS = {field.name for field in fields(TrainSpec)}
SWEEP_KEYS = {
    "dataset",
    "model",
    "method",
    "train",
    "prune",
    "prune_only",
    "prune_except",
    "sparsity",
    "seeds",
    "exclude",
    "zip",
    TIMES,
    "dataset_options",
    "dataset_version",
    "model_options",
    "model_version",
    "method_version",
}
LEVELS = "phase_fraction"
"""The hyperparameter that stands in for a sparsity."""


def known_method(name: str) -> type[Method]:
    """The class of a method; a `UserError` when there is none or it is not a method."""
    with loading(name):
        cls = method_class(name)
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise UserError(f'"{name}" is not a method: it is no subclass of prunesweep.workers.methods.base.Method')
    _require_own_names(name)
    return cls


@cache
def _require_own_names(name: str) -> None:
    """A hyperparameter of another package's must not take the place of a column of the tables."""
    if name in METHODS:
        return
    cls = method_class(name)
    ours = {h.name for method in METHODS for h in method_class(method).hyperparameters()} - TRAIN_COLUMNS
    inherited = {
        h
        for base in cls.__mro__
        if base.__module__.startswith("prunesweep.")
        for h in vars(base).get("__annotations__", ())
    }
    for own in cls.hyperparameters():
        if own.name in (TRAIN_COLUMNS | set(TRIALS.names) | SWEEP_KEYS) - ours - inherited:
            raise UserError(
                f'method {name}: its hyperparameter "{own.name}" has the name of a column or key that every trial has; '
                f"call it otherwise, such as own_{own.name}"
            )


@cache
def hyperparameters(method: str) -> tuple[Hyperparameter, ...]:
    """The method's hyperparameters; a `UserError` when there is no such method."""
    return tuple(known_method(method).hyperparameters())


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Whatever another package's code raises while `module:name` is looked up is a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f'cannot load "{name}": {type(error).__name__}: {error}') from error
