"""The fully connected network of LeCun et al. 1998."""

from __future__ import annotations

from math import prod

from torch import nn


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
