"""Where a stage runs, and what this machine is. No torch at import: the driver does without."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CGROUPS = Path("/sys/fs/cgroup")

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""As in glibc's malloc.h."""


@dataclass(frozen=True)
class Where:
    """Where and how a stage runs: all that does not change its numbers.

    A checkpoint is written at the end of every epoch; where that would take more than `checkpoint_share` of the time,
    as often as that allows. `loaders` processes decode the images of datasets that do not fit in memory; with 0 the
    training process does so itself. `run` names the driver that asks for the stage, and `gone` the owners of claims
    that it has seen expire (`workers.claims`). Of a GPU that it shares a stage gets no more memory than `gpu_share`.
    A stage that draws no batch for `stall_limit` seconds is ended. `parts` are the keys of parts of it that
    may be in the store to continue from, the longest last. With `rehearsal` alone its numbers are others, and worth
    nothing (`workers.rehearsal`).
    """

    data_folder: str = "data"
    device: str = "auto"
    threads: int = 1
    loaders: int = 0
    checkpoint_share: float = 0.05
    provenance: Mapping[str, str | None] = field(default_factory=dict)
    gpu_share: float = 1.0
    run: str = ""
    gone: tuple[str, ...] = ()
    stall_limit: float = inf
    rehearsal: bool = False
    parts: tuple[str, ...] = ()

    @property
    def torch_device(self) -> torch.device:
        """The device; `auto` is the GPU when there is one."""
        import torch

        name = self.device if self.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(name)


def settle(where: Where, precision: str) -> None:
    """Give this process the memory and the threads that a stage has there, and torch the precision that it asks for."""
    import torch

    from prunesweep.workers.precision import set_backends

    keep_freed_memory()
    cap_memory(where.torch_device, where.gpu_share)
    torch.set_num_threads(where.threads)
    set_backends(precision)


def cap_memory(device: torch.device, share: float) -> None:
    """Leave to the others on a GPU what is theirs: who needs more than its share is out of memory, and nobody else."""
    if device.type == "cuda":
        import torch

        # This function takes no device without an index, such as `cuda`, and no whole number.
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.set_per_process_memory_fraction(float(min(share, 1.0) or 1.0), index)


def keep_freed_memory() -> None:
    """Keep what tensors free in the process: pages that the kernel hands out anew cost more than most layers.

    By default glibc gives back whatever lies at the end of its heap, so that a ResNet-56's backward pass through
    batch-norm takes 1.6 times as long (`docs/performance.md`). Other C libraries are left alone.
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, 2**30)
        mallopt(M_MMAP_THRESHOLD, 2**30)


def describe_device(device: torch.device, replicas: int = 1) -> str:
    """The GPU's or the processor's name; with replicas, as many times."""
    many = f"{replicas} x " if replicas > 1 else ""
    if device.type == "cuda":
        import torch

        return many + torch.cuda.get_device_name(device)
    return many + processor()


def usable_cores() -> int:
    """The cores that this process may use: the least of its affinity, its containers' quotas, and Slurm's grant.

    A machine may have many more, which belong to others.
    """
    limits: list[float] = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    limits += _quotas(CGROUPS)
    with suppress(KeyError, ValueError):
        limits.append(int(os.environ["SLURM_CPUS_PER_TASK"]))
    return max(1, int(min(limits)))


def _quotas(root: Path) -> Iterator[float]:
    """The cores that this process's control group, and those around it, are granted (Linux, versions 1 and 2)."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                base = root / controllers if controllers else root
                for folder in (base / place.lstrip("/"), *(base / place.lstrip("/")).parents):
                    yield from _quota(folder)
                    if folder == base:
                        break


def _quota(folder: Path) -> Iterator[float]:
    with suppress(OSError, ValueError):  # `max` is no number, and no limit
        quota, period = (folder / "cpu.max").read_text().split()
        yield int(quota) / int(period)
    with suppress(OSError, ValueError):
        limit, of = (float((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        if limit > 0:
            yield limit / of


def processor() -> str:
    """The CPU's name; Linux keeps it in /proc/cpuinfo, elsewhere Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
