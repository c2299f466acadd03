"""Processes that are started in sessions of their own, where no signal to this process's group or terminal comes."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import Any

END_SECONDS = 5.0
"""What is killed and does not end by then waits in the kernel, perhaps for a disk."""

PARENT_DIED = 1
"""What prctl calls the signal that a process gets when its parent ends (PR_SET_PDEATHSIG in Linux's prctl.h)."""

_leaders: list[subprocess.Popen[Any]] = []


def start_in_session(*arguments: Any, **options: Any) -> subprocess.Popen[Any]:
    """As `subprocess.Popen`."""
    process: subprocess.Popen[Any] = subprocess.Popen(*arguments, **options, start_new_session=True)
    _leaders.append(process)
    return process


def one_has_ended() -> bool:
    """Whether one of the processes that were started, and are not to have ended, is gone."""
    return any(process.poll() is not None for process in _leaders)


def end_sessions() -> None:
    """End at once what was started, with all that it has started; nothing of it goes on afterwards.

    Ray's workers have process groups of their own, and work on for seconds when their raylet is gone; but they stay in
    its session. Its agents, if they were still coming up, would look for it for a minute.
    """
    sessions = {process.pid for process in _leaders}
    _leaders.clear()
    deadline = time.monotonic() + END_SECONDS
    while (members := _members(sessions)) and time.monotonic() < deadline:
        for process in members:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def end_with_parent() -> None:
    """Have the system kill this process when its parent ends, as far as it can (on Linux): for Ray's workers.

    They look themselves, once a second, whether their raylet is gone, but by the clock: where that was set back, they
    would stay for as long, and hold the claims of their stages.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DIED, signal.SIGKILL)


def _members(sessions: Set[int]) -> list[int]:
    """The processes of these sessions that have not ended."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat") if sessions else ():
        with suppress(OSError):  # it has ended meanwhile
            state, _, _, session, *_ = stat.read_text().rpartition(")")[2].split()
            if int(session) in sessions and state not in "ZX":
                members.append(int(stat.parent.name))
    return members
