"""Narrower networks: the same layers, each with a share of its channels."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import cache

import torch
from torch import nn

STEPS = 1024
"""Factors are multiples of one over this, so that layers of fewer channels than this can have any number of them."""


def channels(count: int, factor: float) -> int:
    """This share of the channels of a layer, rounded, and at least one."""
    return max(1, round(count * factor))


def factor_of(make: Callable[[float], nn.Module], size: float) -> float:
    """The factor of the network whose weights are nearest to this share, in (0, 1], of those of the full one.

    `make` makes a network from the factor that the number of channels of each hidden layer is multiplied by. Weights
    are all parameters of two dimensions and more. Of two networks that are equally near it is the smaller.
    """

    @cache
    def weights(step: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in make(step / STEPS).parameters() if p.dim() >= 2)

    wanted = size * weights(STEPS)
    above = bisect_left(range(1, STEPS), wanted, key=weights) + 1
    nearest = min((max(above - 1, 1), above), key=lambda step: abs(weights(step) - wanted))
    return nearest / STEPS
