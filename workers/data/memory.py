"""Datasets in memory.

Images stay uint8 until they are needed, so that CIFAR-10 takes 184 MB and may live on the accelerator. A batch costs a
few multi-image operations and no loop over images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from prunesweep.workers.data.augmentation import cropped, flip, rotated, turns
from prunesweep.workers.data.base import (
    SPLIT_SEED,
    Batches,
    Dataset,
    SplitName,
    epoch_generator,
    normalised,
    split_indices,
)
from prunesweep.workers.data.corrupted import corrupted, require_corruptible
from prunesweep.workers.data.policies import Drawn, Policy, repeated, require_pictures
from prunesweep.workers.data.portions import Portion
from prunesweep.workers.data.splits import SHARE, ValidationSplit

CHUNK_VALUES = 2**20
"""Batches are prepared together up to this many values: tiny images are bound by the number of operations, while
large ones would fall out of the cache."""

DEVICE_CHUNK_VALUES = 2**24
"""The same on an accelerator, where starting an operation costs more than the operation."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images (uint8 [N, C, H, W], kept channels-last) and their targets [N, ...], such as classes (int64 [N])."""

    images: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", self.images.contiguous(memory_format=torch.channels_last))

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device | str) -> Split:
        """The same on another device."""
        return Split(self.images.to(device), self.targets.to(device))

    def at(self, places: slice | Tensor) -> Split:
        """The images there."""
        return Split(self.images[places], self.targets[places])


class Draws(NamedTuple):
    """The random draws for the images of an epoch, or for a portion of each of its batches; images are the last axis.

    All are on the dataset's device but the flips and the policy's, whose number must be known without waiting for the
    device.
    """

    order: Tensor
    crops: Tensor
    flips: Tensor
    turns: Tensor
    policy: Drawn | None

    def at(self, part: slice) -> Draws:
        """Those for a part of the images."""
        order, crops, flips, turns = (values[..., part] for values in self[:4])
        return Draws(order, crops, flips, turns, self.policy and self.policy.at(part))


@dataclass(frozen=True, eq=False)
class InMemory(Dataset):
    """A dataset in memory.

    `mean` and `std` [C] are in units of the uint8 images. Augmentation is a random crop out of the image with `padding`
    zeros around it, then, with `flip`, a mirror image every other time, then a rotation by up to `rotation` degrees
    either way, then what the `policy` draws. Pixels have values up to `brightest`.
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
    rotation: float = 0.0
    brightest: int = 255
    portion: Portion = Portion()
    policy: Policy = Policy()
    targets: str = "classes"

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

    def portioned(self, portion: Portion) -> InMemory:
        """The same with only a portion of every batch; the rest is never made."""
        return replace(self, portion=portion)

    def corrupted(self, test_set: str) -> InMemory:
        """The same with each test image corrupted by its number."""
        require_corruptible(self.name, self.shape[0], test_set)
        pixels = self.test.images.permute(0, 2, 3, 1).cpu().numpy()
        images = np.stack([corrupted(image, test_set, n, self.brightest) for n, image in enumerate(pixels)])
        test = Split(torch.from_numpy(images).permute(0, 3, 1, 2), self.test.targets.cpu())
        return replace(self, test=test.to(self.test.images.device))

    def with_policy(self, policy: Policy) -> InMemory:
        """The same with training images augmented by a policy, too."""
        require_pictures(self.name, self.shape[0], policy)
        return replace(self, policy=policy)

    def train_batches(
        self, *, seed: int, epoch: int, batch_size: int, augment: bool, dtype: torch.dtype = torch.float32
    ) -> Batches:
        """One epoch; see `Dataset.train_batches`."""
        pixels, targets = self.train.images.permute(0, 2, 3, 1), self.train.targets
        draws = self._draws(seed, epoch, batch_size)
        sizes = self.portion.sizes(len(targets), batch_size)
        for part, lengths in _chunks(sizes, self.shape, pixels.device):
            drawn = draws.at(part)
            chunk = pixels.index_select(0, drawn.order)
            if augment and len(chunk):
                chunk = self._augmented(chunk, drawn)
            if drawn.policy and len(chunk):
                chunk = self.policy.apply(chunk, drawn.policy, self.brightest)
            chunk = normalised(chunk.permute(0, 3, 1, 2), self.mean, self.std, dtype)
            yield from _batches(chunk, targets.index_select(0, drawn.order), lengths)

    def evaluation_batches(self, split: SplitName, *, batch_size: int, dtype: torch.dtype = torch.float32) -> Batches:
        """One split in its own order; see `Dataset.evaluation_batches`."""
        sizes = self.portion.sizes(self.count(split), batch_size)
        mine = self._split(split).at(self.portion.positions(self.count(split), batch_size))
        for part, lengths in _chunks(sizes, self.shape, mine.images.device):
            chunk = normalised(mine.images[part], self.mean, self.std, dtype)
            yield from _batches(chunk, mine.targets[part], lengths)

    def _draws(self, seed: int, epoch: int, batch_size: int) -> Draws:
        """Drawn for the whole epoch, then cut to the portion, so that portions together are the whole."""
        count, (_, height, width) = len(self.train), self.shape
        generator = epoch_generator(seed, epoch)
        order = torch.randperm(count, generator=generator)
        crops = torch.randint(2 * self.padding + 1, (2, count), generator=generator)
        flips = torch.rand(count, generator=generator) < 0.5
        mine, turned = self.portion.positions(count, batch_size), torch.empty(0)
        if self.rotation:
            degrees = torch.empty(count).uniform_(-self.rotation, self.rotation, generator=generator)
            turned = turns(degrees[mine], height, width)
        device, policy = self.train.images.device, None
        if self.policy.changes:
            policy = self.policy.draw(seed, epoch, count).at(mine)
        order, _ = repeated(order, self.policy.copies, batch_size)
        return Draws(order[mine].to(device), crops[:, mine].to(device), flips[mine], turned.to(device), policy)

    def _augmented(self, images: Tensor, drawn: Draws) -> Tensor:
        """New images, or these ones changed."""
        if self.padding:
            images = cropped(images, drawn.crops, self.padding)
        if self.flip:
            flip(images, drawn.flips.nonzero().squeeze(1).to(images.device, non_blocking=True))
        if self.rotation:
            images = rotated(images, drawn.turns)
        return images

    def _split(self, name: SplitName) -> Split:
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


def split_validation(
    images: Tensor, targets: Tensor, *, fraction: float = SHARE, seed: int = SPLIT_SEED, stratify: bool = False
) -> tuple[Split, Split]:
    """Training and validation split; `fraction` of the images, rounded, go to validation, in their own order.

    With `stratify` each class gives its share. Raises `UserError` where a split would be empty, or lack a class.
    """
    train, validation = split_indices(targets, ValidationSplit(fraction, seed, stratify))
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


def _chunks(sizes: list[int], shape: tuple[int, int, int], device: torch.device) -> Iterator[tuple[slice, list[int]]]:
    """Slices of whole batches that are prepared together, with the sizes of these batches."""
    values = CHUNK_VALUES if device.type == "cpu" else DEVICE_CHUNK_VALUES
    step, start = max(1, values // max(1, max(sizes, default=0) * prod(shape))), 0
    for first in range(0, len(sizes), step):
        lengths = sizes[first : first + step]
        stop = start + sum(lengths)
        yield slice(start, stop), lengths
        start = stop


def _batches(images: Tensor, targets: Tensor, sizes: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(torch.split(images, sizes), torch.split(targets, sizes), strict=True)
