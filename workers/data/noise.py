"""Normal numbers that are a function of a seed and of where they are: any part of them can be made alone, anywhere.

torch's generators give another stream on a GPU than on a CPU, and a replica would have to draw the whole batch's.
"""

from __future__ import annotations

from math import pi, prod

import torch
from torch import Tensor

ROUNDS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
"""Of SplitMix64's finaliser (Steele et al. 2014), whose products wrap around."""

BITS = 24
"""Of a uniform number, which float32 holds exactly."""


def normal(seed: int, places: Tensor, like: Tensor) -> Tensor:
    """Standard normal numbers in the shape, layout and type of the batch `like`, whose images have these places [B]."""
    device, count = like.device, prod(like.shape[1:])
    pairs = -(-count // 2)
    first = (places.to(device) * pairs + seed % 2**62)[:, None]
    hashes = _scrambled(first + torch.arange(pairs, device=device))
    low = 2**BITS - 1
    # Never 0, so that the logarithm is finite.
    radius = ((hashes >> (64 - BITS) & low).float() + 0.5).mul_(2.0**-BITS).log_().mul_(-2.0).sqrt_()
    angle = (hashes & low).float().mul_(2 * pi * 2.0**-BITS)
    values = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :count]
    return torch.empty_like(like).copy_(values.reshape(like.shape))


def _scrambled(values: Tensor) -> Tensor:
    """SplitMix64 of int64; shifts are logical, so the sign that an arithmetic one brings in is masked away."""
    for shift, factor in ROUNDS:
        values = (values ^ (values >> shift & (2 ** (64 - shift) - 1))) * factor
    return values ^ (values >> 31 & (2**33 - 1))
