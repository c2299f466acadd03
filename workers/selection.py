"""Which weights are pruned: exact selection, over all layers or layer by layer, and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import TYPE_CHECKING

from prunesweep.workers.allocation import lamp_scores, layer_counts
from prunesweep.workers.flat import BLOCK, Flat, memory
from prunesweep.workers.lazy import np, torch
from prunesweep.workers.patterns import is_pattern, parsed, pattern_masks
from prunesweep.workers.radix import keep_largest

if TYPE_CHECKING:
    from torch import Tensor

SMALL = 1 << 14
"""Up to here every score is a candidate: a sample would not pay."""

DEVIATIONS = 4.0
"""Standard errors between the rank looked for and the bracket around it; beyond it the selection is slow, not wrong."""


def kept(count: int, sparsity: float) -> int:
    """How many of `count` weights stay at a sparsity: n - round(s n)."""
    return count - round(sparsity * count)


# --- exactly the k largest


def largest(
    scores: Sequence[Tensor],
    k: int,
    masks: Flat,
    times: Sequence[Tensor] | None = None,
    *,
    waiting: bool = True,
) -> None:
    """Set `masks` to 1 at exactly the k largest |score|, pooled over all tensors, and to 0 elsewhere.

    With `times` the score is |score * times|. On ties the lowest index wins, tensor by tensor in row-major order,
    whatever the memory layout. Raises `FloatingPointError` when there is NaN among the scores. To tell so, the host
    waits for an accelerator: in every iteration of a training it should not, and with `waiting` off NaN count as the
    largest there, and show in the next loss.

    Without a sort. On a CPU in little more than one pass (Floyd & Rivest 1975): a sample gives two values that the k-th
    largest lies between; what is above both is kept, and only the few scores between them are ranked.
    """
    if masks.whole.device.type != "cpu":
        _largest_on_device(scores, k, masks, times, waiting=waiting)
        return
    parts = _parts(scores, times, masks)
    if not 0 < k < masks.whole.numel():
        _require_numbers(parts)
        masks.whole.fill_(float(k > 0))
        return
    candidates = _scan(parts, masks, *_bracket(parts, k, masks.whole.numel()))
    if not candidates.above < k <= candidates.above + len(candidates.values):
        candidates = _scan(parts, masks, -inf, inf)
    _keep(candidates, k - candidates.above, masks)


def _largest_on_device(
    scores: Sequence[Tensor], k: int, masks: Flat, times: Sequence[Tensor] | None, *, waiting: bool
) -> None:
    """In the masks' own buffer, where it has the scores' type."""
    scores = [score.detach() for score in scores]
    if times is not None:
        scores = torch._foreach_mul(scores, [factor.detach() for factor in times])
    held = masks if scores[0].dtype == masks.whole.dtype else Flat.like(masks.views, scores[0].dtype)
    magnitudes = held.fill(scores).abs_()
    if waiting and bool(magnitudes.isnan().any()):
        raise FloatingPointError("cannot rank weights: there are NaN among them")
    if 0 < k < magnitudes.numel():
        keep_largest(magnitudes, k, masks.runs)
    else:
        magnitudes.fill_(float(k > 0))
    if held is not masks:
        masks.whole.copy_(held.whole)


@dataclass(frozen=True)
class _Part:
    """One tensor's scores, |a| or |a b|, in the order of memory."""

    a: Tensor
    b: Tensor | None

    def sample(self, step: int) -> Tensor:
        """The score of every `step`-th element."""
        some = self.a[::step]
        return (some if self.b is None else some * self.b[::step]).abs()


@dataclass(frozen=True)
class _Candidates:
    """How many scores are above a bracket, and those within it with their places in the buffer; NaN count as within.

    The lower end is outside: it may be the zeros of what is pruned already, most of the weights.
    """

    above: int
    values: Tensor
    places: Tensor


def _parts(scores: Sequence[Tensor], times: Sequence[Tensor] | None, masks: Flat) -> list[_Part]:
    factors: Sequence[Tensor | None] = times or [None] * len(scores)
    triples = zip(scores, factors, masks.views, strict=True)
    return [_Part(memory(a, view), None if b is None else memory(b, view)) for a, b, view in triples]


