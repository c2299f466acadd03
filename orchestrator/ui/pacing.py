"""What many viewers ask for is made once for all of them, and only so often that it costs little."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Generic, TypeVar

T = TypeVar("T")

READING_PAUSE, PART_PAUSE = 2.0, 10.0
"""What takes a second is made again after so many seconds at the earliest: a reading, and a part that takes long."""

RESTING_SECONDS, SETTLED_SECONDS = 30.0, 60.0
"""What does not run, and has not changed for a minute, is looked at again after half a minute."""

MOST_KEPT = 100
"""So many readings are kept; of more, those that nobody has asked for longest are dropped."""


class Reading(Generic[T]):
    """A value that is made when it is asked for and the last one is older than `least` seconds.

    While one viewer waits for it, the others get the last one. Where nobody asks, nothing is made.
    """

    def __init__(self, make: Callable[[], T], least: float) -> None:
        self._make, self._least = make, least
        self._making = Lock()
        self._value: list[T] = []
        self._next = 0.0

    def latest(self) -> T:
        """The value, at most about `least` seconds old; raises what making it raises."""
        if not self._making.acquire(blocking=not self._value):
            return self._value[0]
        try:
            begun = time.monotonic()
            if not self._value or begun >= self._next:
                self._value = [self._make()]
                ended = time.monotonic()
                self._next = ended + max(self._least, READING_PAUSE * (ended - begun))
            return self._value[0]
        finally:
            self._making.release()


class Part(Generic[T]):
    """A value that takes long to make: it is made again when what it is made of has changed, beside everything else.

    Until it is there the one before stands. It is made in about a tenth of the time at the most.
    """

    def __init__(self) -> None:
        self._basis: Hashable = None
        self._value: list[T] = []
        self._next = 0.0
        self._coming: Future[T] | None = None

    def made(self, basis: Hashable, make: Callable[[], T]) -> T:
        """The value for this basis, or the one before; raises what making one has raised. For one thread at a time."""
        self._take_over()
        if not self._value:
            begun = time.monotonic()
            self._value, self._basis = [make()], basis
            self._pause(begun)
        elif self._coming is None and basis != self._basis and time.monotonic() >= self._next:
            self._basis, self._coming = basis, Future()
            Thread(target=self._make, args=(self._coming, make), daemon=True, name="part").start()
        return self._value[0]

    def is_current(self, basis: Hashable) -> bool:
        """Whether the value is that of this basis, and no other one is coming."""
        return self._coming is None and basis == self._basis

    def _take_over(self) -> None:
        if self._coming is not None and self._coming.done():
            coming, self._coming = self._coming, None
            if coming.cancelled() or coming.exception():
                self._basis = None
            if not coming.cancelled():
                self._value = [coming.result()]

    def _make(self, coming: Future[T], make: Callable[[], T]) -> None:
        begun = time.monotonic()
        try:
            coming.set_result(make())
        except (ValueError, OSError) as error:
            coming.set_exception(error)
        finally:
            coming.cancel()  # what is done cannot be: only where a bug of ours ends this thread
            self._pause(begun)

    def _pause(self, begun: float) -> None:
        ended = time.monotonic()
        self._next = ended + PART_PAUSE * (ended - begun)


class Tempo:
    """After how many seconds it is worth looking again: soon while something runs or has changed not long ago."""

    def __init__(self, quick: float) -> None:
        self._quick = quick
        self._basis: Hashable = None
        self._changed_at = 0.0

    def seconds(self, basis: Hashable, is_busy: bool, now: float) -> float:
        """`basis` is what may have changed since the last call, `now` the time in seconds by any clock."""
        if basis != self._basis:
            self._basis, self._changed_at = basis, now
        return self._quick if is_busy or now - self._changed_at < SETTLED_SECONDS else RESTING_SECONDS


class Readings(Generic[T]):
    """The readings of many subjects, those of the last `MOST_KEPT`."""

    def __init__(self, least: float) -> None:
        self._least = least
        self._lock = Lock()
        self._readings: OrderedDict[Hashable, Reading[T]] = OrderedDict()

    def latest(self, subject: Hashable, make: Callable[[], Callable[[], T]]) -> T:
        """Of one subject; `make()` makes what reads it, which may remember things from one reading to the next."""
        with self._lock:
            if subject not in self._readings:
                self._readings[subject] = Reading(make(), self._least)
                if len(self._readings) > MOST_KEPT:
                    self._readings.popitem(last=False)
            self._readings.move_to_end(subject)
            reading = self._readings[subject]
        return reading.latest()
