"""Which weights are pruned: exact global selection, and masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from workers.errors import UserError


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The prunable weights by `state_dict` name: `weight` of every Conv2d and Linear, a shared one once.

    Raises `UserError` for a network without any.
    """
    modules = model.named_modules()
    layers = {f"{name}.weight".lstrip("."): m for name, m in modules if isinstance(m, nn.Conv2d | nn.Linear)}
    if not layers:
        raise UserError(f"{type(model).__name__} has no prunable weights: no Conv2d and no Linear layer")
    found: dict[nn.Parameter, str] = {}
    for name, layer in layers.items():
        found.setdefault(cast(nn.Parameter, layer.weight), name)
    return {name: weight for weight, name in found.items()}


def kept(count: int, sparsity: float) -> int:
    """How many of `count` weights stay at a sparsity: n - round(s n)."""
    return count - round(sparsity * count)


def largest(scores: Tensor, k: int) -> Tensor:
    """Mask (bool, flat) of exactly the k largest scores; on ties the lowest index wins. NaN is an error.

    The k-th largest value is found by selection, in linear time; only scores equal to it need their order.
    """
    if torch.isnan(scores).any():
        raise FloatingPointError("cannot rank weights: there are NaN among them")
    if k == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    threshold = scores.kthvalue(scores.numel() - k + 1).values
    mask = scores > threshold
    ties = (scores == threshold).nonzero().flatten()
    mask[ties[: k - int(mask.sum())]] = True
    return mask


def magnitude_masks(weights: Sequence[Tensor], sparsity: float) -> list[Tensor]:
    """Masks that keep the n - round(s n) weights of largest magnitude, pooled over all layers."""
    return _pooled_masks(weights, [w.detach().abs() for w in weights], sparsity)


def random_masks(weights: Sequence[Tensor], sparsity: float, seed: int) -> list[Tensor]:
    """Masks that keep n - round(s n) weights drawn uniformly from those that are not zero yet."""
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.rand(w.shape, generator=generator).to(w.device) for w in weights]
    return _pooled_masks(
        weights, [(1.0 + d) * (w.detach() != 0) for d, w in zip(draws, weights, strict=True)], sparsity
    )


def apply_masks(tensors: Sequence[Tensor | None], masks: Sequence[Tensor]) -> None:
    """Multiply in place, in one multi-tensor operation; a tensor that does not exist yet is passed over."""
    pairs = [(tensor, mask) for tensor, mask in zip(tensors, masks, strict=True) if tensor is not None]
    if pairs:
        with torch.no_grad():
            torch._foreach_mul_([tensor for tensor, _ in pairs], [mask for _, mask in pairs])


def sparsity(weights: Iterable[Tensor]) -> float:
    """Zeros over n."""
    counts = [(w.numel(), int(torch.count_nonzero(w.detach()))) for w in weights]
    return 1.0 - sum(nonzero for _, nonzero in counts) / sum(n for n, _ in counts)


def norm_drop(weights: Sequence[Tensor], masks: Sequence[Tensor]) -> float:
    """||W - W_pruned|| / ||W|| over all weights, summed in float64."""
    whole = torch.stack([w.detach().double().square().sum() for w in weights]).sum()
    lost = torch.stack([(w.detach() * (1 - m)).double().square().sum() for w, m in zip(weights, masks, strict=True)])
    return float((lost.sum() / whole).sqrt())


def _pooled_masks(weights: Sequence[Tensor], scores: Sequence[Tensor], sparsity: float) -> list[Tensor]:
    """Masks in the weights' own type and layout, so that holding them is one multiplication."""
    flat = largest(torch.cat([score.flatten() for score in scores]), kept(sum(w.numel() for w in weights), sparsity))
    parts = torch.split(flat, [w.numel() for w in weights])
    return [torch.empty_like(w).copy_(p.view(w.shape)).detach() for p, w in zip(parts, weights, strict=True)]
