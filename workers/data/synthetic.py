"""Generated images of any size: for tests, and for timing without a download."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from prunesweep.workers.data.memory import InMemory, Split, channel_statistics, split_validation
from prunesweep.workers.errors import UserError

SEED = 20231


def synthetic(
    folder: str,
    *,
    shape: tuple[int, ...] = (3, 32, 32),
    classes: int = 10,
    images: int = 5000,
    test_images: int = 1000,
    validation_fraction: float = 0.1,
    validation_seed: int = 0,
    stratify: bool = False,
) -> InMemory:
    """Images that show their class's coarse pattern under a little noise; the same ones every time.

    `shape` is (channels, height, width); `images` are training and validation together. Augmented as CIFAR is, with
    padding in proportion. Raises `UserError` on a shape or count that cannot be. `folder` is not used.
    """
    _check(shape, classes, images, test_images)
    generator = torch.Generator().manual_seed(SEED)
    patterns = _patterns(shape, classes, generator)
    known = _images(patterns, images, generator)
    test = _images(patterns, test_images, generator)
    train, validation = split_validation(
        known.images, known.targets, fraction=validation_fraction, seed=validation_seed, stratify=stratify
    )
    mean, std = channel_statistics(train.images)
    return InMemory("synthetic", train, validation, test, classes, mean, std, padding=shape[1] // 8, flip=True)


def _patterns(shape: tuple[int, ...], classes: int, generator: torch.Generator) -> Tensor:
    """uint8 [classes, C, H, W] in 0 .. 191, of 4x4 patches, so that a shifted image still shows its class."""
    coarse = torch.randint(192, (classes, shape[0], 4, 4), generator=generator, dtype=torch.uint8)
    return F.interpolate(coarse, size=shape[1:], mode="nearest")


def _images(patterns: Tensor, count: int, generator: torch.Generator) -> Split:
    targets = torch.randint(len(patterns), (count,), generator=generator)
    noise = torch.randint(64, (count, *patterns.shape[1:]), generator=generator, dtype=torch.uint8)
    return Split(patterns[targets] + noise, targets)


def _check(shape: tuple[int, ...], classes: int, images: int, test_images: int) -> None:
    if len(shape) != 3 or any(type(size) is not int or size < 1 for size in shape):
        raise UserError(f"shape: {shape} is not (channels, height, width)")
    for option, value, least in (("classes", classes, 2), ("images", images, 10), ("test_images", test_images, 1)):
        if value < least:
            raise UserError(f"{option}: {value} is too few; at least {least}")
