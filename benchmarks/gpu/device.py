"""The device under test: what it is, its clock, and the speed at which it copies."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch

from prunesweep.workers.host import describe_device


def described(device: torch.device) -> dict[str, str]:
    """The names and versions that a measurement belongs to."""
    if device.type != "cuda":
        return {"is": describe_device(device), "torch": torch.__version__, "threads": str(torch.get_num_threads())}
    properties = torch.cuda.get_device_properties(device)
    return {
        "is": properties.name,
        "memory": f"{properties.total_memory / 2**30:.0f} GiB",
        "torch": torch.__version__,
        "CUDA": str(torch.version.cuda),
        "cuDNN": str(torch.backends.cudnn.version()),
        "cores": str(os.cpu_count()),
    }


def clock(device: torch.device) -> float:
    """Seconds, once the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """The median of some runs of `work`, after one that is not timed."""
    work()
    seconds = []
    for _ in range(repeats):
        start = clock(device)
        work()
        seconds.append(clock(device) - start)
    return float(np.median(seconds))


def copy_bandwidth(device: torch.device, size: int) -> float:
    """Bytes/s of a copy of `size` bytes within the device's memory, read and written bytes both counted."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2.0 * size / seconds_of(lambda: target.copy_(source), device)
