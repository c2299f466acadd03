"""What each stage of a run is doing now: one value per stage, which the queue sets and everybody else reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from prunesweep.orchestrator.resources import Resources
from prunesweep.workers.claims import Watch


@dataclass(frozen=True)
class AwaitsParent:
    """It can begin when the stage that it starts from has a result."""


@dataclass(frozen=True)
class Ready:
    """It can begin as soon as a worker with this share is free."""

    share: Resources


@dataclass(frozen=True)
class Running:
    """A worker of this run computes it, and has reported the end of `epoch`."""

    share: Resources
    epoch: int = 0


@dataclass(frozen=True)
class RunningElsewhere:
    """Another run on the same store computes it; its claim is watched."""

    watch: Watch


@dataclass(frozen=True)
class Done:
    """It has a result in the store."""


@dataclass(frozen=True)
class GivenUp:
    """It failed, and is not tried again in this run."""

    cause: str


@dataclass(frozen=True)
class BehindFailure:
    """It starts, perhaps through others, from the stage `culprit`, which was given up."""

    culprit: str


StageState = AwaitsParent | Ready | Running | RunningElsewhere | Done | GivenUp | BehindFailure
S = TypeVar("S", bound=StageState)


class StageStates:
    """The state of every stage by key. All stages in one state are found without looking at the others."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._states: dict[str, StageState] = {}
        self._by_kind: dict[type[Any], dict[str, Any]] = {}
        for key in keys:
            self.set(key, AwaitsParent())

    def set(self, key: str, state: StageState) -> None:
        """Only the queue calls this."""
        before = self._states.get(key)
        if before is not None and type(before) is not type(state):
            del self.of(type(before))[key]
        self._states[key] = state
        self.of(type(state))[key] = state

    def __getitem__(self, key: str) -> StageState:
        return self._states[key]

    def __contains__(self, key: str) -> bool:
        return key in self._states

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def of(self, kind: type[S]) -> dict[str, S]:
        """The stages in a state of this kind, by key, in the order in which they came into it; to be read only."""
        return self._by_kind.setdefault(kind, {})
