"""Tiny datasets of every kind of target, for the tests of tasks."""

from __future__ import annotations

import torch
from torch import Tensor

from prunesweep.workers.data.memory import InMemory, Split

MEAN, STD = torch.tensor([127.5]), torch.tensor([64.0])


def vectors(folder: str, *, images: int = 200) -> InMemory:
    """Where an image of 8 x 8 is bright: the means of its left and its right half."""
    generator = torch.Generator().manual_seed(3)
    levels = torch.randint(256, (images, 1, 2, 2), generator=generator)
    pixels = levels.repeat_interleave(4, 2).repeat_interleave(4, 3).to(torch.uint8)
    halves = torch.stack([levels[..., 0].float().mean((1, 2)), levels[..., 1].float().mean((1, 2))], 1) / 255
    return _splits("vectors", pixels, halves, 2)


def _splits(kind: str, images: Tensor, targets: Tensor, outputs: int) -> InMemory:
    cuts = (len(images) * 3 // 5, len(images) * 4 // 5)
    parts = [Split(images[a:b], targets[a:b]) for a, b in ((0, cuts[0]), cuts, (cuts[1], None))]
    return InMemory(kind, *parts, outputs, MEAN, STD, targets=kind)


def masks(folder: str, *, images: int = 100) -> InMemory:
    """Which pixels of an image of 8 x 8 are bright, and a border that counts for nothing."""
    generator = torch.Generator().manual_seed(4)
    coarse = torch.randint(2, (images, 1, 4, 4), generator=generator)
    bright = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    noise = torch.randint(40, bright.shape, generator=generator)
    targets = bright[:, 0].clone()
    targets[:, 0] = 255
    return _splits("masks", (200 * bright + noise).to(torch.uint8), targets, 2)


def pixelwise(shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
    """A class for each pixel, of its neighbourhood."""
    first = torch.nn.Conv2d(shape[0], 8, 3, padding=1)
    return torch.nn.Sequential(first, torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, classes, 1))
