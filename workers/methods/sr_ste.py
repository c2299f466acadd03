"""N:M sparsity by a sparse-refined straight-through estimator."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import compress
from typing import ClassVar

from prunesweep.workers.accounting import Forward, straight_through
from prunesweep.workers.allocation import Pattern
from prunesweep.workers.errors import SpecError
from prunesweep.workers.flat import Flat
from prunesweep.workers.lazy import torch
from prunesweep.workers.methods.base import Method, hyperparameter
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.patterns import divides, grouped_buffer, keep_in_groups, parsed, pattern_masks, require_divided
from prunesweep.workers.spec import TrialSpec
from prunesweep.workers.swap import gradients, masked


class SRSTE(Method):
    """N:M sparsity by a sparse-refined straight-through estimator (Zhou et al. 2021, section 3).

    Of every M consecutive weights along the input dimension (of a convolution: input channels at one kernel position)
    the forward pass sees the N of largest magnitude. The gradient there is applied to all weights, and that of the
    pruned ones gains `refinement` w. At the end the mask of the final weights is applied. Layers whose input dimension
    M does not divide stay dense and are named in the log; the pattern takes the place of a sparsity.

    Values: refinement 2e-4; 2:4, 1:4, 2:8, 4:8, 1:16 (authors).
    The authors' code keeps ResNet-50's classifier dense, and prunes its first convolution, of 3 channels, in groups
    that run over kernel positions.

    Cost per step: one selection within the groups, one multiplication of the weights with the mask and one multiply-add
    of the gradients.
    """

    takes_sparsity: ClassVar[bool] = False
    needs_gradients = True

    pattern: Pattern = hyperparameter("N:M, how many of how many consecutive weights are kept, such as 2:4")
    refinement: float = hyperparameter("factor of pruned weights in their gradient", 2e-4, ge=0)

    def check(self, trial: TrialSpec) -> None:
        """The pattern is one."""
        try:
            parsed(self.pattern)
        except ValueError as error:
            raise SpecError("pattern", str(error)) from error

    def forward_passes(self, forward: Forward) -> Sequence[float]:
        """The masks have as many weights of each layer from the first iteration on."""
        return forward.held()

    def multiply_adds(self, dense: float, sparse: float) -> float:
        """2 f_S + f_D: the gradients of the weights are dense."""
        return straight_through(dense, sparse)


class SRSTEPruner(Pruner, method=SRSTE):
    """What SR-STE does, on the weights that the pattern divides, with buffers for their masks and sparse values."""

    method: SRSTE

    def __init__(self, method: SRSTE, setup: Setup) -> None:
        super().__init__(method, setup)
        self.n, self.m = parsed(method.pattern)
        self.divided = [weight for weight in self.weights if divides(self.m, weight)]
        require_divided(self.names, self.weights, method.pattern)
        self.kept, self.sparse = grouped_buffer(self.divided), Flat.like(self.divided)

    def view(self) -> AbstractContextManager[None]:
        """The largest weights of each group as they are now."""
        keep_in_groups(self.divided, self.n, self.m, self.kept)
        return masked(self.divided, self.kept.views, self.sparse)

    def adjust_gradients(self) -> None:
        """All weights keep theirs, and those that the last view pruned gain `refinement` w."""
        self.kept.whole.neg_().add_(1.0)  # the next view makes it anew
        trained = [weight.requires_grad for weight in self.divided]
        weights, pruned = list(compress(self.divided, trained)), list(compress(self.kept.views, trained))
        if weights:
            values = [weight.detach() for weight in weights]
            torch._foreach_addcmul_(gradients(weights), values, pruned, value=self.method.refinement)

    def finalize(self) -> bool:
        """The weights that the last view saw: the same function."""
        self.hold(pattern_masks(self.weights, self.n, self.m))
        return False
