"""Why stages fail, by what can be done about it."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import FrameType

from prunesweep.workers.errors import Diverged, Ineffective, ReplicaLost, UserError
from prunesweep.workers.files import Unavailable, is_full
from prunesweep.workers.registry import foreign_packages
from prunesweep.workers.store import Damaged

PROJECT = Path(__file__).parents[1]

OUT_OF_GPU_MEMORY = ("CUDA out of memory", "STATUS_ALLOC_FAILED", "unable to find an engine to execute")
"""What CUDA, its libraries, and torch say where a convolution finds no memory for any of cuDNN's algorithms."""

INSTALLED = {"site-packages", "dist-packages"}
"""Where packages are installed, in any environment that this one is layered on."""


class Cause(StrEnum):
    """Why a stage failed. The last two are seen from outside only, by the driver."""

    DIVERGED = "diverged"
    INEFFECTIVE = "sparsity not effective"
    GPU_MEMORY = "out of GPU memory"
    HOST_MEMORY = "out of host memory"
    BAD_REQUEST = "bad request"
    USER_CODE = "user code"
    INTERNAL = "internal error"
    PARENT_DAMAGED = "parent damaged"
    DISK_FULL = "disk full"
    STORE = "store unavailable"
    STALLED = "stalled"
    KILLED = "killed"
    NODE_LOST = "node lost"


def cause_of(error: Exception) -> Cause:
    """By the error's type, its words where torch has no type for it, and by whose code raised it."""
    if isinstance(error, Diverged | FloatingPointError):
        return Cause.DIVERGED
    if isinstance(error, Ineffective):
        return Cause.INEFFECTIVE
    memory = _memory(error)
    if memory is not None:
        return memory
    if isinstance(error, UserError):
        return Cause.BAD_REQUEST
    if isinstance(error, ReplicaLost):
        return Cause.KILLED
    if isinstance(error, Damaged):
        return Cause.PARENT_DAMAGED
    if is_full(error):
        return Cause.DISK_FULL
    if isinstance(error, Unavailable):
        return Cause.STORE
    return Cause.USER_CODE if _in_user_code(error) else Cause.INTERNAL


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device or the host had no memory left."""
    return _memory(error) is not None


def _memory(error: Exception) -> Cause | None:
    words = str(error)
    if type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and any(word in words for word in OUT_OF_GPU_MEMORY)
    ):
        return Cause.GPU_MEMORY
    if isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in words:
        return Cause.HOST_MEMORY
    return None


def place_of(error: Exception) -> str | None:
    """File and line of the last frame of a method, model or dataset that is not the project's, if there was one."""
    theirs = [f"{frame.f_code.co_filename}, line {line}" for frame, line, whose in _frames(error) if whose == "theirs"]
    return theirs[-1] if theirs else None


def _in_user_code(error: Exception) -> bool:
    """Whether what raised last is not the project's; a library's frame is whose frame called it."""
    owners = [whose for _, _, whose in _frames(error)]
    return bool(owners) and owners[-1] == "theirs"


def _frames(error: Exception) -> Iterator[tuple[FrameType, int, str]]:
    """The frames of an error with their lines, and whether each is "ours" or "theirs"; without those of libraries."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if frame.f_globals.get("__name__", "").partition(".")[0] in foreign_packages:
            yield frame, line, "theirs"
        elif file.is_relative_to(PROJECT):
            yield frame, line, "ours"
        elif file.is_absolute() and not (file.is_relative_to(stdlib) or INSTALLED & set(file.parts)):
            yield frame, line, "theirs"
