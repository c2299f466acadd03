"""What a dataset is: three splits, and batches out of them on one device."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from prunesweep.workers.data.portions import Portion
from prunesweep.workers.data.splits import ValidationSplit
from prunesweep.workers.errors import UserError

if TYPE_CHECKING:
    from prunesweep.workers.data.policies import Policy

Batches = Iterator[tuple[Tensor, Tensor]]
SplitName = Literal["train", "validation", "test"]

SPLIT_SEED = 0
"""Draws the validation images of every dataset. Never a trial's seed: all trials are judged on the same images."""


class Dataset(ABC):
    """Images with their targets; the order of the images and their augmentation are functions of (seed, epoch) alone.

    `shape` is (channels, height, width) of the images that a network sees.
    """

    name: str
    classes: int
    """Of a classification; else how many numbers a network gives for a target: classes of pixels, numbers of a vector,
    tokens of a vocabulary."""

    targets: str = "classes"
    """What targets are: `classes` (int64 [B]), `vectors` (float [B, D]), `masks` (int64 [B, H, W]) or `tokens` (int64
    [B, T]); a task of one's own may have others."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""

    @abstractmethod
    def count(self, split: SplitName) -> int:
        """How many images a split has."""

    @abstractmethod
    def to(self, device: torch.device | str, processes: int = 0) -> Dataset:
        """The same with batches on another device; a dataset that decodes files does so in `processes` of its own."""

    @abstractmethod
    def train_batches(
        self, *, seed: int, epoch: int, batch_size: int, augment: bool, dtype: torch.dtype = torch.float32
    ) -> Batches:
        """One epoch of (images [B, C, H, W], targets int64 [B]), normalised, in channels-last layout, on the device.

        Order and augmentation are functions of (seed, epoch) alone, on every device and for any number of processes; a
        negative epoch gives a stream of its own. Without `augment` the order is the same. The last batch may be
        smaller. Images are normalised in float32 and then rounded to `dtype`.
        """

    @abstractmethod
    def evaluation_batches(self, split: SplitName, *, batch_size: int, dtype: torch.dtype = torch.float32) -> Batches:
        """A split in its own order, as `train_batches` but never augmented."""

    def iterations(self, batch_size: int) -> int:
        """Batches per epoch; the last one may be smaller."""
        return -(-self.count("train") // batch_size)

    def portioned(self, portion: Portion) -> Dataset:
        """The same with only a portion of every batch, possibly an empty one; counts are those of the whole.

        Order and augmentation stay those of whole batches. Here they are made whole and cut; a dataset that can make
        its portion alone does so.
        """
        return self if portion.whole else Cut(self, portion)

    def corrupted(self, test_set: str) -> Dataset:
        """The same with a corrupted test set (`workers.corruptions`); raises `UserError` where that cannot be."""
        raise UserError(
            f"dataset {self.name} makes its batches itself: test_sets are for datasets in memory (prunesweep.InMemory) "
            "and folders of images; leave them out"
        )

    def with_policy(self, policy: Policy) -> Dataset:
        """The same with training images augmented by a policy; raises `UserError` where that cannot be.

        Here batches are made in a way that is not known.
        """
        raise UserError(
            f"dataset {self.name} makes its batches itself: randaugment, trivialaugment and repeated_augmentation are "
            "for datasets in memory (prunesweep.InMemory) and folders of images; augment in its train_batches"
        )


class Cut(Dataset):
    """Portions of another dataset's batches."""

    def __init__(self, dataset: Dataset, portion: Portion) -> None:
        self.dataset, self.portion = dataset, portion
        self.name, self.classes, self.targets = dataset.name, dataset.classes, dataset.targets

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.dataset.shape

    def count(self, split: SplitName) -> int:
        """How many images a split has, all portions together."""
        return self.dataset.count(split)

    def to(self, device: torch.device | str, processes: int = 0) -> Dataset:
        """The same with batches on another device."""
        return Cut(self.dataset.to(device, processes), self.portion)

    def train_batches(
        self, *, seed: int, epoch: int, batch_size: int, augment: bool, dtype: torch.dtype = torch.float32
    ) -> Batches:
        """One epoch's portions."""
        batches = self.dataset.train_batches(
            seed=seed, epoch=epoch, batch_size=batch_size, augment=augment, dtype=dtype
        )
        return self._cut(batches)

    def evaluation_batches(self, split: SplitName, *, batch_size: int, dtype: torch.dtype = torch.float32) -> Batches:
        """A split's portions."""
        return self._cut(self.dataset.evaluation_batches(split, batch_size=batch_size, dtype=dtype))

    def _cut(self, batches: Batches) -> Batches:
        for images, targets in batches:
            places = self.portion.places(len(targets)).to(targets.device)
            yield images[places], targets[places]


def split_indices(targets: Tensor, how: ValidationSplit) -> tuple[Tensor, Tensor]:
    """Indices of the images to train on, and of those to validate on. Both ascend; raises `UserError`."""
    # numpy promises that this stream never changes, torch does not.
    order = np.random.RandomState(how.seed).permutation(len(targets))
    if how.stratify:
        classes = targets.numpy()[order]
        counts = how.counts(classes.tolist(), int(classes.max()) + 1)
        chosen = np.concatenate([order[classes == number][:count] for number, count in enumerate(counts)])
    else:
        chosen = order[: how.count(len(targets))]
    is_held_out = np.isin(np.arange(len(targets)), chosen)
    train, validation = (torch.from_numpy(np.flatnonzero(part)) for part in (~is_held_out, is_held_out))
    return train, validation


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A hash, since neighbouring seeds must not share neighbouring epochs (seed + epoch would)."""
    digest = hashlib.sha256(f"{seed} {epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


def normalised(images: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 images [B, C, H, W] less `mean` [C] over `std` [C], channels-last.

    In float32 first: a half-precision mean would shift every image.
    """
    count, channels, height, width = images.shape
    values = images.permute(0, 2, 3, 1).flatten(1).to(torch.float32)
    # Repeated for every pixel: an addition of three numbers at a time would use little of the processor.
    values.sub_(mean.repeat(height * width)).div_(std.repeat(height * width))
    return values.to(dtype).view(count, height, width, channels).permute(0, 3, 1, 2)
