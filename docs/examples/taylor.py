"""A method of one's own: this file is all that it takes (docs/extending.md, "A method")."""

import torch

from prunesweep import Method, Pruner, hyperparameter, magnitude_masks


class Taylor(Method):
    """One prune in the course of training, of the weights with the smallest sum of |w dL/dw| (Molchanov et al. 2017).

    Cost per step: one pass over weights and gradients.
    """

    when: float = hyperparameter("fraction of the epochs before the prune", 0.5, gt=0, lt=1)


class TaylorPruner(Pruner, method=Taylor):
    def __init__(self, method, setup):
        super().__init__(method, setup)
        self.saved["saliency"] = [torch.zeros_like(weight) for weight in self.weights]

    def adjust_gradients(self):
        super().adjust_gradients()  # holds the mask, once there is one
        for weight, saliency in zip(self.weights, self.saved["saliency"], strict=True):
            if weight.grad is not None:
                saliency += (weight.detach() * weight.grad).abs()

    def after_epoch(self, epoch):
        if epoch != max(1, round(self.method.when * self.epochs)):
            return False
        self.hold(magnitude_masks(self.saved["saliency"], self.sparsity))
        return True
