"""Dynamic sparse training."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunesweep.workers.methods import phases
from prunesweep.workers.methods.base import Method, hyperparameter
from prunesweep.workers.spec import Stage, TrialSpec

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter

STARVED = 0.01
"""A layer that keeps at most this fraction has its thresholds reset."""


@dataclass(kw_only=True)
class DST(Method):
    """Dynamic sparse training (Liu et al. 2020, section 3).

    w_eff = w step(|w| - t), with one learned t per output neuron or filter, initially 0. The backward pass takes for
    step'(x) 2 - 4|x| up to |x| = 0.4, 0.4 up to |x| = 1, and 0 beyond. The loss gains `penalty` sum(exp(-t)). A layer
    that keeps at most 1 % of its weights has its t reset to 0. The final weights are w_eff; where they are less sparse
    than the target, the smallest are pruned; where they are more, they stay.

    Values: penalty 1e-6 to 1e-4 for networks on CIFAR and ImageNet; the sum is over all output neurons and filters.
    The code of Zimmer et al. adds weight decay to the loss as well as to the optimizer; here it acts once.

    Cost per step: one pass over the weights before the forward pass, one over weights and gradients after the backward
    pass. All targets share one training.
    """

    penalty: float = hyperparameter("factor of sum(exp(-t)) in the loss", ge=0)

    def stage(self, trial: TrialSpec) -> Stage:
        """One training for all targets, then a prune of what is missing."""
        return phases.sparsified(trial)

    def attach(self, model: Module, sparsity: float, epochs: int, iterations: int) -> None:
        """With thresholds for every layer that trains, and a buffer for the sparse weights."""
        import torch

        from prunesweep.workers.flat import Flat

        super().attach(model, sparsity, epochs, iterations)
        self.training = [weight for weight in self.weights.values() if weight.requires_grad]
        self.threshold = torch.nn.Parameter(torch.cat([weight.new_zeros(len(weight)) for weight in self.training]))
        self.sparse = Flat.like(self.training)

    def parameters(self) -> dict[str, Parameter]:
        """The thresholds, [output neurons and filters of all layers]."""
        return {"threshold": self.threshold}

    def view(self) -> AbstractContextManager[None]:
        """The weights above their thresholds."""
        from prunesweep.workers.swap import swapped

        self._refresh()
        return swapped(self.training, self.sparse.views)

    def regularization(self) -> Tensor:
        """What draws the thresholds up."""
        return self.penalty * self.threshold.neg().exp().sum()

    def adjust_gradients(self) -> None:
        """From the gradient at w_eff to those of w and t, which the regularization has given its own part already."""
        from prunesweep.workers.swap import gradients

        assert self.threshold.grad is not None
        layers = zip(self.training, gradients(self.training), self._thresholds(), strict=True)
        for part, layer in zip(self._split(self.threshold.grad), layers, strict=True):
            part -= _chain(*layer)

    def finalize(self) -> bool:
        """The weights above their thresholds become the weights: the same function."""
        import torch

        self._refresh()
        torch._foreach_copy_([weight.detach() for weight in self.training], self.sparse.views)
        return False

    def _refresh(self) -> None:
        import torch

        layers = list(zip(self.training, self._thresholds(), self.sparse.views, strict=True))
        kept: list[float] = torch.stack([_step(*layer) for layer in layers]).tolist()
        for (weight, threshold, sparse), count in zip(layers, kept, strict=True):
            if count <= STARVED * weight.numel():
                threshold.zero_()
                _step(weight, threshold, sparse)

    def _thresholds(self) -> list[Tensor]:
        return self._split(self.threshold.detach())

    def _split(self, whole: Tensor) -> list[Tensor]:
        """By layer, [output neurons or filters]."""
        import torch

        return list(torch.split(whole, [len(weight) for weight in self.training]))


def _step(weight: Tensor, threshold: Tensor, sparse: Tensor) -> Tensor:
    """Leave w_eff of a layer in `sparse`; returns how many weights are above their threshold."""
    import torch

    from prunesweep.workers.flat import blocks

    kept = threshold.new_zeros(())
    for w, out, t in blocks(weight, sparse, threshold[:, None]):
        torch.abs(w, out=out).sub_(t)
        torch.gt(out, 0.0, out=out)
        kept += out.sum()
        out.mul_(w)
    return kept


def _chain(weight: Tensor, found: Tensor, threshold: Tensor) -> Tensor:
    """Turn the gradient of w_eff, `found`, into that of w; returns minus the gradient of the thresholds."""
    import torch

    from prunesweep.workers.flat import blocks

    sums, half = [], weight.new_tensor(0.5)
    past_one = 1.0 + torch.finfo(weight.dtype).eps
    for w, gradient, t, size, x, slope in blocks(weight, found, threshold[:, None], scratch=3):
        torch.abs(w, out=size)
        torch.sub(size, t, out=x)
        # A quarter of step'(x), multiplied by the gradient of w_eff.
        torch.abs(x, out=slope)
        torch.sub(half, slope, out=slope)
        torch.ops.aten.threshold.out(slope, 0.1, 0.1, out=slope)
        torch.ops.aten.hardtanh_backward.grad_input(slope, x, -past_one, past_one, grad_input=slope)
        slope.mul_(gradient)
        torch.ops.aten.threshold_backward.grad_input(gradient, x, 0.0, grad_input=gradient)
        gradient.addcmul_(slope, size, value=4.0)
        sums.append(torch.mul(slope, w, out=x).sum(1))
    return torch.cat(sums).mul_(4.0)
