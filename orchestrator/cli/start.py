"""Where the command `prunesweep` begins: signals are heard before anything is imported that takes time."""

from __future__ import annotations

import ctypes
import os
import signal
from types import FrameType

ASKED_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Ctrl-C, and what schedulers send."""

INTERRUPTED = 130

M_ARENA_MAX = -8
"""As in glibc's malloc.h."""


def main() -> None:
    """The command. A verb that has something to finish puts a handler of its own in place of these."""
    for number in ASKED_TO_STOP:
        signal.signal(number, _stop)
    _give_memory_back()
    from prunesweep.orchestrator.cli import main as verbs

    verbs.main()


def _give_memory_back() -> None:
    """Of what a large sweep has freed, Arrow's own pool keeps a tenth, and so do those that glibc makes for threads."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_ARENA_MAX, 1)


def _stop(number: int, frame: FrameType | None) -> None:
    """End at once: nothing has begun that would have to be finished, and files appear whole or not at all."""
    os.write(2, b"interrupted by " + signal.Signals(number).name.encode() + b": the same command begins again\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
