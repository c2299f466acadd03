"""Datasets in memory.

Images stay uint8 until they are needed, so that CIFAR-10 takes 184 MB and may live on the accelerator. A batch costs a
few multi-image operations and no loop over images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.data.base import SPLIT_SEED, Batches, Dataset, SplitName, epoch_generator, normalised, split_indices

CHUNK_VALUES = 2**20
"""Batches are prepared together up to this many values: tiny images are bound by the number of operations, while
large ones would fall out of the cache."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images (uint8 [N, C, H, W]) and their classes (int64 [N])."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device | str) -> Split:
        """The same on another device."""
        return Split(self.images.to(device), self.targets.to(device))


@dataclass(frozen=True, eq=False)
class InMemory(Dataset):
    """A dataset in memory.

    `mean` and `std` [C] are in units of the uint8 images. Augmentation is a random crop out of the image with `padding`
    zeros around it and, with `flip`, a mirror image every other time.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    mean: Tensor
    std: Tensor
    padding: int = 0
    flip: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def count(self, split: SplitName) -> int:
        """How many images a split has."""
        return len(self._split(split))

    def to(self, device: torch.device | str, processes: int = 0) -> InMemory:
        """The same on another device; batches are made where the dataset is, in the process that asks."""
        splits = {name: getattr(self, name).to(device) for name in ("train", "validation", "test")}
        return replace(self, **splits, mean=self.mean.to(device), std=self.std.to(device))

    def train_batches(
        self, *, seed: int, epoch: int, batch_size: int, augment: bool, dtype: torch.dtype = torch.float32
    ) -> Batches:
        """One epoch; see `Dataset.train_batches`."""
        images, targets = self.train.images, self.train.targets
        generator = epoch_generator(seed, epoch)
        order = torch.randperm(len(targets), generator=generator).to(images.device)
        crops = torch.randint(2 * self.padding + 1, (2, len(targets)), generator=generator).to(images.device)
        flips = (torch.rand(len(targets), generator=generator) < 0.5).to(images.device)
        for part in _chunks(len(targets), batch_size, prod(self.shape)):
            chunk = images.index_select(0, order[part])
            if augment and self.padding:
                chunk = _cropped(chunk, crops[:, part], self.padding)
            if augment and self.flip:
                chunk = torch.where(flips[part, None, None, None], chunk.flip(3), chunk)
            chunk = normalised(chunk, self.mean, self.std, dtype)
            yield from _batches(chunk, targets[order[part]], batch_size)

    def evaluation_batches(self, split: SplitName, *, batch_size: int, dtype: torch.dtype = torch.float32) -> Batches:
        """One split in its own order; see `Dataset.evaluation_batches`."""
        whole = self._split(split)
        for part in _chunks(len(whole), batch_size, prod(self.shape)):
            chunk = normalised(whole.images[part], self.mean, self.std, dtype)
            yield from _batches(chunk, whole.targets[part], batch_size)

    def _split(self, name: SplitName) -> Split:
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


def split_validation(
    images: Tensor, targets: Tensor, *, fraction: float = 0.1, seed: int = SPLIT_SEED
) -> tuple[Split, Split]:
    """Training and validation split; `fraction` of the images, rounded, go to validation, in their own order."""
    train, validation = split_indices(len(targets), fraction=fraction, seed=seed)
    return Split(images[train], targets[train]), Split(images[validation], targets[validation])


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [C] of uint8 images [N, C, H, W]."""
    # Counted by value, every sum is of integers and exact: the number of threads cannot change a bit of the result.
    channels = images.transpose(0, 1).flatten(1)
    counts = torch.stack([torch.bincount(channel, minlength=256) for channel in channels]).double()
    values = torch.arange(256, dtype=torch.float64)
    mean = counts @ values / counts.sum(1)
    variance = counts @ values.square() / counts.sum(1) - mean.square()
    return mean.float(), variance.sqrt().float()


def _chunks(count: int, batch_size: int, values: int) -> Iterator[slice]:
    """Slices of whole batches that are prepared together; `values` is the size of one image."""
    step = batch_size * max(1, CHUNK_VALUES // (batch_size * values))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _batches(images: Tensor, targets: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(torch.split(images, batch_size), torch.split(targets, batch_size), strict=True)


def _cropped(images: Tensor, offsets: Tensor, padding: int) -> Tensor:
    """Each image cut out of its padded self at its own `offsets` [2, B], each in 0 .. 2 padding."""
    height, width = images.shape[2:]
    windows = F.pad(images, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(images), device=images.device), :, offsets[0], offsets[1]]
