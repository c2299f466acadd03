"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): each image of a batch mixed with the one before it.

The order of a batch is random, so that the image before is a random one, as in torchvision's `transforms.v2.MixUp` and
`CutMix`. As there and in timm all images of a batch are mixed in one proportion, and lose the same box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Mix:
    """How much each image keeps of itself, and, for CutMix, the rows and columns that it takes from its partner."""

    kept: float
    box: tuple[slice, slice] | None = None


def draw_mix(draws: np.random.RandomState, mixup: float | None, cutmix: float | None, sides: Sequence[int]) -> Mix:
    """For a batch of images of these sides, by the parameters of the beta distributions; with both, half of each.

    The box has a random centre and is cut at the border; what is kept is what is left outside of it.
    """
    cuts = mixup is None or (cutmix is not None and bool(draws.random_sample() < 0.5))
    alpha = cutmix if cuts else mixup
    assert alpha is not None
    kept = float(draws.beta(alpha, alpha))
    if not cuts:
        return Mix(kept)
    box = tuple(_interval(draws, side, sqrt(1.0 - kept)) for side in sides)
    area = (box[0].stop - box[0].start) * (box[1].stop - box[1].start)
    return Mix(1.0 - area / (sides[0] * sides[1]), (box[0], box[1]))


def _interval(draws: np.random.RandomState, side: int, share: float) -> slice:
    centre, half = int(draws.random_sample() * side), int(side * share / 2)
    return slice(max(0, centre - half), min(side, centre + half))


def mixed(images: Tensor, targets: Tensor, classes: int, mix: Mix, *, leads: bool) -> tuple[Tensor, Tensor]:
    """Mixed images, and their targets as shares of the classes [B, classes].

    With `leads` the first image is only there to be the second one's partner; else the last one is the first one's.
    """
    dtype = images.dtype if images.dtype == torch.float64 else torch.float32
    shares = functional.one_hot(targets, classes).to(dtype)
    own, partner = (slice(1, None), slice(-1)) if leads else (slice(None), slice(None))
    partners = images[partner] if leads else images.roll(1, 0)
    other_shares = shares[partner] if leads else shares.roll(1, 0)
    images, shares = images[own], shares[own]
    if mix.box is None:
        images = images * mix.kept + partners * (1.0 - mix.kept)
    else:
        images = images.clone()
        images[:, :, *mix.box] = partners[:, :, *mix.box]
    return images, shares * mix.kept + other_shares * (1.0 - mix.kept)
