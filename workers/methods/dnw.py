"""Discovering neural wirings."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunesweep.workers.allocation import Allocation
from prunesweep.workers.methods.base import ALLOCATION, Method, hyperparameter

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(kw_only=True)
class DNW(Method):
    """Discovering neural wirings, as a sparse training method (Wortsman et al. 2019, sections 3 and 4.4).

    At every iteration the forward pass sees only the k weights of largest magnitude; the gradient there is applied to
    all weights, as if the selection were the identity. From the first iteration on at the target sparsity.

    Values: no hyperparameters beyond the selection.
    The authors' code selects layer by layer (`allocation: uniform`), and keeps the first layer dense in some runs; that
    of Zimmer et al. compares with a threshold, so that ties are lost.

    Cost per step: one selection among all weights, and one multiplication of the weights with the mask.
    """

    allocation: Allocation = hyperparameter(ALLOCATION, "global")

    def attach(self, model: Module, sparsity: float, epochs: int, iterations: int) -> None:
        """With buffers for the masks and the sparse weights."""
        from prunesweep.workers.flat import Flat

        super().attach(model, sparsity, epochs, iterations)
        like = list(self.weights.values())
        self.buffer, self.sparse = Flat.like(like), Flat.like(like)

    def view(self) -> AbstractContextManager[None]:
        """The largest weights as they are now."""
        from prunesweep.workers.selection import magnitude_masks
        from prunesweep.workers.swap import masked

        weights = list(self.weights.values())
        masks = magnitude_masks(weights, self.sparsity, self.allocation, self.buffer)
        return masked(weights, masks.views, self.sparse)

    def finalize(self) -> bool:
        """The weights that the last view saw: the same function."""
        from prunesweep.workers.selection import magnitude_masks

        weights = list(self.weights.values())
        self.hold(magnitude_masks(weights, self.sparsity, self.allocation, self.buffer).views)
        return False