def _require_numbers(parts: Sequence[_Part]) -> None:
    if any(bool(part.sample(1).isnan().any()) for part in parts):
        raise FloatingPointError("cannot rank weights: there are NaN among them")


def _bracket(parts: Sequence[_Part], k: int, n: int) -> tuple[float, float]:
    """Two values between which the k-th largest of n scores very likely lies, by the ranks of n^(2/3) of them."""
    if n <= SMALL:
        return -inf, inf
    step = round(n ** (1 / 3)) | 1  # odd: weights repeat with the powers of two of channels
    sample = torch.cat([part.sample(step) for part in parts])
    size, below = sample.numel(), (n - k) / n
    margin = DEVIATIONS * sqrt(size * below * (1.0 - below)) + 1.0
    first, last = int(size * below - margin), int(size * below + margin) + 1
    low = sample.kthvalue(first).values if first >= 1 else sample.new_tensor(-inf)
    high = sample.kthvalue(last).values if last <= size else sample.new_tensor(inf)
    low_value, high_value = torch.stack([low, high]).tolist()
    return low_value, high_value


def _scan(parts: Sequence[_Part], masks: Flat, low: float, high: float) -> _Candidates:
    """Block by block in the cache, with NumPy: its comparisons are several times as fast as torch's on a CPU."""
    above, start, values, places = 0, 0, [], []
    inside, over = np.empty(BLOCK, bool), np.empty(BLOCK, bool)
    out = masks.whole.numpy()
    for part in parts:
        a, b = part.a.numpy(), None if part.b is None else part.b.numpy()
        scratch = np.empty(BLOCK, a.dtype)
        for i in range(0, len(a), BLOCK):
            m = len(a[i : i + BLOCK])
            score = a[i : i + m] if b is None else np.multiply(a[i : i + m], b[i : i + m], out=scratch[:m])
            score = np.abs(score, out=scratch[:m])
            outside, more = np.less_equal(score, low, out=inside[:m]), np.greater(score, high, out=over[:m])
            out[start : start + m] = more
            above += int(np.count_nonzero(more))
            near = np.flatnonzero(np.equal(outside, more, out=outside))
            values.append(score[near])
            places.append(near + start)
            start += m
    return _Candidates(above, torch.from_numpy(np.concatenate(values)), torch.from_numpy(np.concatenate(places)))


def _keep(candidates: _Candidates, k: int, masks: Flat) -> None:
    """Keep the k largest of the candidates too."""
    if bool(candidates.values.isnan().any()):
        raise FloatingPointError("cannot rank weights: there are NaN among them")
    threshold = candidates.values.kthvalue(len(candidates.values) - k + 1).values
    larger, ties = candidates.places[candidates.values > threshold], candidates.places[candidates.values == threshold]
    needed = k - len(larger)
    if needed < len(ties):
        ties = ties[_row_major(ties, masks).argsort()[:needed]]
    masks.whole.index_fill_(0, torch.cat([larger, ties]), 1.0)


def _row_major(places: Tensor, masks: Flat) -> Tensor:
    """The index that these places of the buffer have when every tensor is read in row-major order."""
    indices, start = places.clone(), 0
    for view in masks.views:
        here = (places >= start) & (places < start + view.numel())
        offset = places[here] - start
        index = torch.zeros_like(offset)
        for size, stride in zip(view.shape, view.stride(), strict=True):
            index = index * size + offset // stride % size
        indices[here] = index + start
        start += view.numel()
    return indices


def highest(scores: Sequence[Tensor], k: int, masks: Flat) -> None:
    """Likewise by the scores with their sign; with a sort, for what is done once in a training."""
    pooled = torch.cat([score.detach().flatten() for score in scores])
    if bool(pooled.isnan().any()):
        raise FloatingPointError("cannot rank weights: there are NaN among them")
    flags = torch.zeros_like(pooled).index_fill_(0, pooled.argsort(descending=True, stable=True)[:k], 1.0)
    parts = torch.split(flags, [score.numel() for score in scores])
    masks.fill([part.view(score.shape) for part, score in zip(parts, scores, strict=True)])


# --- masks of a sparsity


