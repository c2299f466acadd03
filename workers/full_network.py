"""The network that a narrower one stands in for: what it has, and what it costs."""

from __future__ import annotations

from torch import Tensor

from prunesweep.workers import methods, models
from prunesweep.workers.data.base import Dataset
from prunesweep.workers.measure import Size, size_of
from prunesweep.workers.prunable import prunable
from prunesweep.workers.recording import record
from prunesweep.workers.spec import TrainStage


def full_size(root: TrainStage, dataset: Dataset, images: Tensor) -> Size | None:
    """Of the full network where the method trains a narrower one, else None; `images` [B, C, H, W] are of the dataset.

    It is made on the CPU in float32, and is not trained.
    """
    if not methods.create(root.method).narrows:
        return None
    model = models.build(models.full(root.model), dataset.shape, dataset.classes)
    recording = record(model, images.cpu().float().contiguous())
    return size_of(model, prunable(model, recording), recording)
