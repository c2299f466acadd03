"""The method that a trial block names: its class and its hyperparameters, ours or another package's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from prunesweep.workers.errors import UserError
from prunesweep.workers.methods import method_class
from prunesweep.workers.methods.base import Hyperparameter, Method

RETRAIN = "retrain_epochs"
PHASE = "phase_epochs"
BUDGET = "retrain_budget"
LEVELS = "phase_fraction"
"""The hyperparameter that stands in for a sparsity."""


def known_method(name: str) -> type[Method]:
    """The class of a method; a `UserError` when there is none or it is not a method."""
    with loading(name):
        cls = method_class(name)
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise UserError(f'"{name}" is not a method: it is no subclass of prunesweep.workers.methods.base.Method')
    return cls


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
