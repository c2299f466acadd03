"""Gradient signal preservation."""

from __future__ import annotations

from collections.abc import Sequence

from prunesweep.workers.accounting import TRAINING, Forward
from prunesweep.workers.flat import Flat
from prunesweep.workers.methods.base import Method, hyperparameter
from prunesweep.workers.methods.initial import Batches, InitialPruner
from prunesweep.workers.methods.snip import IMAGES
from prunesweep.workers.selection import highest


class GraSP(Method):
    """Gradient signal preservation (Wang et al. 2020, section 4).

    Before training the n - round(s n) weights with the smallest -w (H g) are kept, over all layers together: those
    without which the norm of the gradient g would fall most. H is the Hessian. Both are of the mean cross-entropy,
    with logits divided by 200, of one batch that has `images_per_class` training images of each class, in training
    mode; running statistics stay as they were. Then ordinary training with this mask.

    Values: 10 images of each class (authors).
    The authors' code takes several batches of some runs in turn. More than 256 images go through the network one part
    after another here.

    Cost per step: one multiplication of the gradients with the mask.
    """

    needs_classification = True

    images_per_class: int = hyperparameter(IMAGES, 10, ge=1)

    def forward_passes(self, forward: Forward) -> Sequence[float]:
        """The masks have as many weights of each layer from the first iteration on."""
        return forward.held()

    def preparation(self, classes: int) -> float:
        """A gradient, and the gradient of a gradient, which is three more."""
        return 4 * TRAINING * self.images_per_class * classes


class GraSPPruner(InitialPruner, method=GraSP):
    """What GraSP does before training."""

    method: GraSP

    def choose(self, batches: Batches, k: int, masks: Flat) -> None:
        """The highest w (H g), with its sign."""
        from prunesweep.workers import scores  # loads torch

        batch = scores.of_each_class(self.model, batches, self.method.images_per_class)
        products = scores.curvature(self.model, self.weights, batch, scores.TEMPERATURE)
        highest([w.detach() * p for w, p in zip(self.weights, products, strict=True)], k, masks)
