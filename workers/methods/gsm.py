"""Global sparse momentum."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prunesweep.workers.methods.base import Method, hyperparameter
from prunesweep.workers.spec import Stage, TrainStage, TrialSpec

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(kw_only=True)
class GSM(Method):
    """Global sparse momentum SGD (Ding et al. 2019, section 3.3).

    At every iteration the n - round(s n) prunable weights with the largest |w dL/dw| keep the gradient of the loss; the
    others get none and shrink by weight decay alone. Biases and normalisation always get theirs. At the end the
    smallest weights are pruned by magnitude.

    Values: momentum 0.98 for ResNet-56 on CIFAR-10 (Ding et al.); 0.9 to 0.99 (Zimmer et al.).
    The authors' code starts from a trained network, ranks linear and convolution weights and keeps more than k on ties;
    that of Zimmer et al. ranks biases and normalisation too.

    Cost per step: one selection among all weights, and one multiplication of the gradients with the mask.
    """

    momentum: float | None = hyperparameter("momentum of SGD (default: train.momentum)", None, ge=0, lt=1)

    def stage(self, trial: TrialSpec) -> Stage:
        """One training, with the method's momentum."""
        momentum = trial.train.momentum if self.momentum is None else self.momentum
        train = replace(trial.train, momentum=momentum)
        return TrainStage(trial.dataset, trial.model, trial.method, trial.seed, trial.sparsity, train)

    def attach(self, model: Module, sparsity: float, epochs: int, iterations: int) -> None:
        """With a buffer for the mask of the weights that train."""
        from prunesweep.workers.flat import Flat
        from prunesweep.workers.selection import kept

        super().attach(model, sparsity, epochs, iterations)
        self.training = [weight for weight in self.weights.values() if weight.requires_grad]
        self.active = Flat.like(self.training)
        self.k = min(kept(sum(w.numel() for w in self.weights.values()), sparsity), self.active.whole.numel())

    def adjust_gradients(self) -> None:
        """Only the k most salient weights keep their gradient."""
        from prunesweep.workers.selection import apply_masks, largest
        from prunesweep.workers.swap import gradients

        found = gradients(self.training)
        largest(self.training, self.k, self.active, times=found)
        apply_masks(found, self.active.views)

    def finalize(self) -> bool:
        """Prune by magnitude to the target."""
        from prunesweep.workers.selection import magnitude_masks

        self.hold(magnitude_masks(list(self.weights.values()), self.sparsity).views)
        return True
