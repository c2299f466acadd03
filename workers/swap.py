"""A model that computes with other values than those its parameters hold, and the gradients that it then leaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from prunesweep.workers.flat import Flat
from prunesweep.workers.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter


@contextmanager
def swapped(weights: Sequence[Parameter], values: Sequence[Tensor]) -> Iterator[None]:
    """Inside it the weights are these values, in the same layout; what a backward pass finds is the gradient there.

    No value is copied, and autograd is not involved: gradients of the values land in the weights' `grad`, as a
    straight-through estimator has them.
    """
    own = [weight.data for weight in weights]
    _assign(weights, values)
    try:
        yield
    finally:
        _assign(weights, own)


def masked(weights: Sequence[Parameter], masks: Sequence[Tensor], sparse: Flat) -> AbstractContextManager[None]:
    """Inside it the weights are their product with the masks, which is left in `sparse`.

    On an accelerator in two multi-tensor operations: launches cost more there than a pass over the weights.
    """
    if sparse.whole.device.type != "cpu":
        sparse.fill(weights)
        torch._foreach_mul_(sparse.views, list(masks))
        return swapped(weights, sparse.views)
    for weight, mask, out in zip(weights, masks, sparse.views, strict=True):
        torch.mul(weight.detach(), mask, out=out)
    return swapped(weights, sparse.views)


def gradients(weights: Sequence[Parameter]) -> list[Tensor]:
    """Of each weight; zeros, which are nowhere stored, for a weight that the loss does not depend on."""
    return [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]


def _assign(weights: Sequence[Parameter], values: Sequence[Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.data = value
