"""Where a stage runs, and what this machine is. No torch at import: the driver does without."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Where:
    """Where and how a stage runs: all that does not change its numbers.

    A checkpoint is written at the first epoch end after `checkpoint_seconds` of work, so that its cost is bounded and
    a killed process loses that long or one epoch, whichever is longer. `loaders` processes decode the images of
    datasets that do not fit in memory; with 0 the training process does so itself.
    """

    data_folder: str = "data"
    device: str = "auto"
    threads: int = 1
    loaders: int = 0
    checkpoint_seconds: float = 1.0
    provenance: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def torch_device(self) -> torch.device:
        """The device; `auto` is the GPU when there is one."""
        import torch

        name = self.device if self.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(name)


def describe_device(device: torch.device) -> str:
    """The GPU's or the processor's name."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return processor()


def processor() -> str:
    """The CPU's name; Linux keeps it in /proc/cpuinfo, elsewhere Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
