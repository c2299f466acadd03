"""Global sparse momentum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prunesweep.workers.accounting import Forward
from prunesweep.workers.errors import SpecError
from prunesweep.workers.flat import Flat
from prunesweep.workers.methods.base import Method, hyperparameter
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.selection import apply_masks, kept, largest, magnitude_masks
from prunesweep.workers.spec import Stage, TrialSpec
from prunesweep.workers.swap import gradients


class GSM(Method):
    """Global sparse momentum SGD (Ding et al. 2019, section 3.3).

    At every iteration the n - round(s n) prunable weights with the largest |w dL/dw| keep the gradient of the loss; the
    others get none and shrink by weight decay alone. Biases and normalisation always get theirs. At the end the
    smallest weights are pruned by magnitude.

    What is not updated is to shrink by momentum alone, so that all optimizers but SGD are refused: they divide by the
    root of the mean of squares, which of a weight without gradients tends to zero.

    Values: momentum 0.98 for ResNet-56 on CIFAR-10 (Ding et al.); 0.9 to 0.99 (Zimmer et al.).
    The authors' code starts from a trained network, ranks linear and convolution weights and keeps more than k on ties;
    that of Zimmer et al. ranks biases and normalisation too.

    Cost per step: one selection among all weights, and one multiplication of the gradients with the mask.
    """

    needs_gradients = True

    momentum: float | None = hyperparameter("momentum of SGD (default: train.momentum)", None, ge=0, lt=1)

    def check(self, trial: TrialSpec) -> None:
        """It is a way to use SGD's momentum."""
        if trial.train.optimizer != "sgd":
            raise SpecError(
                "train.optimizer",
                f"gsm is a way to use the momentum of SGD, and {trial.train.optimizer} divides by the root of the mean "
                "of squares, which tends to zero where there is no gradient; train it with sgd",
            )

    def stage(self, trial: TrialSpec) -> Stage:
        """One training, with the method's momentum."""
        momentum = trial.train.momentum if self.momentum is None else self.momentum
        train = replace(trial.train, momentum=momentum)
        return trial.root(train=train)

    def forward_passes(self, forward: Forward) -> Sequence[float]:
        """All weights train until the end, so that all of it is dense."""
        return [forward.dense] * len(forward.after)


class GSMPruner(Pruner, method=GSM):
    """What GSM does, with a buffer for the mask of the weights that train."""

    def __init__(self, method: GSM, setup: Setup) -> None:
        super().__init__(method, setup)
        self.active = Flat.like(self.trained)
        self.k = min(kept(sum(w.numel() for w in self.weights), self.sparsity), self.active.whole.numel())

    def adjust_gradients(self) -> None:
        """Only the k most salient weights keep their gradient."""
        of_loss = gradients(self.trained)
        largest(self.trained, self.k, self.active, times=of_loss, waiting=False)
        apply_masks(of_loss, self.active.views)

    def finalize(self) -> bool:
        """Prune by magnitude to the target."""
        self.hold(magnitude_masks(self.weights, self.sparsity))
        return True
