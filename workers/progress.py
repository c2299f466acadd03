"""How far stages are, by the files in their folders: results and the notes of attempts. No torch, no Ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from prunesweep.workers.filesystems import Stamp
from prunesweep.workers.listing import ATTEMPTS, FEW, Listing, listed
from prunesweep.workers.location import Location
from prunesweep.workers.publications import INTERNAL, RESULT, Publications, opened
from prunesweep.workers.seal import intact, unsealed_json
from prunesweep.workers.typed import typed

SLICE = 1000
"""So many results are read before the first of them is used: they are small, but there may be many."""


class State(StrEnum):
    """How far a stage is, by the files in its folder."""

    ABSENT = "absent"
    STARTED = "started"
    FAILED = "failed"
    DAMAGED = "damaged"
    DONE = "done"


@dataclass(frozen=True)
class Attempt:
    """One try at a stage; `cause` is None while it runs, after it succeeded, and when it was killed without a word.

    `run` names the driver that asked for it, `user` whose process it is. Of a try whose note is damaged only `name` is
    known, and `started_at` is empty; of one that ended before its first note, so that its driver notes it, `host` and
    `process` are not known.
    """

    name: str
    started_at: str
    host: str
    process: int
    cause: str | None = None
    message: str | None = None
    traceback: str | None = None
    log: tuple[str, ...] = ()
    run: str = ""
    user: str = ""


class Progress(Publications):
    """What is known of stages. What was read stays known to this object while the file has the same stamp."""

    def __init__(self, location: str | Path | Location, *, exists: bool = False) -> None:
        super().__init__(location, exists=exists)
        self._fetched: dict[str, bytes] = {}
        self._seen: dict[str, Listing] = {}

    def trust(self, files: Mapping[str, Listing]) -> None:
        """These files of stages were whole when they had these stamps, says who read them: they are not read again."""
        for key, stamps in files.items():
            self._whole[key] = {**stamps, **self.whole(key)}

    def seen(self, key: str) -> Listing:
        """The files of a stage that is done, as `states` saw them last: its result and its curve."""
        return self._seen.get(key, {})

    def done(self, keys: Iterable[str]) -> set[str]:
        """Those of the stages that have a result which is whole; of up to `FEW` a remote store is asked no more."""
        keys = list(keys)
        if not self.is_local and len(keys) <= FEW:
            return {key for key, data in zip(keys, self._read_results(keys), strict=True) if data is not None}
        states = self._finished(listed(self, keys))
        return {key for key, state in states.items() if state is State.DONE}

    def states(self, keys: Iterable[str]) -> dict[str, State]:
        """Every stage's state. A result that is damaged is noticed here, its network when something starts from it.

        Of a remote store the files are listed (`workers.listing`), and then read, many at once: each result that this
        object has not read before, nor is to `trust`, and the last note of each stage that has begun and has no result.
        """
        files = listed(self, list(keys))
        states = {**self._finished(files), **self._unfinished(files)}
        return {key: states.get(key, State.ABSENT) for key in files}

    def _finished(self, files: Mapping[str, Listing | None]) -> dict[str, State]:
        """Of the stages that have a result: whether it is whole."""
        stamps = {key: listing[RESULT] for key, listing in files.items() if listing and RESULT in listing}
        unread = [key for key, stamp in stamps.items() if self.whole(key).get(RESULT) != stamp]
        states = dict.fromkeys(stamps, State.DONE)
        self._seen |= {key: _kept(files[key] or {}) for key in stamps}
        for key, data in zip(unread, self._read_results(unread), strict=True):
            if data is None:
                states[key] = State.DAMAGED
                self._forget(key)
                continue
            self._is_whole(key, RESULT, stamps[key])
            if not self.is_local:
                self._fetched[key] = data
        return states

    def _unfinished(self, files: Mapping[str, Listing | None]) -> dict[str, State]:
        """Of those that have begun: what their last note says; those before it change nothing."""
        begun = {key: listing for key, listing in files.items() if listing is not None and RESULT not in listing}
        notes = {key: max(filter(is_note, listing), default=None) for key, listing in begun.items()}
        tried = [(key, path.rpartition("/")[2]) for key, path in notes.items() if path is not None]
        last = self.at_once(lambda note: self._attempt(*note), tried)
        failed = {key for (key, _), attempt in zip(tried, last, strict=True) if attempt and attempt.cause}
        return {key: State.FAILED if key in failed else State.STARTED for key in begun}

    def _is_whole(self, key: str, name: str, stamp: Stamp | None) -> None:
        """Where reading tells no stamp, the one seen before will do: were it too old, the file is read again."""
        seen = self._seen.get(key, {})
        super()._is_whole(key, name, stamp or seen.get(name))
        if self._whole.get(key) == seen:
            self._whole[key] = seen  # of two that are equal one is kept: there are as many as stages

    def _read_results(self, keys: Sequence[str]) -> Iterator[bytes | None]:
        """Those that are whole, else None."""
        for start in range(0, len(keys), SLICE):
            yield from self.at_once(self._intact_result, keys[start : start + SLICE])

    def results(self, keys: Sequence[str]) -> Iterator[dict[str, Any] | None]:
        """As `result`, of many, in their order; what `states` has read of a remote store is not read again.

        Meanwhile other threads may have `states` read more, or release what it has read.
        """
        unread = [key for key in keys if key not in self._fetched]
        are_read, read = frozenset(unread), self._read_results(unread)
        for key in keys:
            data = next(read) if key in are_read else self._fetched.get(key) or self._intact_result(key)
            yield None if data is None else _content(data)

    def release(self, keys: Iterable[str]) -> None:
        """The contents of these results, as `states` has read them, are not kept any longer."""
        for key in keys:
            self._fetched.pop(key, None)

    def set_aside(self, key: str, *, refused: bool = False) -> list[str]:
        """As of `Publications`; the result is read again when it is asked for."""
        self._forget(key)
        return super().set_aside(key, refused=refused)

    def _forget(self, key: str) -> None:
        self._whole.pop(key, None)
        self._fetched.pop(key, None)

    def contents(self, key: str) -> frozenset[str]:
        """What is in a stage's folder, as paths from there: `result.json`, `attempts/0001-0f3a55c2.json`."""
        return frozenset("/".join(file.path[2:]) for file in self.files("stages", key))

    def attempts(self, key: str) -> list[Attempt]:
        """The tries at a stage, oldest first: their names are numbered, since a clock may be set back."""
        tries = self.at_once(lambda name: self._attempt(key, name), self._notes(key))
        return [attempt for attempt in tries if attempt is not None]

    def last_attempts(self, keys: Sequence[str]) -> list[Attempt | None]:
        """The newest try at each stage, None where none is noted; many are read at once."""
        return self.at_once(self._last_attempt, keys)

    def _last_attempt(self, key: str) -> Attempt | None:
        notes = self._notes(key)
        return self._attempt(key, notes[-1]) if notes else None

    def _notes(self, key: str) -> list[str]:
        return [name for name in self.names("stages", key, ATTEMPTS) if is_note(f"{ATTEMPTS}/{name}")]

    def _attempt(self, key: str, name: str) -> Attempt | None:
        data = self.read("stages", key, ATTEMPTS, name)
        if data is None:
            return None
        try:
            if intact(data):
                attempt = typed(Attempt, unsealed_json(data))
                return attempt if datetime.fromisoformat(attempt.started_at) else None
        except (TypeError, ValueError):  # a sum is no proof of who has written it
            pass
        return Attempt(name.removesuffix(".json"), "", "", 0)


def is_note(path: str) -> bool:
    """Whether a path in a stage's folder is that of a note of an attempt; macOS puts others beside what it copies."""
    return path.startswith(f"{ATTEMPTS}/") and path.endswith(".json") and not path.startswith(f"{ATTEMPTS}/.")


def _kept(listing: Listing) -> Listing:
    """The result and the curve, which on an object store may have a publication's name."""
    return {name: stamp for name, stamp in listing.items() if name == RESULT or name.startswith("curve.")}


def _content(data: bytes) -> dict[str, Any] | None:
    record = opened(data)
    return record and {name: value for name, value in record.items() if name not in INTERNAL}
