"""The networks of LeCun et al. 1998, as the pruning literature has them."""

from __future__ import annotations

from math import prod

from torch import nn

from prunesweep.workers.errors import UserError
from prunesweep.workers.models.narrow import channels as scaled


def lenet300(shape: tuple[int, int, int], classes: int, *, factor: float = 1.0) -> nn.Sequential:
    """LeNet-300-100 (LeCun et al. 1998, section III.C) for images of any shape, its layers times `factor`."""
    first, second = scaled(300, factor), scaled(100, factor)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(prod(shape), first),
        nn.ReLU(inplace=True),
        nn.Linear(first, second),
        nn.ReLU(inplace=True),
        nn.Linear(second, classes),
    )


def lenet5(shape: tuple[int, int, int], classes: int, *, factor: float = 1.0) -> nn.Sequential:
    """LeNet-5 in Caffe's form, which pruning is measured on since Han et al. 2015: 431,080 parameters on MNIST.

    Wider than that of LeCun et al. 1998, and with ReLU; Caffe's own has none after the convolutions. Raises `UserError`
    for images under 16x16 pixels, of which nothing would be left. Its layers are multiplied by `factor`.
    """
    channels, height, width = shape
    if min(height, width) < 16:
        raise UserError(f"model lenet5 takes images of at least 16x16 pixels, the dataset's have {height}x{width}")
    first, second, hidden = (scaled(count, factor) for count in (20, 50, 500))
    return nn.Sequential(
        nn.Conv2d(channels, first, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * _left(height) * _left(width), hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, classes),
    )


def _left(side: int) -> int:
    """Pixels of a side after two 5x5 convolutions without padding, each followed by a halving."""
    return ((side - 4) // 2 - 4) // 2
