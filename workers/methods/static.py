"""A random sparse network whose mask is fixed before training."""

from __future__ import annotations

from collections.abc import Sequence

from prunesweep.workers.accounting import Forward
from prunesweep.workers.allocation import RandomAllocation, random_counts
from prunesweep.workers.methods.base import Method, hyperparameter
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.seeding import derive
from prunesweep.workers.selection import drawn_masks, kept

START = "how many weights each layer starts with: by ERK, the same fraction, or all of the first layer's"
"""What the hyperparameter `allocation` means for masks that are drawn before training."""


class Static(Method):
    """A random mask, drawn before training and held: the control of RigL and SET (Evci et al. 2020, section 4).

    The weights of each layer that are kept are drawn uniformly by the trial's seed. With `erk` and `uniform` exactly
    n - round(s n) of all are kept; with `first_dense` the first layer is dense and all others have sparsity s, so that
    the network's own is a little lower.

    Values: ERK; `first_dense` is what the tables of Evci et al. call uniform.

    Cost per step: one multiplication of the gradients with the mask.
    """

    not_from_trained = "it draws its mask at random, whatever the weights are, before it trains; take gmp or snip"

    allocation: RandomAllocation = hyperparameter(START, "erk")

    def forward_passes(self, forward: Forward) -> Sequence[float]:
        """The masks have as many weights of each layer from the first iteration on."""
        return forward.held()


class StaticPruner(Pruner, method=Static):
    """A mask from the first iteration to the last; `counts` are the weights that it keeps of each layer."""

    method: Static

    def __init__(self, method: Static, setup: Setup) -> None:
        super().__init__(method, setup)
        total = kept(sum(weight.numel() for weight in self.weights), self.sparsity)
        self.counts = random_counts(self.weights, total, self.sparsity, method.allocation)
        self.hold(drawn_masks(self.weights, self.counts, derive(self.seed, "mask")))
