"""N:M sparsity: of every M consecutive weights along the input dimension, N are kept."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prunesweep.workers.errors import UserError
from prunesweep.workers.flat import BLOCK, Flat
from prunesweep.workers.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("prunesweep")

COMPARED = 8
"""In groups of up to so many weights each is compared with each; larger ones are sorted."""


def parsed(pattern: str) -> tuple[int, int]:
    """N and M of `N:M`; raises `ValueError` with what is allowed."""
    numbers = re.fullmatch(r"([1-9][0-9]{0,3}):([1-9][0-9]{0,3})", pattern)
    n, m = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if not 0 < n < m:
        raise ValueError(
            f'"{pattern}" is no pattern: N:M keeps N of every M weights, N below M, such as "2:4" or "1:4"'
        )
    return n, m


def is_pattern(allocation: str) -> bool:
    """Whether an allocation is a pattern N:M, right or wrong, and no name."""
    return ":" in allocation


def divides(m: int, weight: Tensor) -> bool:
    """Whether the weight is made of whole groups: its second dimension is the input's, of a group's channels."""
    return weight.shape[1] % m == 0


def grouped_buffer(weights: Sequence[Tensor]) -> Flat:
    """Room for these weights with the input dimension innermost, where groups stand one after the other."""
    shapes = [weight.detach().movedim(1, -1) for weight in weights]
    return Flat.like([torch.empty(s.shape, dtype=s.dtype, device=s.device).movedim(-1, 1) for s in shapes])


def keep_in_groups(weights: Sequence[Tensor], n: int, m: int, buffer: Flat) -> None:
    """Set the buffer (of `grouped_buffer`) to 1 at the n largest |w| of each group of m, and to 0 elsewhere.

    On ties the lowest index wins. The host does not wait for an accelerator; a NaN is no larger than anything.
    """
    whole = buffer.fill(weights)
    size = BLOCK // m * m or m
    for part in torch.split(whole, size) if whole.device.type == "cpu" else [whole]:
        groups = part.view(-1, m)
        ranks = _compared(groups) if m <= COMPARED else _sorted(groups)
        groups.copy_(ranks < n)


def pattern_masks(weights: Sequence[Tensor], n: int, m: int, masks: Flat | None = None) -> Flat:
    """Masks that keep the n largest |w| of each group of m, and all of a weight that is not made of whole groups.

    `masks` is overwritten if given.
    """
    masks = masks or Flat.like(weights)
    masks.whole.fill_(1.0)
    divided = [(weight, mask) for weight, mask in zip(weights, masks.views, strict=True) if divides(m, weight)]
    own = grouped_buffer([weight for weight, _ in divided])
    keep_in_groups([weight for weight, _ in divided], n, m, own)
    for (_, mask), kept in zip(divided, own.views, strict=True):
        mask.copy_(kept)
    return masks


def require_divided(names: Sequence[str], weights: Sequence[Tensor], allocation: str) -> None:
    """Where the allocation is a pattern: log which weights stay dense, and raise `UserError` where all do."""
    if not is_pattern(allocation):
        return
    _, m = parsed(allocation)
    others = [name for name, weight in zip(names, weights, strict=True) if not divides(m, weight)]
    if len(others) == len(names):
        raise UserError(f"{allocation} fits no layer: {m} divides none of their input dimensions")
    if others:
        log.warning("%s does not divide the inputs of %s: dense", allocation, ", ".join(others))


def _compared(groups: Tensor) -> Tensor:
    """How many of its group rank before each weight, [groups, m]."""
    magnitudes = groups.abs().t().contiguous()
    ranks = torch.zeros_like(magnitudes, dtype=torch.int8)
    for i in range(1, len(magnitudes)):
        before = magnitudes[:i] >= magnitudes[i]
        ranks[i] += before.sum(0, dtype=torch.int8)
        ranks[:i] += ~before
    return ranks.t()


def _sorted(groups: Tensor) -> Tensor:
    return groups.abs().argsort(dim=1, descending=True, stable=True).argsort(dim=1)
