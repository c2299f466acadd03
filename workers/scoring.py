"""What an epoch or an evaluation came to: the mean loss, and a task's metrics, summed over batches and replicas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prunesweep.workers.replicas import Replicas
from prunesweep.workers.tasks.base import ClassScore, Task


@dataclass(frozen=True)
class Score:
    """The mean loss of the images, the metrics by name, and what there is to say of each class."""

    loss: float
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    classes: Sequence[ClassScore] = ()


class Tally:
    """Adds up what batches give. Sums stay on the device until `score`, which waits for it once."""

    def __init__(self, replicas: Replicas) -> None:
        self.replicas, self.images = replicas, 0
        self.losses: list[Tensor] = []
        self.sums: dict[str, Tensor] = {}

    def add(self, loss: Tensor, sums: Mapping[str, Tensor], images: int) -> None:
        """A batch: the sum of its losses, and a task's sums."""
        self.losses.append(loss)
        self.images += images
        for name, value in sums.items():
            value = value.double() if value.is_floating_point() else value
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def score(self, task: Task) -> Score:
        """Over all replicas, and the same on all of them."""
        flat: list[float] = []
        if self.losses:
            loss = torch.stack(self.losses).sum().double()
            parts = [value.double().flatten().to(loss.device) for value in self.sums.values()]
            flat = torch.cat([loss[None], *parts]).tolist()
        count, total, *rest = self.replicas.summed(self.images, *flat)
        lengths = [value.numel() for value in self.sums.values()]
        whole = torch.split(torch.tensor(rest, dtype=torch.float64), lengths)
        named = zip(self.sums.items(), whole, strict=True)
        sums = {name: value.reshape(own.shape) for (name, own), value in named}
        metrics = {name: _finite(value) for name, value in task.measured(sums, int(count)).items()}
        return Score(total / count, metrics, task.by_class(sums))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
