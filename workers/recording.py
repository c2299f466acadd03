"""A forward pass in evaluation mode, and every convolution and matrix product of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from prunesweep.workers.data.base import Dataset
from prunesweep.workers.evaluating import changed, evaluating, values
from prunesweep.workers.recorded import Recording
from prunesweep.workers.recorder import Recorder

IMAGES = 32
"""So many are recorded at most, fewer than a training step takes, where the images do not decide what is computed."""

BATCHES = 16
"""So many batches of them where the images do: experts, early exits, loops that end by what is in an image."""


def first_images(dataset: Dataset, batch_size: int, dtype: torch.dtype) -> Iterator[Tensor]:
    """The first images of the training set as they are, [B, C, H, W] each; all stages of a dataset record the same."""
    size = min(IMAGES, batch_size, dataset.count("train"))
    batches = dataset.train_batches(seed=0, epoch=0, batch_size=size, augment=False, dtype=dtype)
    for images, _ in islice(batches, BATCHES):
        if len(images) == size:
            yield images


def record(model: nn.Module, images: Tensor, others: Iterable[Tensor] = ()) -> Recording:
    """Run images [B, C, H, W] through the network in evaluation mode; network and random numbers stay as they were.

    Where the images decide what is computed, `others` go through it as well: batches of as many images.
    """
    before = values(model)
    with evaluating(model):
        recorder = Recorder(model, len(images))
        if difference := changed(before, values(model)):
            recorder.note(difference)
        recorder.run(model, images)
        for batch in others if recorder.result.depends_on_data else ():
            recorder.run(model, batch)
        if recorder.from_outside and _again(model, images[:-1]).from_outside:
            layer = recorder.from_outside[0]
            recorder.note(f"{layer} computes with images that have left torch, such as to NumPy, and were not followed")
    return recorder.recording()


def _again(model: nn.Module, images: Tensor) -> Recorder:
    """With one image fewer: a tensor with a row for each image then has one row fewer, and no other tensor has."""
    recorder = Recorder(model, len(images))
    recorder.run(model, images)
    return recorder
