"""Who computes a stage just now, so that no two do: a claim, which its owner renews and others watch.

    <store>/stages/<key>/claim.<n>.json

The highest number holds. A claim is taken over by creating the next number, which at most one process can do on a
local or network filesystem, on S3 and on Google's store; on one that is not `exclusive` two may, until one of them
finds that it has lost. An owner that was stopped for a while finds the same, and leaves the stage alone. A heartbeat
is one write; on a remote filesystem every `LOOK_EVERY`th also lists the folder, to see whether the claim was taken
over. Publishing does not hang on that: of several results the first stands.

No clock is compared with another, so none needs to be right: a claim has expired when an observer saw it unchanged
`EXPIRED_AFTER` times, or at once when its process was on this machine and is no more. No torch, no Ray.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from prunesweep.workers.activity import Activity
from prunesweep.workers.seal import intact, sealed_json, unsealed_json
from prunesweep.workers.store import Store, user
from prunesweep.workers.typed import typed

CLAIM = "claim."
"""What the names of claims begin with."""

BEAT_SECONDS = 2.0
"""A claim is renewed about this often."""

LOOK_EVERY = 5

LOOK_SECONDS = 1.5
EXPIRED_AFTER = 8
"""So many looks that all see the same: the owner is gone, or stopped. The time of six heartbeats."""


class Claimed(RuntimeError):
    """Another process computes this stage, or has taken it over."""


@dataclass(frozen=True)
class Claim:
    """Who computes a stage: `owner` is the name of the attempt, `run` that of the driver that asked for it.

    `machine` is None where processes cannot be recognised; `beats` counts how often the claim was renewed. What the
    owner was `doing` when it was renewed last is None where the owner does not tell.
    """

    owner: str
    run: str
    machine: str | None
    process: int
    born: str | None
    beats: int = 0
    user: str = ""
    doing: Activity | None = None

    @classmethod
    def mine(cls, owner: str, run: str) -> Self:
        """This process's."""
        return cls(owner, run, this_machine(), os.getpid(), _born(os.getpid()), user=user())

    @classmethod
    def decoded(cls, said: Mapping[str, Any]) -> Self:
        """As it was written, by an earlier or a later version too; raises `TypeError`."""
        known = {field.name: said[field.name] for field in fields(cls) if field.name in said}
        return replace(typed(cls, {**known, "doing": None}), doing=Activity.decoded(said.get("doing")))

    @property
    def orphaned(self) -> bool:
        """Whether its process is known to have ended; false where that cannot be known."""
        here = self.machine is not None and self.machine == this_machine()
        return here and _born(self.process) != self.born and not _is_hidden(self.process)


class Holding:
    """Inside `with` a stage is claimed, and the claim renewed; `Claimed` when another process has it.

    A claim of the same run is taken over, since its driver knows what it started, and so is one of the owners `gone`,
    whose claims the driver saw expire. At each renewal the claim tells what `look` sees.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        claim: Claim,
        gone: Iterable[str] = (),
        look: Callable[[], Activity | None] = lambda: None,
        contents: frozenset[str] | None = None,
    ) -> None:
        """`contents` are the folder's, if they were listed just now."""
        self.store, self.key, self.claim, self.gone, self.look = store, key, claim, frozenset(gone), look
        self.numbers = _numbers(store.names("stages", key) if contents is None else contents)
        self.ended = threading.Event()
        self.renewing = threading.Lock()
        self.thread = threading.Thread(target=self._beat, name=f"claim {key}", daemon=True)
        self.lost = False

    def __enter__(self) -> Self:
        number, held = _newest(self.store, self.key, self.numbers)
        if held is not None and held.run != self.claim.run and held.owner not in self.gone and not held.orphaned:
            whose = f" of {held.user}" if held.user else ""
            raise Claimed(f"{self.key} is being computed by process {held.process}{whose}, in run {held.run}")
        self.number, self.renewed = number + 1, time.monotonic()
        self.claim = replace(self.claim, doing=self.look())
        if not self._write(new=True):
            raise Claimed(f"{self.key} was claimed by another run just now")
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()
        with suppress(OSError):
            numbers = _numbers(self.store.names("stages", self.key)) if self.store.is_local else self.numbers
            self.store.remove_many(_place(self.key, n) for n in {*numbers, self.number} if n <= self.number)

    def require(self) -> None:
        """Raise `Claimed` when the stage was taken over; a process that was stopped for a while looks again."""
        if time.monotonic() - self.renewed > BEAT_SECONDS * 2:
            with suppress(OSError):
                self._renew(look=True)
        if self.lost:
            raise Claimed(f"{self.key} was taken over by another run")

    def _beat(self) -> None:
        while not self.ended.wait(BEAT_SECONDS) and not self.lost:
            with suppress(OSError):  # a store that cannot be reached may come back
                self._renew()

    def _renew(self, look: bool = False) -> None:
        with self.renewing:
            if self.store.is_local or look or self.claim.beats % LOOK_EVERY == LOOK_EVERY - 1:
                self.lost = self.lost or self._taken_over()
            if self.lost:
                return
            self.claim = replace(self.claim, beats=self.claim.beats + 1, doing=self.look())
            self._write()
            self.renewed = time.monotonic()

    def _taken_over(self) -> bool:
        """Where creating is exclusive on a remote filesystem, the numbers alone tell."""
        self.store.require_present()
        numbers = _numbers(self.store.names("stages", self.key))
        if max(numbers, default=0) != self.number:
            return True
        if self.store.exclusive and not self.store.is_local:
            return False
        _, held = _newest(self.store, self.key, numbers)
        return held is not None and held.owner != self.claim.owner

    def _write(self, *, new: bool = False) -> bool:
        return self.store.write(sealed_json(asdict(self.claim)), *_place(self.key, self.number), replace=not new)


