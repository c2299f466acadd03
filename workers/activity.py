"""What a process does with its stage, as its claim tells: how far and how fast, on which device, how busy that is.

Only what is known is said; the rest is None. Looking costs a few system calls at each heartbeat, in its thread, and
nothing in training. No torch at import: `status` reads this.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from prunesweep.workers.host import Where, describe_device
from prunesweep.workers.typed import typed
from prunesweep.workers.watchdog import FRAMES, QUIET_SECONDS

if TYPE_CHECKING:
    import torch

    from prunesweep.workers.checkpoint import Progress

REMEMBERED = 16
"""The rate is over so many heartbeats that saw the stage further than the one before: half a minute, or 15 epochs."""

METRIC = "validation_metric"
"""Stands for the column of the task's primary metric, such as `validation_accuracy`."""

CURVE = ("epoch", "train_loss", "validation_loss", METRIC, "learning_rate", "sparsity")
"""What is told of each epoch so far: columns of the stage's `curve.parquet`."""

MOST_EPOCHS = 100
"""Of a longer curve so many epochs are told, spread evenly, the first and the last among them: about 6 kB."""

SHORTEST = 0.1
"""Seconds between two looks; of a shorter time the use of a processor says nothing."""


@dataclass(frozen=True)
class Activity:
    """At one heartbeat. Memory is in bytes.

    `device` is torch's name, which two processes may give to different GPUs; `device_id` is the GPU's own. Epochs and
    images per second count all that an epoch takes, evaluation included. `cpu_percent` is of this process, 100 for a
    core, since the heartbeat before; `gpu_percent` is the share of time in which any process used the GPU.
    `gpu_used` is of all processes, `gpu_peak` the most that this one's tensors had. The last batch was drawn
    `quiet_seconds` ago; when that is long, `stack` says where the stage stands, the innermost call last. `curve` has a
    row for each epoch so far, with the columns `CURVE`.
    """

    host: str
    device: str
    device_name: str | None = None
    device_id: str | None = None
    epoch: int | None = None
    epochs_per_second: float | None = None
    images_per_second: float | None = None
    cpu_percent: float | None = None
    resident: int | None = None
    host_memory: int | None = None
    gpu_percent: float | None = None
    gpu_used: int | None = None
    gpu_memory: int | None = None
    gpu_peak: int | None = None
    quiet_seconds: float | None = None
    stack: tuple[str, ...] = ()
    curve: tuple[tuple[float | None, ...], ...] = ()

    @classmethod
    def decoded(cls, said: object) -> Self | None:
        """What a claim holds, without what only later versions know; None where it holds nothing of use."""
        if not isinstance(said, Mapping):
            return None
        known = {field.name: said[field.name] for field in fields(cls) if field.name in said}
        curve = _decoded_curve(known.pop("curve", None))
        with suppress(TypeError):
            return replace(typed(cls, known), curve=curve)
        return None


def _decoded_curve(said: object) -> tuple[tuple[float | None, ...], ...]:
    """The rows of a claim, none where it holds anything else."""
    rows = [tuple(row) for row in said if isinstance(row, list | tuple)] if isinstance(said, list | tuple) else []
    whole = all(len(row) == len(CURVE) and all(isinstance(v, int | float | None) for v in row) for row in rows)
    return tuple(rows) if whole else ()


def validation_column(columns: Iterable[str]) -> str:
    """That of a curve's which has the task's primary metric on validation images, such as `validation_accuracy`."""
    return next(name for name in columns if name.startswith("validation_") and name != "validation_loss")


class _Point(NamedTuple):
    epoch: int
    images: int
    time: float


