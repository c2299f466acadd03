"""Soft threshold weight reparameterization."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING

from prunesweep.workers.methods import phases
from prunesweep.workers.methods.base import Method, hyperparameter
from prunesweep.workers.spec import Stage, TrialSpec

if TYPE_CHECKING:
    from torch.nn import Module, Parameter


@dataclass(kw_only=True)
class STR(Method):
    """Soft threshold weight reparameterization (Kusupati et al. 2020, section 3.1).

    w_eff = sign(w) relu(|w| - sigmoid(t)), with one learned scalar t per layer. Weight decay acts on t as on all
    parameters; it and `s_initial` steer the sparsity that is learned. The final weights are w_eff: survivors keep their
    shrinkage. Where they are less sparse than the target, the smallest are pruned; where they are more, they stay.

    Values: s_initial -3200 with weight decay 2e-5 (90 % of ResNet-50, ImageNet, 100 epochs).
    The code of Zimmer et al. gives every layer with a weight a threshold but batch-norm, as we do.

    Cost per step: one pass over the weights before the forward pass, one over weights and gradients after the backward
    pass. All targets share one training.
    """

    s_initial: float = hyperparameter("initial value of t, of which the sigmoid is the threshold")

    def stage(self, trial: TrialSpec) -> Stage:
        """One training for all targets, then a prune of what is missing."""
        return phases.sparsified(trial)

    def attach(self, model: Module, sparsity: float, epochs: int, iterations: int) -> None:
        """With a threshold for every layer that trains, and a buffer for the sparse weights."""
        import torch

        from prunesweep.workers.flat import Flat

        super().attach(model, sparsity, epochs, iterations)
        self.training = [weight for weight in self.weights.values() if weight.requires_grad]
        first = self.training[0]
        t = torch.full((len(self.training),), float(self.s_initial), dtype=first.dtype, device=first.device)
        self.threshold = torch.nn.Parameter(t)
        self.sparse = Flat.like(self.training)

    def parameters(self) -> dict[str, Parameter]:
        """The thresholds, [layers]."""
        return {"threshold": self.threshold}

    def view(self) -> AbstractContextManager[None]:
        """The shrunken weights."""
        from prunesweep.workers.swap import swapped

        self._refresh()
        return swapped(self.training, self.sparse.views)

    def adjust_gradients(self) -> None:
        """From the gradient at w_eff to those of w (there where w_eff is not zero) and of t."""
        import torch

        from prunesweep.workers.flat import blocks
        from prunesweep.workers.swap import gradients

        sums = torch.zeros_like(self.threshold)
        for whole, sparse, total in zip(gradients(self.training), self.sparse.views, sums, strict=True):
            for gradient, w, sign in blocks(whole, sparse, scratch=1):
                torch.sign(w, out=sign)
                total += gradient.mul_(sign).sum()
                gradient.mul_(sign)
        least = self.threshold.detach().sigmoid()
        self.threshold.grad = -sums * least * (1.0 - least)

    def finalize(self) -> bool:
        """The shrunken weights become the weights: the same function."""
        import torch

        self._refresh()
        torch._foreach_copy_([weight.detach() for weight in self.training], self.sparse.views)
        return False

    def _refresh(self) -> None:
        import torch

        from prunesweep.workers.flat import blocks

        least: list[float] = self.threshold.detach().sigmoid().tolist()
        if any(map(isnan, least)):
            raise FloatingPointError("the thresholds have become NaN")
        for weight, sparse, threshold in zip(self.training, self.sparse.views, least, strict=True):
            for w, out in blocks(weight, sparse):
                torch.ops.aten.softshrink.out(w, threshold, out=out)
