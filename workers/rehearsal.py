"""A rehearsal of a stage: a few batches in place of every pass over the images, to see whether it works and how fast.

It is the same `Execution` with fewer batches: the stage trains at the beginning of its first epoch and at that of its
last, its method prunes after every epoch in between, and all that comes before and after training is done. The numbers
are worth nothing, so that a rehearsal goes into a store of its own (`orchestrator.run.rehearsal`). No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from prunesweep.workers.location import Location

T = TypeVar("T")

PREFIX = ".rehearsal-"
"""What the name of a rehearsal's store begins with; no sweep's name begins with a dot."""

WARM_UP, TIMED = 1, 3
"""Batches of each pass: kernels are chosen, compiled and loaded in the first, and the others are timed."""


@dataclass(frozen=True)
class Rates:
    """What a stage takes, in seconds: to set up, for an epoch with its validation, and to evaluate at its end."""

    setup: float
    epoch: float
    end: float

    def seconds(self, epochs: int) -> float:
        """Of a whole stage."""
        return self.setup + epochs * self.epoch + self.end


class Rehearsal:
    """Cuts passes over the images short, and times their batches; `clock` waits for the device."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.begun = clock()
        self.setup = 0.0
        self.seconds: dict[str, float] = {}
        """A batch's, by what is done with it, in the last pass."""

    def set_up(self) -> None:
        """The stage may begin to train."""
        self.setup = self.clock() - self.begun

    def few(self, what: str, batches: Iterator[T]) -> Iterator[T]:
        """The first batches; timed from when the first is done with, or from its begin where it is the only one."""
        begun, number = self.clock(), 0
        for batch in batches:
            yield batch
            number += 1
            if number == WARM_UP:
                first, begun = begun, self.clock()
            if number == WARM_UP + TIMED:
                break
        if number > WARM_UP:
            self.seconds[what] = (self.clock() - begun) / (number - WARM_UP)
        elif number:
            self.seconds[what] = self.clock() - first

    def rates(self, batches: int, validation_batches: int, all_evaluated: int) -> dict[str, Any]:
        """What is found, as JSON: of whole passes of so many batches, and of the evaluation of all splits."""
        evaluation = self.seconds["evaluation"]
        epoch = batches * self.seconds.get("training", 0.0) + validation_batches * evaluation
        return asdict(Rates(self.setup, epoch, all_evaluated * evaluation))


def require_own_store(location: Location) -> None:
    """A rehearsal's numbers must not come into a store of results."""
    assert str(location).rstrip("/").rpartition("/")[2].startswith(PREFIX), f"{location} is no rehearsal's store"
