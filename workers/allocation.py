"""How many weights each layer keeps at a sparsity of the whole network. Light to import: no torch."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, NewType

from prunesweep.workers.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Allocation = Literal["global", "uniform", "erk", "lamp"]
"""`global` ranks all weights together, `uniform` keeps the same fraction of every layer, `erk` (Erdos-Renyi kernel;
Evci et al. 2020, section 3) a fraction proportional to the sum of a layer's dimensions over their product, `lamp` (Lee
et al. 2021, section 2) ranks w^2 / sum of the squares of its layer's weights that are no smaller than w."""


RandomAllocation = Literal["erk", "uniform", "first_dense"]
"""Of masks that are drawn before training; `first_dense` is what Evci et al. call uniform: the first layer is dense,
every other one is at the target sparsity, and the network's own is lower."""


Pattern = NewType("Pattern", str)
"""N:M, such as 2:4: of every M consecutive weights along the input dimension N are kept (`workers.patterns`)."""


def layer_counts(weights: Sequence[Tensor], total: int, allocation: str) -> list[int]:
    """Weights to keep in each layer, `total` in all: `uniform` or `erk`.

    No layer keeps more weights than it has that are not zero, so that what is pruned stays pruned; where a layer is
    full the others share what is left. Fractions are rounded by the largest remainders, ties to the first layer.
    """
    nonzero: list[int] = torch.stack([w.detach().count_nonzero() for w in weights]).tolist()
    room = nonzero if sum(nonzero) >= total else [w.numel() for w in weights]
    return apportion(_shares(weights, allocation), room, total)


def random_counts(weights: Sequence[Tensor], total: int, sparsity: float, allocation: str) -> list[int]:
    """Weights that each layer of a network keeps which is sparse from the start, whatever their values.

    `uniform` and `erk` keep `total` in all; `first_dense` does not, it keeps n - round(s n) of every other layer's n.
    """
    sizes = [w.numel() for w in weights]
    if allocation == "first_dense":
        return [sizes[0], *(size - round(sparsity * size) for size in sizes[1:])]
    return apportion(_shares(weights, allocation), sizes, total)


def _shares(weights: Sequence[Tensor], allocation: str) -> list[int]:
    return [w.numel() if allocation == "uniform" else sum(w.shape) for w in weights]


def apportion(shares: Sequence[int], room: Sequence[int], total: int) -> list[int]:
    """Whole numbers in proportion to `shares`, each at most its `room`, that add up to `total`."""
    full: set[int] = set()
    while True:
        rest = total - sum(room[i] for i in full)
        scale = Fraction(rest, sum(share for i, share in enumerate(shares) if i not in full) or 1)
        quotas = [Fraction(room[i]) if i in full else scale * share for i, share in enumerate(shares)]
        over = {i for i, quota in enumerate(quotas) if i not in full and quota >= room[i]}
        if not over:
            break
        full |= over
    counts = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - quotas[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def lamp_scores(weights: Sequence[Tensor]) -> list[Tensor]:
    """LAMP's scores in float64; equal magnitudes of a layer get falling scores in row-major order."""
    return [_lamp(w.detach().double().square().flatten()).view(w.shape) for w in weights]


def _lamp(squares: Tensor) -> Tensor:
    ordered, index = squares.sort(descending=True, stable=True)
    ranked = torch.where(ordered > 0, ordered / ordered.cumsum(0), 0.0)
    return torch.empty_like(squares).index_copy_(0, index, ranked)
