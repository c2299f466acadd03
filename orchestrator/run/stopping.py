"""How a run ends before its sweep does: on Ctrl-C, on SIGTERM, and after too many failures."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from types import FrameType
from typing import NoReturn

from prunesweep.orchestrator.run.events import Elsewhere, Event, Failed, Finished, Progressed, Retried, Tick
from prunesweep.orchestrator.run.states import Running, StageStates
from prunesweep.orchestrator.text import counted

GRACE_SECONDS = 25.0
"""After SIGTERM, SIGUSR1 and SIGUSR2: spot instances give 30 seconds or more, and so does Slurm before it kills."""

PATIENCE_SECONDS = 10.0
"""After that a process which was to stop at once, and hangs in foreign code, ends where it is."""

LOOK_SECONDS = 0.02
"""While Ray starts. It puts a handler of its own for SIGTERM, in C, which prints a stack and ends the process."""

ONE_REQUEST_SECONDS = 0.5
"""`timeout` sends its signal to the process and then to its group: what follows so soon is no second request."""

INTERRUPTED = 130
"""The exit code of a run that was asked to stop."""

HEARD = b"stopping as soon as Ray has started, at the latest in 10 s\n"

CONTINUES = "what is finished is kept, and the same command continues from there"
"""What a run says, whatever ended it."""


class TooManyFailures(Exception):
    """The run was stopped because more stages failed than `--max-failures` allows."""


class Stopping:
    """Waits, once it is asked to stop, until every running stage has come to the end of an epoch and its checkpoint.

    The first Ctrl-C, SIGTERM, SIGUSR1 or SIGUSR2 asks: Slurm sends one of the latter ahead of its time limit, if it is
    told to. After the second, or when the grace of any but Ctrl-C is over, the run stops at once; from then on signals
    are ignored, so that what is finished is still written. Ends in `KeyboardInterrupt`, or in `TooManyFailures`; both
    are raised from `hear` and `check` alone, since a signal may come in the middle of anything.

    `states` are those of the stages that run now, and `end_processes` ends at once what this process has started. While
    Ray is `starting` nobody calls `check`: a signal is then answered by a thread, which ends the process if the start
    takes long.
    """

    def __init__(self, say: Callable[[str], None], max_failures: int | None = None) -> None:
        self.say, self.max_failures = say, max_failures
        self.states = StageStates(())
        self.end_processes: Callable[[], None] = lambda: None
        self.failures = 0
        self.awaited: set[str] | None = None
        self.signals: list[int] = []
        self.signalled_at = -inf
        self.overdue = self.ended = self.starting = False

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """Inside it signals ask this run to stop; for the main thread."""
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        self.heed_signals()
        try:
            with self._listening():
                yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def heed_signals(self) -> None:
        """From now on, too: Ray puts a handler of its own before ours when it starts, and Tune one for SIGUSR1."""
        for number in _SIGNALS:
            signal.signal(number, self._signalled)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """A start of Ray stays for many seconds in code from which no handler is called: there a thread answers."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        thread = threading.Thread(target=self._listen, args=(reading, _Action(signal.SIGTERM)), daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            os.close(writing)
            thread.join()
            os.close(reading)

    def _listen(self, reading: int, terminated: _Action) -> None:
        leave_at = inf
        while True:
            ready, _, _ = select.select([reading], [], [], LOOK_SECONDS if self.starting else 50 * LOOK_SECONDS)
            number = os.read(reading, 1) if ready else b"\0"
            if not number:
                return
            if not self.starting:
                leave_at = inf
                continue
            terminated.restore()
            if time.monotonic() > leave_at:
                self._leave()
            if leave_at == inf and number[0] in _REQUESTS:
                os.write(2, HEARD)
                leave_at = time.monotonic() + PATIENCE_SECONDS

    def _leave(self) -> NoReturn:
        """End this process where it is; nothing else may print from a signal's handler."""
        os.write(2, b"interrupted: " + CONTINUES.encode() + b"\n")
        self.end_processes()
        os._exit(INTERRUPTED)

    def hear(self, event: Event) -> None:
        """Take note of what happens; raises when time passes and it is time to stop."""
        match event:
            case Progressed(key) | Finished(key) | Retried(key) | Elsewhere(key):
                self._reached(key)
            case Failed(key):
                self._reached(key)
                self._count_failure()
            case Tick():  # with other events Tune would catch what is raised
                if signal.getsignal(signal.SIGUSR1) != self._signalled:
                    self.heed_signals()
                self.check()

    def check(self) -> None:
        """Raise when it is time to stop."""
        while self.signals:
            self._heed(self.signals.pop(0))
        if self.awaited is not None and not self.awaited:
            self._end()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        """Only noted, for `check`; where that is not reached any more, this process ends."""
        if self.ended:
            return
        if number == signal.SIGALRM and self.overdue:
            self._leave()
        if number in _WITH_GRACE:
            before, self.signalled_at = self.signalled_at, time.monotonic()
            if self.signalled_at < before + ONE_REQUEST_SECONDS:
                return
        first = not self.signals and self.awaited is None
        self.overdue = number == signal.SIGALRM or not first
        if self.overdue or number in _WITH_GRACE:
            signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS if self.overdue else GRACE_SECONDS)
        self.signals.append(number)

    def _heed(self, number: int) -> None:
        running = self.states.of(Running)
        if self.awaited is not None or not running:
            self._end()
        in_time = f"at the latest in {GRACE_SECONDS:.0f} s" if number in _WITH_GRACE else "Ctrl-C again stops now"
        self._ask(f"stopping after the next epoch of {counted(len(running), 'running stage')}; {in_time}")

    def _count_failure(self) -> None:
        self.failures += 1
        if self.max_failures is not None and self.failures > self.max_failures and self.awaited is None:
            self._ask(f"stopping: more than {counted(self.max_failures, 'failed stage')} (--max-failures)")

    def _ask(self, message: str) -> None:
        self.awaited = set(self.states.of(Running))
        self.say(message)

    def _reached(self, key: str) -> None:
        if self.awaited is not None:
            self.awaited.discard(key)

    def _end(self) -> None:
        self.ended = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self.max_failures is not None and self.failures > self.max_failures:
            raise TooManyFailures(f"{counted(self.failures, 'stage')} failed, more than --max-failures allows")
        raise KeyboardInterrupt


class _Action:
    """What a signal does now, as the kernel knows it: libraries change that behind Python's back."""

    def __init__(self, number: signal.Signals) -> None:
        self.number, self.kept = number, ctypes.create_string_buffer(1024)
        ctypes.CDLL(None).sigaction(number, None, self.kept)

    def restore(self) -> None:
        """From any thread, where Python's own `signal` is for the main thread alone."""
        ctypes.CDLL(None).sigaction(self.number, self.kept, None)


_WITH_GRACE = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_REQUESTS = (signal.SIGINT, *_WITH_GRACE)
_SIGNALS = (*_REQUESTS, signal.SIGALRM)
