"""A second process that watches a worker: a network that hangs may keep Python's lock, and then no thread says a word.

Every `BEAT_SECONDS` a thread of the worker sends what it does just now, a line of JSON. Where the lines stay away, the
watchdog speaks for the worker in its claim, with the call in which it stands; and it ends the worker when its stage has
drawn no batch for longer than the limit, however that came about. It starts with the standard library alone, needs
little memory, and ends with its worker.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunesweep.workers.store import Store

BEAT_SECONDS = 1.0

SILENT_SECONDS = 3 * BEAT_SECONDS
"""Without a line for so long a worker is unable to speak."""

QUIET_SECONDS = 60.0
"""A stage that has drawn no batch for so long may hang, or compile, or evaluate what is large."""

LOOK_SECONDS = 1.0

WRITE_SECONDS = 0.3
"""A worker that is asked where it stands has written it by then."""

SHOW_STACK = getattr(signal, "SIGRTMIN", None)
"""Asked so, the worker writes where its threads stand, in C code that needs no lock; macOS has no such signal."""

FRAMES = 12
"""So many of the innermost calls are told."""

Said = Mapping[str, Any]
"""A line, decoded, of the stage that runs: its `store` and `key`, the `attempt` and the `claim` with its `number`, the
`limit` in seconds, for how many it has been `quiet`, its `stack` then, its `thread`, and the last of its `log`."""


class Watchdog:
    """The worker's end. `watching` is for one stage after the other."""

    def __init__(self) -> None:
        self.look: Callable[[], Said] | None = None
        self.changed = threading.Event()
        stacks = tempfile.TemporaryFile()  # noqa: SIM115
        if SHOW_STACK is not None:
            faulthandler.register(SHOW_STACK, file=stacks, all_threads=True)
        told = {"worker": os.getpid(), "stacks": stacks.fileno(), "path": sys.path}
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, json.dumps(told)],
            stdin=subprocess.PIPE,
            pass_fds=[stacks.fileno()],
            start_new_session=True,  # a signal to the worker's group is for the worker
        )
        threading.Thread(target=self._tell, name="watchdog", daemon=True).start()

    @contextlib.contextmanager
    def watching(self, look: Callable[[], Said]) -> Iterator[None]:
        """Inside it `look` says, again and again, what there is to watch."""
        self.look = look
        self.changed.set()
        try:
            yield
        finally:
            self.look = None
            self.changed.set()

    def _tell(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it was killed: the stages go on without it
            while True:
                look = self.look
                self.process.stdin.write(json.dumps(look() if look else {}).encode() + b"\n")
                self.process.stdin.flush()
                self.changed.wait(BEAT_SECONDS if look else None)
                self.changed.clear()


@cache
def watchdog() -> Watchdog:
    """This process's."""
    return Watchdog()


# --- the watchdog's end


class Watch:
    """What the watchdog knows: the last line, and when that came."""

    def __init__(self, worker: int, stacks: int) -> None:
        self.worker, self.stacks = worker, stacks
        self.hear(b"{}")

    def hear(self, line: bytes) -> None:
        """The worker has spoken."""
        self.said: Said = json.loads(line)
        self.heard = time.monotonic()
        self.stack: Sequence[str] | None = None
        self.beats = 0

    def pardon(self) -> None:
        """The time since the last line does not count: the worker was stopped, or this process was."""
        self.heard = time.monotonic()

    def look(self) -> None:
        """Speak for the worker, or end it, where that is due."""
        if not self.said:
            return
        silence = time.monotonic() - self.heard
        quiet, limit = self.said["quiet"] + silence, self.said["limit"]
        if quiet > limit:
            self._end(quiet, self._stack() if silence > SILENT_SECONDS else self.said["stack"])
        elif silence > SILENT_SECONDS and quiet > min(QUIET_SECONDS, limit / 2):
            self._speak(quiet)

    def _end(self, quiet: float, stack: Sequence[str]) -> None:
        from prunesweep.workers.causes import Cause
        from prunesweep.workers.store import Attempt

        message = f"it drew no batch for {quiet:.0f} s, and stood in {stack[-1] if stack else 'an unknown place'}"
        failure = {"cause": Cause.STALLED, "message": message, "traceback": "\n".join(stack)}
        attempt = Attempt(**{**self.said["attempt"], **failure, "log": tuple(self.said["log"])})
        with contextlib.suppress(OSError):  # that the worker ends matters more than that it is noted
            self._store().fail(self.said["key"], attempt)
        os.kill(self.worker, signal.SIGKILL)
        self.said = {}

    def _speak(self, quiet: float) -> None:
        from prunesweep.workers.claims import speak_for

        self.beats += 1
        claim = self.said["claim"]
        doing = {**claim["doing"], "quiet_seconds": round(quiet, 1), "stack": self._stack()}
        claim = {**claim, "beats": claim["beats"] + self.beats, "doing": doing}
        with contextlib.suppress(OSError):  # a store that cannot be reached may come back
            speak_for(self._store(), self.said["key"], self.said["number"], claim)

    def _store(self) -> Store:
        from prunesweep.workers.store import Store

        return Store(self.said["store"], exists=True)

    def _stack(self) -> Sequence[str]:
        """Where the worker stands; asked once, since it is silent for as long as it stands there."""
        if self.stack is None:
            self.stack = ()
            if SHOW_STACK is not None:
                before = os.fstat(self.stacks).st_size
                os.kill(self.worker, SHOW_STACK)
                time.sleep(WRITE_SECONDS)
                self.stack = calls(os.pread(self.stacks, 2**16, before).decode(errors="replace"), self.said["thread"])
        return self.stack


def calls(written: str, thread: int) -> tuple[str, ...]:
    """The calls of one thread, the innermost last, in what `faulthandler` has written of all."""
    for part in re.split(r"^(?=(?:Current thread|Thread) 0x)", written, flags=re.MULTILINE):
        number = re.match(r"\D+(0x[0-9a-f]+)", part)
        if number and int(number[1], 16) == thread:
            lines = re.findall(r'^  File "(.*)", line (\d+) in (.*)$', part, re.MULTILINE)
            return tuple(f"{file}, line {line}, in {name}" for file, line, name in reversed(lines[:FRAMES]))
    return ()


def main() -> None:
    """Watch the worker that has started this process, until it is gone."""
    told = json.loads(sys.argv[1])
    sys.path[:] = told["path"]
    watch, unread, looked = Watch(told["worker"], told["stacks"]), b"", time.monotonic()
    while os.getppid() == watch.worker:
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], LOOK_SECONDS)
        if time.monotonic() - looked > SILENT_SECONDS or _is_stopped(watch.worker):
            watch.pardon()
        if ready:
            data = os.read(sys.stdin.fileno(), 2**16)
            if not data:
                return
            *lines, unread = (unread + data).split(b"\n")
            if lines:
                watch.hear(lines[-1])
        watch.look()
        looked = time.monotonic()


def _is_stopped(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    return False


if __name__ == "__main__":
    main()
