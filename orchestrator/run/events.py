"""What happens to stages while a sweep runs, as values; whoever wants to know is called with each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prunesweep.orchestrator.plan import Plan


@dataclass(frozen=True)
class Started:
    """A worker has begun with the stage."""

    key: str


@dataclass(frozen=True)
class Progressed:
    """The stage has finished so many of its epochs; its worker began with it, or went on, after epoch `began`.

    `metric` is the task's primary one on validation images after the last of them, None where it is not known.
    """

    key: str
    epoch: int
    began: int = 0
    metric: float | None = None


@dataclass(frozen=True)
class Finished:
    """The stage has a result in the store."""

    key: str


@dataclass(frozen=True)
class Failed:
    """The stage has no result and is not tried again in this run."""

    key: str
    cause: str
    message: str


@dataclass(frozen=True)
class Retried:
    """The stage has failed, and is tried again."""

    key: str
    cause: str
    message: str


@dataclass(frozen=True)
class Elsewhere:
    """Another run on the same store computes the stage; it is waited for."""

    key: str


@dataclass(frozen=True)
class StoreLost:
    """The store cannot be used for this reason, and no stage is begun; None when it is there again."""

    problem: str | None


@dataclass(frozen=True)
class Blocked:
    """The stage cannot run because `culprit`, which it starts from, failed."""

    key: str
    culprit: str


@dataclass(frozen=True)
class Grown:
    """Searches have decided: the plan has more stages now, and perhaps more trials."""

    plan: Plan


@dataclass(frozen=True)
class Tick:
    """Time has passed; comes several times a second."""


Event = Started | Progressed | Finished | Failed | Retried | Elsewhere | StoreLost | Blocked | Grown | Tick
Listener = Callable[[Event], None]