class Activities:
    """Looks at this process. `look` is called by the heartbeat's thread, `quiet` by another, all else by the stage."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.thread, self.last_batch = threading.get_ident(), time.monotonic()
        self.seen: deque[_Point] = deque(maxlen=REMEMBERED)
        self.latest: _Point | None = None
        self.curve: tuple[tuple[float | None, ...], ...] = ()
        self.busy = time.process_time(), time.monotonic()

    def reached(self, progress: Progress) -> None:
        """The stage is so far, and its device in use."""
        self.latest = _Point(progress.epoch, progress.images, time.monotonic())
        self.curve = tuple(_told(row) for row in _spread(progress.curve))
        if not self.seen:
            self.seen.append(self.latest)

    def drawn(self) -> None:
        """The stage has its next batch."""
        self.last_batch = time.monotonic()

    def look(self) -> Activity:
        """The state of things now."""
        host = socket.gethostname()
        said: dict[str, Any] = {"cpu_percent": self._cpu_percent(), **_memory(), **self._quiet()}
        if self.latest is None:  # it loads data, and the device may not be ready
            return Activity(host, self.where.device, **said)
        return Activity(host, **self._device, **self._gpu(), **self._pace(self.latest), **said, curve=self.curve)

    def quiet(self) -> tuple[float, tuple[str, ...]]:
        """For how many seconds the stage has drawn no batch; where it stands, if that is long."""
        seconds = time.monotonic() - self.last_batch
        return seconds, _stack(self.thread) if seconds > min(QUIET_SECONDS, self.where.stall_limit / 2) else ()

    def _quiet(self) -> dict[str, Any]:
        seconds, stack = self.quiet()
        return {"quiet_seconds": round(seconds, 1), "stack": stack}

    def _pace(self, latest: _Point) -> dict[str, Any]:
        if latest.epoch > self.seen[-1].epoch:
            self.seen.append(latest)
        return {"epoch": latest.epoch, **_rates(self.seen[0], self.seen[-1], time.monotonic())}

    def _cpu_percent(self) -> float | None:
        (used, then), self.busy = self.busy, (time.process_time(), time.monotonic())
        passed = self.busy[1] - then
        return round(100 * (self.busy[0] - used) / passed, 1) if passed > SHORTEST else None

    @cached_property
    def _torch_device(self) -> torch.device:
        return self.where.torch_device

    @cached_property
    def _device(self) -> dict[str, Any]:
        """With its index, which `cuda` alone does not say."""
        said: dict[str, Any] = {"device": str(self._torch_device), "device_name": None, "device_id": None}
        with suppress(RuntimeError, OSError):
            said["device_name"] = describe_device(self._torch_device)
            if self._torch_device.type == "cuda":
                said |= _gpu_identity(self._torch_device)
        return said

    def _gpu(self) -> dict[str, Any]:
        if self._torch_device.type != "cuda":
            return {}
        import torch

        usage: dict[str, Any] = {"gpu_percent": _gpu_percent(self._device["device_id"])}
        with suppress(RuntimeError):  # after an error of the device nothing is known of it
            free, total = torch.cuda.mem_get_info(self._torch_device)
            peak = torch.cuda.max_memory_allocated(self._torch_device)
            usage |= {"gpu_used": total - free, "gpu_memory": total, "gpu_peak": peak}
        return usage


def _spread(curve: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """At most `MOST_EPOCHS` rows of a curve, spread evenly."""
    if len(curve) <= MOST_EPOCHS:
        return curve
    step = (len(curve) - 1) / (MOST_EPOCHS - 1)
    return [curve[round(number * step)] for number in range(MOST_EPOCHS)]


def _told(row: Mapping[str, Any]) -> tuple[float | None, ...]:
    """With the digits that a figure shows."""
    metric = validation_column(row)
    values = (row[metric if name == METRIC else name] for name in CURVE)
    return tuple(None if value is None else float(f"{value:.5g}") for value in values)


def _rates(first: _Point, last: _Point, now: float) -> dict[str, float]:
    """None before there has been an epoch; an epoch that takes longer than those before slows them down."""
    epochs, seconds = last.epoch - first.epoch, last.time - first.time
    if epochs <= 0 or seconds <= 0:
        return {}
    seconds += max(0.0, now - last.time - seconds / epochs)
    return {"epochs_per_second": epochs / seconds, "images_per_second": (last.images - first.images) / seconds}


def _stack(thread: int) -> tuple[str, ...]:
    """Where a thread of this process stands."""
    frame = sys._current_frames().get(thread)
    frames = traceback.extract_stack(frame)[-FRAMES:] if frame else ()
    return tuple(f"{call.filename}, line {call.lineno}, in {call.name}" for call in frames)


def _memory() -> dict[str, int | None]:
    """Of this process, and of the whole machine, where the system tells (Linux)."""
    memory: dict[str, int | None] = {"resident": None, "host_memory": None}
    with suppress(OSError, ValueError, IndexError):
        page = os.sysconf("SC_PAGE_SIZE")
        memory["host_memory"] = os.sysconf("SC_PHYS_PAGES") * page
        memory["resident"] = int(Path("/proc/self/statm").read_text().split()[1]) * page
    return memory


def _gpu_identity(device: torch.device) -> dict[str, str]:
    import torch

    index = torch.cuda.current_device() if device.index is None else device.index
    uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
    return {"device": f"cuda:{index}", **({"device_id": f"GPU-{uuid}"} if uuid else {})}


class _Utilisation(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


def _gpu_percent(identity: str | None) -> float | None:
    """By the driver's own library (NVML), which is wherever a GPU works; None where it does not tell, as with MIG."""
    if identity is None:
        return None
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libnvidia-ml.so.1")
        handle, utilisation = ctypes.c_void_p(), _Utilisation()
        if library.nvmlInit_v2():
            return None
        try:
            missing = library.nvmlDeviceGetHandleByUUID(identity.encode(), ctypes.byref(handle))
            if not missing and not library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(utilisation)):
                return float(utilisation.gpu)
        finally:
            library.nvmlShutdown()
    return None
