"""Continuous sparsification."""

from __future__ import annotations

from contextlib import AbstractContextManager
from math import exp

from prunesweep.workers.accounting import straight_through
from prunesweep.workers.flat import Flat, blocks
from prunesweep.workers.lazy import torch
from prunesweep.workers.methods import phases
from prunesweep.workers.methods.base import Method, Steering, hyperparameter
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.spec import Stage, TrialSpec
from prunesweep.workers.swap import gradients, swapped


class CS(Method):
    """Continuous sparsification (Savarese et al. 2020, section 3).

    w_eff = c w sigmoid(beta m), with a learned m per weight, initially `s_initial`, c = 1 / sigmoid(s_initial) and
    beta = beta_final^(k / N) at iteration k of N. The loss gains `penalty` sum(sigmoid(beta m)). The final weights are
    w_eff where m > 0; where they are less sparse than the target, the smallest are pruned; where they are more, they
    stay.

    Values: s_initial -0.3 to 0.3, beta_final 200, penalty 1e-8 (ResNets on CIFAR-10 and ImageNet).
    The authors' code raises beta once an epoch, does not decay m, and rescales a final mask of ones by c; in that of
    Zimmer et al. weight decay acts twice, here once.

    Cost per step: one pass over weights and m before the forward pass, one over both and their gradients after the
    backward pass; the optimizer has twice the parameters. All targets share one training.
    """

    needs_gradients = True
    steering = Steering("s_initial", rises=False, low=-0.3, high=0.3)

    s_initial: float = hyperparameter("initial value of m", 0.0)
    beta_final: float = hyperparameter("inverse temperature at the end of training", 200.0, ge=1)
    penalty: float = hyperparameter("factor of sum(sigmoid(beta m)) in the loss", 1e-8, ge=0)

    def stage(self, trial: TrialSpec) -> Stage:
        """One training for all targets, then a prune of what is missing."""
        return phases.sparsified(trial)

    def multiply_adds(self, dense: float, sparse: float) -> float:
        """2 f_S + f_D: the gradients of the weights are dense."""
        return straight_through(dense, sparse)


class CSPruner(Pruner, method=CS):
    """What CS does, with an m for every weight that trains, and a buffer for the sparse weights."""

    method: CS

    def __init__(self, method: CS, setup: Setup) -> None:
        super().__init__(method, setup)
        self.sparse, self.logits, self.gradients = (Flat.like(self.trained) for _ in range(3))
        self.m = torch.nn.Parameter(self.logits.whole.fill_(method.s_initial))
        self.scale = 1.0 + exp(-method.s_initial)

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """All m, [weights]."""
        return {"m": self.m}

    def view(self) -> AbstractContextManager[None]:
        """The weights by their soft masks."""
        self._refresh()
        return swapped(self.trained, self.sparse.views)

    def adjust_gradients(self) -> None:
        """From the gradient at w_eff to those of w and m, the penalty's included."""
        if self.m.device.type == "cpu":
            self._adjust_in_blocks()
        else:
            self._adjust_at_once()
        self.m.grad = self.gradients.whole

    def _adjust_in_blocks(self) -> None:
        beta, scale, penalty = self._beta(), self.scale, self.method.penalty
        layers = zip(self.trained, gradients(self.trained), self.logits.views, self.gradients.views, strict=True)
        for layer in layers:
            for w, gradient, m, gradient_m, soft in blocks(*layer, scratch=1):
                torch.mul(m, beta, out=soft).sigmoid_()
                torch.mul(gradient, w, out=gradient_m).mul_(scale).add_(penalty).mul_(beta)
                gradient.mul_(soft).mul_(scale)
                gradient_m.mul_(soft).mul_(soft.neg_().add_(1.0))

    def _adjust_at_once(self) -> None:
        """All layers together, with the masks where the sparse weights were: the next view makes those anew."""
        at_sparse, soft = gradients(self.trained), self.sparse
        torch.mul(self.m.detach(), self._beta(), out=soft.whole).sigmoid_()
        self.gradients.fill(at_sparse)
        torch._foreach_mul_(self.gradients.views, [weight.detach() for weight in self.trained])
        of_m = self.gradients.whole.mul_(self.scale).add_(self.method.penalty).mul_(self._beta())
        torch._foreach_mul_(at_sparse, soft.views)
        torch._foreach_mul_(at_sparse, self.scale)
        of_m.mul_(soft.whole).mul_(soft.whole.neg_().add_(1.0))

    def finalize(self) -> bool:
        """Keep w_eff where m > 0."""
        self._refresh()
        self.sparse.whole.mul_(self.m.detach() > 0)
        torch._foreach_copy_([weight.detach() for weight in self.trained], self.sparse.views)
        return True

    def _refresh(self) -> None:
        torch.mul(self.m.detach(), self._beta(), out=self.sparse.whole).sigmoid_().mul_(self.scale)
        torch._foreach_mul_(self.sparse.views, [weight.detach() for weight in self.trained])

    def _beta(self) -> float:
        beta: float = self.method.beta_final ** (self.iteration / (self.epochs * self.iterations))
        return beta
