"""A method of one's own: this file is all that it takes (docs/methods.md, "A method of your own")."""

from dataclasses import dataclass

import torch

from prunesweep.workers.flat import Flat
from prunesweep.workers.methods.base import Method, hyperparameter
from prunesweep.workers.selection import kept, largest


@dataclass(kw_only=True)
class Taylor(Method):
    """One prune in the course of training, of the weights with the smallest sum of |w dL/dw| (Molchanov et al. 2017).

    Cost per step: one pass over weights and gradients.
    """

    when: float = hyperparameter("fraction of the epochs before the prune", 0.5, gt=0, lt=1)

    def attach(self, model, sparsity, epochs, iterations):
        super().attach(model, sparsity, epochs, iterations)
        self.saliency = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}

    def adjust_gradients(self):
        super().adjust_gradients()  # holds the mask, once there is one
        for name, weight in self.weights.items():
            if weight.grad is not None:
                self.saliency[name] += (weight.detach() * weight.grad).abs()

    def after_epoch(self, epoch):
        if epoch != max(1, round(self.when * self.epochs)):
            return False
        scores = list(self.saliency.values())
        masks = Flat.like(scores)
        largest(scores, kept(masks.whole.numel(), self.sparsity), masks)
        self.hold(masks.views)
        return True

    def state(self):
        return {**super().state(), **self.saliency}

    def load_state(self, state):
        super().load_state(state)
        self.saliency = {name: state[name] for name in self.saliency}