class Watch:
    """Another run's claim, which is looked at now and then."""

    def __init__(self, store: Store, key: str) -> None:
        self.store, self.key = store, key
        self.seen: Claim | None = None
        self.unchanged = 0
        self.next_look = 0.0

    def ended(self) -> bool:
        """Whether nobody holds the claim any more; `seen` is then the last who did, if there was one."""
        self.next_look = time.monotonic() + LOOK_SECONDS
        _, held = newest(self.store, self.key)
        self.unchanged = self.unchanged + 1 if held == self.seen else 0
        self.seen = held
        return held is None or held.orphaned or self.unchanged >= EXPIRED_AFTER


def newest(store: Store, key: str) -> tuple[int, Claim | None]:
    """The claim that holds, with its number; 0 and None without one. A damaged one is nobody's."""
    return _newest(store, key, _numbers(store.names("stages", key)))


def _newest(store: Store, key: str, numbers: Iterable[int]) -> tuple[int, Claim | None]:
    number = max(numbers, default=0)
    data = store.read(*_place(key, number)) if number else None
    return number, None if data is None else _decoded(data)


def _decoded(data: bytes) -> Claim | None:
    try:
        return Claim.decoded(unsealed_json(data)) if intact(data) else None
    except (TypeError, ValueError):
        return None


def speak_for(store: Store, key: str, number: int, claim: Mapping[str, Any]) -> None:
    """Renew a claim whose process cannot, unless it has been taken over (`workers.watchdog`)."""
    if newest(store, key)[0] == number:
        store.write(sealed_json(claim), *_place(key, number))


def release(store: Store, keys: Iterable[str], run: str) -> None:
    """End a run's claims when its workers are gone: elsewhere they would hold up the next run until they expire."""
    for key in keys:
        with suppress(OSError):
            number, held = newest(store, key)
            if held is not None and held.run == run:
                store.remove(*_place(key, number))


def this_machine() -> str | None:
    """A name for this machine since it was started, and this space of process numbers: containers have their own."""
    with suppress(OSError):
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}-{Path('/proc/self/ns/pid').readlink()}"
    return None


def _born(process: int) -> str | None:
    """When a process was started, in ticks since the machine was; None when there is no such process."""
    with suppress(OSError):
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    return None


def _is_hidden(process: int) -> bool:
    """Whether a process is another user's, on a system that shows nothing of it."""
    try:
        os.kill(process, 0)
    except PermissionError:
        return not Path(f"/proc/{process}/stat").exists()
    except OSError:
        pass
    return False


def _place(key: str, number: int) -> tuple[str, ...]:
    return "stages", key, f"{CLAIM}{number}.json"


def _numbers(names: Iterable[str]) -> list[int]:
    matches = (re.fullmatch(rf"{re.escape(CLAIM)}(\d+)\.json", name) for name in names)
    return [int(match[1]) for match in matches if match]
