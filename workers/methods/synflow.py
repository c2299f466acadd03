"""Iterative synaptic flow pruning."""

from __future__ import annotations

from collections.abc import Sequence

from prunesweep.workers.accounting import TRAINING, Forward
from prunesweep.workers.flat import Flat
from prunesweep.workers.methods.base import Method, hyperparameter
from prunesweep.workers.methods.initial import Batches, InitialPruner
from prunesweep.workers.selection import kept, largest


class SynFlow(Method):
    """Iterative synaptic flow pruning (Tanaka et al. 2020, section 6): at initialisation, and without data.

    In round r of `rounds` R the weights with the largest |w dF/dw| are kept, over all layers together, so many that
    the density is d^(r/R), d = 1 - s; the last round keeps n - round(s n). F is the sum of the outputs for an input of
    ones, of the network so far in evaluation mode, where all parameters and running statistics are replaced by their
    absolute values. Then ordinary training with the last mask.

    Values: 100 rounds (authors). Scores are in float64: in deep networks float32 overflows.

    Cost per step: one multiplication of the gradients with the mask.
    """

    needs_images = True

    rounds: int = hyperparameter("rounds in which the mask is found", 100, ge=1, le=10_000)

    def forward_passes(self, forward: Forward) -> Sequence[float]:
        """The masks have as many weights of each layer from the first iteration on."""
        return forward.held()

    def preparation(self, classes: int) -> float:
        """A forward and backward pass of one image in each round, taken for dense."""
        return TRAINING * self.rounds


class SynFlowPruner(InitialPruner, method=SynFlow):
    """What SynFlow does before training."""

    method: SynFlow

    def choose(self, batches: Batches, k: int, masks: Flat) -> None:
        """Round by round; of the batches only the shape of an image is looked at."""
        from prunesweep.workers import scores  # loads torch

        images, _ = next(iter(batches))
        weights = dict(zip(self.names, self.weights, strict=True))
        masks.whole.fill_(1.0)
        for number in range(1, self.method.rounds + 1):
            density = (1 - self.sparsity) ** (number / self.method.rounds)
            keep = k if number == self.method.rounds else kept(masks.whole.numel(), 1 - density)
            largest(scores.flow(self.model, weights, masks.views, images[:1]), keep, masks)
