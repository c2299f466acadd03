"""The networks of LeCun et al. 1998, as the pruning literature has them."""

from __future__ import annotations

from math import prod

from torch import nn

from prunesweep.workers.errors import UserError


def lenet300(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """LeNet-300-100 (LeCun et al. 1998, section III.C) for images of any shape."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(prod(shape), 300),
        nn.ReLU(inplace=True),
        nn.Linear(300, 100),
        nn.ReLU(inplace=True),
        nn.Linear(100, classes),
    )


def lenet5(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """LeNet-5 in Caffe's form, which pruning is measured on since Han et al. 2015: 431,080 parameters on MNIST.

    Wider than that of LeCun et al. 1998, and with ReLU; Caffe's own has none after the convolutions. Raises `UserError`
    for images under 16x16 pixels, of which nothing would be left.
    """
    channels, height, width = shape
    if min(height, width) < 16:
        raise UserError(f"model lenet5 takes images of at least 16x16 pixels, the dataset's have {height}x{width}")
    return nn.Sequential(
        nn.Conv2d(channels, 20, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(50 * _left(height) * _left(width), 500),
        nn.ReLU(inplace=True),
        nn.Linear(500, classes),
    )


def _left(side: int) -> int:
    """Pixels of a side after two 5x5 convolutions without padding, each followed by a halving."""
    return ((side - 4) // 2 - 4) // 2
