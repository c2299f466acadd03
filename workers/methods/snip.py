"""Single-shot network pruning."""

from __future__ import annotations

from collections.abc import Sequence

from prunesweep.workers.accounting import TRAINING, Forward
from prunesweep.workers.flat import Flat
from prunesweep.workers.methods.base import Method, hyperparameter
from prunesweep.workers.methods.initial import Batches, InitialPruner
from prunesweep.workers.selection import largest

IMAGES = "images of each class, on which weights are scored"
"""What the hyperparameter `images_per_class` means."""


class SNIP(Method):
    """Single-shot network pruning based on connection sensitivity (Lee et al. 2019, section 4).

    Before training the n - round(s n) weights with the largest |w dL/dw| are kept, over all layers together; then
    ordinary training with this mask. L is the mean cross-entropy of one batch that has `images_per_class` training
    images of each class, in training mode; running statistics stay as they were.

    Values: 10 images of each class in later code; the paper takes one batch of 100 or 128 images.
    The authors' code initialises the weights for the scores otherwise than for the training, and scores in evaluation
    mode. More than 256 images go through the network one part after another.

    Cost per step: one multiplication of the gradients with the mask.
    """

    needs_classification = True

    images_per_class: int = hyperparameter(IMAGES, 10, ge=1)

    def forward_passes(self, forward: Forward) -> Sequence[float]:
        """The masks have as many weights of each layer from the first iteration on."""
        return forward.held()

    def preparation(self, classes: int) -> float:
        """One forward and backward pass of the batch."""
        return TRAINING * self.images_per_class * classes


class SNIPPruner(InitialPruner, method=SNIP):
    """What SNIP does before training."""

    method: SNIP

    def choose(self, batches: Batches, k: int, masks: Flat) -> None:
        """The largest |w dL/dw|."""
        from prunesweep.workers import scores  # loads torch

        batch = scores.of_each_class(self.model, batches, self.method.images_per_class)
        largest(self.weights, k, masks, times=scores.gradients(self.model, self.weights, batch))
