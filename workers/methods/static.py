"""A random sparse network whose mask is fixed before training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from prunesweep.workers.accounting import Forward
from prunesweep.workers.allocation import Pattern, RandomAllocation, random_counts
from prunesweep.workers.methods.base import Method, hyperparameter
from prunesweep.workers.methods.grouped import PATTERN, check_allocation, pattern_level
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.patterns import is_pattern, require_divided
from prunesweep.workers.seeding import derive
from prunesweep.workers.selection import drawn_groups, drawn_masks, kept
from prunesweep.workers.spec import TrialSpec

START = "how many weights each layer starts with: by ERK, the same fraction, or all of the first layer's"
"""What the hyperparameter `allocation` means for masks that are drawn before training."""


class Static(Method):
    """A random mask, drawn before training and held: the control of RigL and SET (Evci et al. 2020, section 4).

    The weights of each layer that are kept are drawn uniformly by the trial's seed. With `erk` and `uniform` exactly
    n - round(s n) of all are kept; with `first_dense` the first layer is dense and all others have sparsity s, so that
    the network's own is a little lower. With the allocation N:M exactly N are drawn of every M weights along the input
    dimension, and layers that M does not divide are dense.

    Values: ERK; `first_dense` is what the tables of Evci et al. call uniform.

    Cost per step: one multiplication of the gradients with the mask.
    """

    not_from_trained = "it draws its mask at random, whatever the weights are, before it trains; take gmp or snip"

    allocation: RandomAllocation | Pattern = hyperparameter(START + PATTERN, "erk")

    def levels(self, sparsity: float | None) -> Iterator[tuple[float | None, Method]]:
        """A pattern has a sparsity of its own."""
        yield pattern_level(self.allocation, sparsity), self

    def check(self, trial: TrialSpec) -> None:
        """The allocation is one."""
        check_allocation(self.allocation, get_args(RandomAllocation), trial.sparsity)

    def forward_passes(self, forward: Forward) -> Sequence[float]:
        """The masks have as many weights of each layer from the first iteration on."""
        return forward.held()


class StaticPruner(Pruner, method=Static):
    """A mask from the first iteration to the last; `counts` are the weights that it keeps of each layer.

    A pattern has none: no method that moves weights takes one.
    """

    method: Static

    def __init__(self, method: Static, setup: Setup) -> None:
        super().__init__(method, setup)
        seed = derive(self.seed, "mask")
        if is_pattern(method.allocation):
            require_divided(self.names, self.weights, method.allocation)
            self.hold(drawn_groups(self.weights, method.allocation, seed))
            return
        total = kept(sum(weight.numel() for weight in self.weights), self.sparsity)
        self.counts = random_counts(self.weights, total, self.sparsity, method.allocation)
        self.hold(drawn_masks(self.weights, self.counts, seed))
