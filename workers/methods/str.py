"""Soft threshold weight reparameterization."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from math import isnan

from prunesweep.workers.accounting import Forward, straight_through
from prunesweep.workers.errors import SpecError
from prunesweep.workers.flat import Flat, blocks
from prunesweep.workers.lazy import torch
from prunesweep.workers.methods import phases
from prunesweep.workers.methods.base import Method, Steering, hyperparameter
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.spec import Stage, TrialSpec
from prunesweep.workers.swap import gradients, swapped

VANISHING = (-104, -746)
"""Below these the sigmoid is 0 in single and in double precision."""


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

    needs_gradients = True
    steering = Steering("s_initial", rises=True, low=-10.0, high=0.0)

    s_initial: float = hyperparameter("initial value of t, of which the sigmoid is the threshold")

    def check(self, trial: TrialSpec) -> None:
        """A threshold that is zero has no gradient: only weight decay raises it."""
        least = VANISHING[trial.train.precision == "float64"]
        if self.s_initial < least and not trial.train.weight_decay:
            raise SpecError(
                "s_initial",
                f"the threshold sigmoid({self.s_initial:g}) is 0, and without train.weight_decay it stays there, so "
                f"that nothing is learned; give a weight decay, or an s_initial of at least {least}",
            )

    def stage(self, trial: TrialSpec) -> Stage:
        """One training for all targets, then a prune of what is missing."""
        return phases.sparsified(trial)

    def forward_passes(self, forward: Forward) -> Sequence[float]:
        """Thresholds move throughout, from a network that is dense."""
        return forward.between(forward.dense)

    def multiply_adds(self, dense: float, sparse: float) -> float:
        """2 f_S + f_D: the gradients of the weights are dense."""
        return straight_through(dense, sparse)


class STRPruner(Pruner, method=STR):
    """What STR does, with a threshold for every layer that trains, and a buffer for the sparse weights."""

    def __init__(self, method: STR, setup: Setup) -> None:
        super().__init__(method, setup)
        first = self.trained[0]
        t = torch.full((len(self.trained),), float(method.s_initial), dtype=first.dtype, device=first.device)
        self.threshold = torch.nn.Parameter(t)
        self.sparse = Flat.like(self.trained)
        self.gradients = self.sparse if first.device.type == "cpu" else Flat.like(self.trained)

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The thresholds, [layers]."""
        return {"threshold": self.threshold}

    def view(self) -> AbstractContextManager[None]:
        """The shrunken weights."""
        self._refresh()
        return swapped(self.trained, self.sparse.views)

    def adjust_gradients(self) -> None:
        """From the gradient at w_eff to those of w (there where w_eff is not zero) and of t."""
        sums = self._adjust_in_blocks() if self.threshold.device.type == "cpu" else self._adjust_at_once()
        least = self.threshold.detach().sigmoid()
        self.threshold.grad = -sums * least * (1.0 - least)

    def _adjust_in_blocks(self) -> torch.Tensor:
        """Returns the sums of the gradient times sign(w_eff), [layers]."""
        sums = torch.zeros_like(self.threshold, requires_grad=False)
        for at_sparse, sparse, total in zip(gradients(self.trained), self.sparse.views, sums, strict=True):
            for gradient, w, sign in blocks(at_sparse, sparse, scratch=1):
                torch.sign(w, out=sign)
                total += gradient.mul_(sign).sum()
                gradient.mul_(sign)
        return sums

    def _adjust_at_once(self) -> torch.Tensor:
        """Likewise, all layers together; the sparse weights become their signs, and the next view makes them anew."""
        at_sparse, sign = gradients(self.trained), self.sparse.whole.sign_()
        of_w = self.gradients.fill(at_sparse).mul_(sign)
        sums = self.sparse.rows.layer_sums(of_w)
        of_w.mul_(sign)
        torch._foreach_copy_(at_sparse, self.gradients.views)
        return sums

    def finalize(self) -> bool:
        """The shrunken weights become the weights: the same function."""
        self._refresh()
        torch._foreach_copy_([weight.detach() for weight in self.trained], self.sparse.views)
        return False

    def _refresh(self) -> None:
        if self.threshold.device.type == "cpu":
            self._shrink_in_blocks()
        else:
            self._shrink_at_once()

    def _shrink_at_once(self) -> None:
        """All layers together; thresholds that are NaN, which the host does not see, show in the loss."""
        w = self.sparse.fill(self.trained)
        least = self.threshold.detach().sigmoid().index_select(0, self.sparse.rows.layer)
        w.sub_(torch.clamp(w, least.neg(), least))

    def _shrink_in_blocks(self) -> None:
        least: list[float] = self.threshold.detach().sigmoid().tolist()
        if any(map(isnan, least)):
            raise FloatingPointError("the thresholds have become NaN")
        for weight, sparse, threshold in zip(self.trained, self.sparse.views, least, strict=True):
            for w, out in blocks(weight, sparse):
                torch.ops.aten.softshrink.out(w, threshold, out=out)
