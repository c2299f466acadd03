"""Dynamic pruning with feedback."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunesweep.workers.allocation import Allocation
from prunesweep.workers.methods import gradual
from prunesweep.workers.methods.base import ALLOCATION, Method, hyperparameter
from prunesweep.workers.spec import TrialSpec

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(kw_only=True)
class DPF(Method):
    """Dynamic pruning with feedback (Lin et al. 2020, section 3).

    Forward and backward pass see w m; the gradient there is applied to the stored w, which is never zeroed:
    w <- w - lr g(w m). The mask m keeps the largest |w| at the current sparsity of GMP's cubic, and is recomputed
    every `mask_interval` iterations; the final mask is that of the final weights.

    Values: the mask every 16 iterations (Lin et al. 2020); sparsity grows with GMP's interval.
    The code of Zimmer et al. also recomputes the mask at the end of an epoch at which sparsity grows; here the new
    sparsity takes effect with the next multiple of `mask_interval`.

    Cost per step: one multiplication of the weights with the mask; one selection every `mask_interval` steps.
    """

    pruning_interval: int = hyperparameter("epochs between increases of sparsity", 2, ge=1)
    mask_interval: int = hyperparameter("iterations between two masks", 16, ge=1)
    allocation: Allocation = hyperparameter(ALLOCATION, "global")

    def check(self, trial: TrialSpec) -> None:
        """Sparsity grows at least once before the last interval."""
        gradual.check_interval(self.pruning_interval, trial)

    def attach(self, model: Module, sparsity: float, epochs: int, iterations: int) -> None:
        """With buffers for the masks and the sparse weights."""
        from prunesweep.workers.flat import Flat

        super().attach(model, sparsity, epochs, iterations)
        like = list(self.weights.values())
        self.buffer, self.sparse = Flat.like(like), Flat.like(like)

    def view(self) -> AbstractContextManager[None]:
        """The weights that the mask keeps."""
        from prunesweep.workers.swap import masked

        if self.masks is None:
            return nullcontext()
        return masked(list(self.weights.values()), self.masks, self.sparse)

    def adjust_gradients(self) -> None:
        """All weights get their gradient, masked or not: that is the feedback."""

    def after_step(self) -> None:
        """A new mask every `mask_interval` iterations."""
        if self.iteration % self.mask_interval == 0:
            epoch = self.iteration // self.iterations
            self._select(gradual.sparsity_after(epoch, self.sparsity, self.epochs, self.pruning_interval))

    def finalize(self) -> bool:
        """Prune the final weights by their own mask."""
        self._select(self.sparsity)
        self.hold(self.buffer.views)
        return True

    def _select(self, sparsity: float) -> None:
        from prunesweep.workers.selection import magnitude_masks

        self.masks = magnitude_masks(list(self.weights.values()), sparsity, self.allocation, self.buffer).views
