"""Exact selection on an accelerator, with nothing read back: the host never waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunesweep.workers.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from prunesweep.workers.flat import Runs


def keep_largest(scores: Tensor, k: int, runs: Runs | None) -> None:
    """Replace scores [n], none negative, by 1 for the k largest and 0 for the others; 0 < k < n.

    On ties the lowest row-major index wins, as in `workers.selection.largest`; `runs` are the buffer's (`Flat.runs`).
    NaN are the largest scores of all.

    Floats that are not negative are ordered as their bits are, and torch finds the k-th largest integer digit by digit
    (a radix selection, in as many passes as it has bytes). What is larger is kept; of what is equal, as much as there
    is room for. All counts stay on the device.
    """
    bits = scores.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[scores.element_size()])
    least, n = _least_kept(bits, k), bits.numel()
    above, ties = bits > least, bits == least
    count = ties.cumsum(0, dtype=torch.int32 if n < 2**31 else torch.int64)
    needed = (k - above.sum()).to(count.dtype).view(1)
    scores.copy_(above.logical_or_(ties.logical_and(count <= needed)))
    if runs is not None:
        _settle(scores, ties, count, needed, runs)


def _least_kept(bits: Tensor, k: int) -> Tensor:
    """The k-th largest, from the side on which there are fewer."""
    rest = bits.numel() - k + 1
    if k <= rest:
        return bits.topk(k, sorted=False).values.amin()
    return bits.topk(rest, largest=False, sorted=False).values.amax()


def _settle(mask: Tensor, ties: Tensor, count: Tensor, needed: Tensor, runs: Runs) -> None:
    """Choose among the ties of one run by row-major order: the run in which the places that are left are used up.

    Runs stand in row-major order themselves, so that those before it keep all of their ties, and those behind it none,
    whatever the order within. `count` [n] numbers the ties in the order of memory, `needed` [1] of them are kept.
    """
    last = torch.searchsorted(count, needed)
    tensor = torch.searchsorted(runs.starts, last, right=True) - 1
    first, length = runs.starts[tensor], runs.lengths[tensor]
    start = first + (last - first) // length * length
    inside = runs.offset < length
    places = torch.where(inside, start + runs.offset, start)
    digits = runs.offset[:, None] // runs.strides[tensor] % runs.sizes[tensor]
    spare = len(runs.offset)  # where what is outside the run is put
    index = torch.where(inside, (digits * runs.steps[tensor]).sum(1), spare)
    mine = ties[places].logical_and_(inside)
    before = count[start] - ties[start].to(count.dtype)
    flags = torch.zeros(spare + 1, dtype=count.dtype, device=count.device).scatter_(0, index, mine.to(count.dtype))
    kept = flags.cumsum(0, dtype=count.dtype)[index] <= needed - before
    settled = torch.where(mine, kept.to(mask.dtype), mask[places])
    mask.index_copy_(0, places, torch.where(inside, settled, settled[0]))
