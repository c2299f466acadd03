"""Dynamic sparse training."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from prunesweep.workers.accounting import Forward, straight_through
from prunesweep.workers.flat import Flat, blocks
from prunesweep.workers.lazy import torch
from prunesweep.workers.methods import phases
from prunesweep.workers.methods.base import Method, Steering, hyperparameter
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.spec import Stage, TrialSpec
from prunesweep.workers.swap import gradients, swapped

STARVED = 0.01
"""A layer that keeps at most this fraction has its thresholds reset."""


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

    needs_gradients = True
    per_output = True
    steering = Steering("penalty", rises=True, low=1e-6, high=2e-2, scale="log")

    penalty: float = hyperparameter("factor of sum(exp(-t)) in the loss", ge=0)

    def stage(self, trial: TrialSpec) -> Stage:
        """One training for all targets, then a prune of what is missing."""
        return phases.sparsified(trial)

    def forward_passes(self, forward: Forward) -> Sequence[float]:
        """Thresholds move throughout, from a network that is dense."""
        return forward.between(forward.dense)

    def multiply_adds(self, dense: float, sparse: float) -> float:
        """2 f_S + f_D: the gradients of the weights are dense."""
        return straight_through(dense, sparse)


class DSTPruner(Pruner, method=DST):
    """What DST does, with thresholds for every layer that trains, and a buffer for the sparse weights."""

    method: DST

    def __init__(self, method: DST, setup: Setup) -> None:
        super().__init__(method, setup)
        self.threshold = torch.nn.Parameter(torch.cat([weight.new_zeros(len(weight)) for weight in self.trained]))
        self.sparse = Flat.like(self.trained)
        self.half = torch.full((), 0.5, dtype=self.threshold.dtype, device=self.threshold.device)
        self.at_once = self.threshold.device.type != "cpu"
        if self.at_once:
            self.gradients = Flat.like(self.trained)
            self.starving = STARVED * self.sparse.rows.layer_sums(torch.ones_like(self.sparse.whole))

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The thresholds, [output neurons and filters of all layers]."""
        return {"threshold": self.threshold}

    def view(self) -> AbstractContextManager[None]:
        """The weights above their thresholds."""
        self._refresh()
        return swapped(self.trained, self.sparse.views)

    def regularization(self) -> torch.Tensor:
        """What draws the thresholds up."""
        return self.method.penalty * self.threshold.neg().exp().sum()

    def adjust_gradients(self) -> None:
        """From the gradient at w_eff to those of w and t, which the regularization has given its own part already."""
        assert self.threshold.grad is not None
        if self.at_once:
            self.threshold.grad.sub_(self._adjust_at_once())
            return
        layers = zip(self.trained, gradients(self.trained), self._thresholds(), strict=True)
        for part, layer in zip(self._split(self.threshold.grad), layers, strict=True):
            part -= _chain(*layer, self.half)

    def _adjust_at_once(self) -> torch.Tensor:
        """All layers together, as `_chain` does it layer by layer; the next view makes the sparse weights anew."""
        at_sparse, rows = gradients(self.trained), self.sparse.rows
        w, gradient = self.sparse.fill(self.trained), self.gradients.fill(at_sparse)
        threshold = self.threshold.detach().index_select(0, rows.row)
        size, x, slope = (torch.empty_like(w) for _ in range(3))
        _backward(w, gradient, threshold, size, x, slope, self.half)
        torch._foreach_copy_(at_sparse, self.gradients.views)
        return rows.sums(torch.mul(slope, w, out=x)).mul_(4.0)

    def finalize(self) -> bool:
        """The weights above their thresholds become the weights: the same function."""
        self._refresh()
        torch._foreach_copy_([weight.detach() for weight in self.trained], self.sparse.views)
        return False

    def _refresh(self) -> None:
        if self.at_once:
            self._refresh_at_once()
            return
        layers = list(zip(self.trained, self._thresholds(), self.sparse.views, strict=True))
        kept: list[float] = torch.stack([_step(*layer) for layer in layers]).tolist()
        for (weight, threshold, sparse), count in zip(layers, kept, strict=True):
            if count <= STARVED * weight.numel():
                threshold.zero_()
                _step(weight, threshold, sparse)

    def _refresh_at_once(self) -> None:
        """All layers together; whether a layer starves is not known on the host, so that steps are taken twice."""
        w, rows, threshold = self.sparse.fill(self.trained), self.sparse.rows, self.threshold.detach()
        kept = rows.layer_sums((w.abs() > threshold.index_select(0, rows.row)).to(w.dtype))
        starved = kept <= self.starving
        threshold.masked_fill_(starved.index_select(0, rows.owner), 0.0)
        w.mul_(w.abs() > threshold.index_select(0, rows.row))

    def _thresholds(self) -> list[torch.Tensor]:
        return self._split(self.threshold.detach())

    def _split(self, whole: torch.Tensor) -> list[torch.Tensor]:
        """By layer, [output neurons or filters]."""
        return list(torch.split(whole, [len(weight) for weight in self.trained]))


def _step(weight: torch.Tensor, threshold: torch.Tensor, sparse: torch.Tensor) -> torch.Tensor:
    """Leave w_eff of a layer in `sparse`; returns how many weights are above their threshold."""
    kept = threshold.new_zeros(())
    for w, out, t in blocks(weight, sparse, threshold[:, None]):
        torch.abs(w, out=out).sub_(t)
        torch.gt(out, 0.0, out=out)
        kept += out.sum()
        out.mul_(w)
    return kept


def _chain(weight: torch.Tensor, at_sparse: torch.Tensor, threshold: torch.Tensor, half: torch.Tensor) -> torch.Tensor:
    """Turn the gradient of w_eff, `at_sparse`, into that of w; returns minus the gradient of the thresholds."""
    sums = []
    for w, gradient, t, size, x, slope in blocks(weight, at_sparse, threshold[:, None], scratch=3):
        _backward(w, gradient, t, size, x, slope, half)
        sums.append(torch.mul(slope, w, out=x).sum(1))
    return torch.cat(sums).mul_(4.0)


def _backward(
    w: torch.Tensor,
    gradient: torch.Tensor,
    t: torch.Tensor,
    size: torch.Tensor,
    x: torch.Tensor,
    slope: torch.Tensor,
    half: torch.Tensor,
) -> None:
    """Turn the gradient of w_eff into that of w, elementwise, with three buffers.

    `slope` is left with a quarter of step'(|w| - t) times the gradient of w_eff. `half` is 0.5 on the device: a number
    made for it in every iteration would be a copy from the host, which waits.
    """
    past_one = 1.0 + torch.finfo(w.dtype).eps
    torch.abs(w, out=size)
    torch.sub(size, t, out=x)
    torch.abs(x, out=slope)
    torch.sub(half, slope, out=slope)
    torch.ops.aten.threshold.out(slope, 0.1, 0.1, out=slope)
    torch.ops.aten.hardtanh_backward.grad_input(slope, x, -past_one, past_one, grad_input=slope)
    slope.mul_(gradient)
    torch.ops.aten.threshold_backward.grad_input(gradient, x, 0.0, grad_input=gradient)
    gradient.addcmul_(slope, size, value=4.0)
