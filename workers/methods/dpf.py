"""Dynamic pruning with feedback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import get_args

from prunesweep.workers.accounting import straight_through
from prunesweep.workers.allocation import Allocation, Pattern
from prunesweep.workers.errors import UserError
from prunesweep.workers.flat import Flat
from prunesweep.workers.methods import gradual
from prunesweep.workers.methods.base import ALLOCATION, Method, hyperparameter
from prunesweep.workers.methods.grouped import PATTERN, check_allocation, pattern_level
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.patterns import require_divided
from prunesweep.workers.selection import magnitude_masks
from prunesweep.workers.spec import TrialSpec
from prunesweep.workers.swap import masked


class DPF(Method):
    """Dynamic pruning with feedback (Lin et al. 2020, section 3).

    Forward and backward pass see w m; the gradient there is applied to the stored w, which is never zeroed:
    w <- w - lr g(w m). The mask m keeps the largest |w| at the current sparsity of GMP's cubic, and is recomputed
    every `mask_interval` iterations; the final mask is that of the final weights. With the allocation N:M each group of
    M keeps M - round(s_t M), which ends at N.

    Values: the mask every 16 iterations (Lin et al. 2020); sparsity grows with GMP's interval.
    The code of Zimmer et al. also recomputes the mask at the end of an epoch at which sparsity grows; here the new
    sparsity takes effect with the next multiple of `mask_interval`.

    Cost per step: one multiplication of the weights with the mask; one selection every `mask_interval` steps.
    """

    pruning_interval: int = hyperparameter("epochs between increases of sparsity", 2, ge=1)
    mask_interval: int = hyperparameter("iterations between two masks", 16, ge=1)
    allocation: Allocation | Pattern = hyperparameter(ALLOCATION + PATTERN, "global")

    def levels(self, sparsity: float | None) -> Iterator[tuple[float | None, Method]]:
        """A pattern has a sparsity of its own."""
        yield pattern_level(self.allocation, sparsity), self

    def check(self, trial: TrialSpec) -> None:
        """Sparsity grows at least once before the last interval."""
        check_allocation(self.allocation, get_args(Allocation), trial.sparsity)
        gradual.check_interval(self.pruning_interval, trial)

    def multiply_adds(self, dense: float, sparse: float) -> float:
        """2 f_S + f_D: the gradients of the weights are dense."""
        return straight_through(dense, sparse)


class DPFPruner(Pruner, method=DPF):
    """What DPF does, with buffers for the masks and the sparse weights."""

    method: DPF
    holds_masks = False

    def __init__(self, method: DPF, setup: Setup) -> None:
        super().__init__(method, setup)
        require_divided(self.names, self.weights, method.allocation)
        total = self.epochs * self.iterations
        if method.mask_interval >= total:
            raise UserError(
                f"mask_interval: {method.mask_interval} iterations are not over before the last of {total}, so that "
                "none sees a sparse network; take fewer"
            )
        self.buffer, self.sparse = Flat.like(self.weights), Flat.like(self.weights)

    def view(self) -> AbstractContextManager[None]:
        """The weights that the mask keeps."""
        return nullcontext() if self.masks is None else masked(self.weights, self.masks, self.sparse)

    def adjust_gradients(self) -> None:
        """All weights get their gradient, masked or not: that is the feedback."""

    def after_step(self) -> None:
        """A new mask every `mask_interval` iterations."""
        if self.iteration % self.method.mask_interval == 0:
            epoch = self.iteration // self.iterations
            interval = self.method.pruning_interval
            self.masks = self._select(gradual.sparsity_after(epoch, self.sparsity, self.epochs, interval)).views

    def finalize(self) -> bool:
        """Prune the final weights by their own mask."""
        self.hold(self._select(self.sparsity))
        return True

    def _select(self, sparsity: float) -> Flat:
        return magnitude_masks(self.weights, sparsity, self.method.allocation, self.buffer, waiting=False)