def magnitude_masks(
    weights: Sequence[Tensor],
    sparsity: float,
    allocation: str = "global",
    masks: Flat | None = None,
    *,
    waiting: bool = True,
) -> Flat:
    """Masks that keep the n - round(s n) weights of largest magnitude, distributed over the layers by `allocation`.

    They are 1 and 0 in the weights' own type and layout, so that applying them is one multiplication; `masks` is
    overwritten if given. The allocations are those of `workers.allocation`, and patterns N:M, where each group of M
    keeps M - round(s M) weights (`workers.patterns`); `waiting` is that of `largest`.
    """
    scores = lamp_scores(weights) if allocation == "lamp" else weights
    return _masks(scores, weights, sparsity, allocation, masks, waiting=waiting)


def random_masks(weights: Sequence[Tensor], sparsity: float, seed: int, allocation: str = "global") -> Flat:
    """Masks that keep n - round(s n) weights drawn uniformly from those that are not zero yet, of groups likewise."""
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.rand(w.shape, generator=generator).to(w.device) for w in weights]
    scores = [(1.0 + d) * (w.detach() != 0) for d, w in zip(draws, weights, strict=True)]
    return _masks(scores, weights, sparsity, allocation, None, waiting=True)


def scored_masks(weights: Sequence[Tensor], scores: Sequence[Tensor], sparsity: float, allocation: str) -> Flat:
    """Masks that keep the n - round(s n) weights of the highest scores, those that are zero last."""
    living = [score.where(w.detach() != 0, -inf) for score, w in zip(scores, weights, strict=True)]
    masks, k = Flat.like(weights), kept(sum(w.numel() for w in weights), sparsity)
    if allocation == "global":
        highest(living, k, masks)
        return masks
    for score, part, count in zip(living, masks.parts, layer_counts(weights, k, allocation), strict=True):
        highest([score], count, part)
    return masks


def drawn_masks(weights: Sequence[Tensor], counts: Sequence[int], seed: int) -> Flat:
    """Masks that keep so many weights of each layer, drawn uniformly, whatever the weights are."""
    generator, masks = torch.Generator().manual_seed(seed), Flat.like(weights)
    for weight, part, count in zip(weights, masks.parts, counts, strict=True):
        largest([torch.rand(weight.shape, generator=generator).to(weight.device)], count, part, waiting=False)
    return masks


def drawn_groups(weights: Sequence[Tensor], pattern: str, seed: int) -> Flat:
    """Masks that keep N weights of every group of M, drawn uniformly, and all of a weight that M does not divide."""
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.rand(weight.shape, generator=generator).to(weight.device) for weight in weights]
    return pattern_masks(draws, *parsed(pattern), Flat.like(weights))


def _masks(
    scores: Sequence[Tensor],
    weights: Sequence[Tensor],
    sparsity: float,
    allocation: str,
    masks: Flat | None,
    *,
    waiting: bool,
) -> Flat:
    masks = masks or Flat.like(weights)
    if is_pattern(allocation):
        if waiting and any(bool(score.isnan().any()) for score in scores):
            raise FloatingPointError("cannot rank weights: there are NaN among them")
        _, m = parsed(allocation)
        return pattern_masks(scores, kept(m, sparsity), m, masks)
    k = kept(sum(w.numel() for w in weights), sparsity)
    if allocation in ("global", "lamp"):
        largest(scores, k, masks, waiting=waiting)
        return masks
    for score, part, count in zip(scores, masks.parts, layer_counts(weights, k, allocation), strict=True):
        largest([score], count, part, waiting=waiting)
    return masks


def apply_masks(tensors: Sequence[Tensor | None], masks: Sequence[Tensor]) -> None:
    """Multiply in place, in one multi-tensor operation; a tensor that does not exist yet is passed over."""
    pairs = [(tensor, mask) for tensor, mask in zip(tensors, masks, strict=True) if tensor is not None]
    if pairs:
        with torch.no_grad():
            torch._foreach_mul_([tensor for tensor, _ in pairs], [mask for _, mask in pairs])


def norm_drop(weights: Sequence[Tensor], masks: Sequence[Tensor]) -> float:
    """||W - W_pruned|| / ||W|| over all weights, summed in float64; 0 where W is 0."""
    whole = torch.stack([w.detach().double().square().sum() for w in weights]).sum()
    lost = torch.stack([(w.detach() * (1 - m)).double().square().sum() for w, m in zip(weights, masks, strict=True)])
    return float((lost.sum() / whole).sqrt()) if float(whole) else 0.0
