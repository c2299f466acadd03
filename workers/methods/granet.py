"""Gradual pruning with neuroregeneration."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, cos, pi

from prunesweep.workers.accounting import Forward, updating
from prunesweep.workers.allocation import random_counts
from prunesweep.workers.errors import SpecError, UserError
from prunesweep.workers.flat import Flat
from prunesweep.workers.lazy import torch
from prunesweep.workers.methods.base import Method, hyperparameter
from prunesweep.workers.methods.dynamic import move
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.schedules import cubic_sparsity
from prunesweep.workers.seeding import derive
from prunesweep.workers.selection import drawn_masks, kept, largest
from prunesweep.workers.spec import TrialSpec
from prunesweep.workers.swap import gradients

LEAST = 0.005
"""The fraction that is moved at the end of the training; the authors' `eta_min`."""


class GraNet(Method):
    """Gradual pruning with zero-cost neuroregeneration (Liu et al. 2021, section 4).

    Starts with a random mask of density d_i by ERK. After iterations t = dT, 2 dT, ... up to t_f the n - round(s_t n)
    largest |w| of the mask stay, over all layers, s_t = s_i + (s - s_i)(1 - (1 - t / t_f)^3), s_i = 1 - d_i. Then each
    layer with z weights drops its ceil(r z) smallest and grows as many with the largest |dL/dw| of those it does not
    keep; r falls by a cosine over the training, from `drop_fraction` to 0.005. What is dropped and grown at once keeps
    its value, all else starts at zero, without momentum.

    Values: d_i 0.5 (1 for dense-to-sparse), dT 1000 on CIFAR, 4000 on ImageNet; t_f in the middle of 160 epochs.
    The authors' code goes on to drop and grow after t_f, and ends a little off the target; here t_f is a multiple of
    dT, and exactly n - round(s n) stay. A target of less than s_i is where it starts.

    Cost per step: one multiplication of the gradients with the mask; an update selects once among all weights and twice
    in each layer.
    """

    needs_gradients = True

    initial_density: float = hyperparameter("density at the start", 0.5, gt=0, le=1)
    update_interval: int = hyperparameter("iterations between two updates of the masks", 1000, ge=1)
    drop_fraction: float = hyperparameter("fraction of a layer's weights moved, at the start", 0.5, gt=0.005, lt=1)
    prune_until: float = hyperparameter("fraction of the training after which masks stay", 0.5, gt=0, le=1)

    def check(self, trial: TrialSpec) -> None:
        """From trained weights it starts dense: a random mask would take away what they have learned."""
        if trial.init is not None and self.initial_density < 1:
            raise SpecError("initial_density", "a random mask would spoil the weights of init: give initial_density: 1")

    def forward_passes(self, forward: Forward) -> Sequence[float]:
        """Sparsity grows throughout, from that of the initial density."""
        return forward.between(forward.at(min(1 - self.initial_density, forward.reached)))

    def multiply_adds(self, dense: float, sparse: float) -> float:
        """As RigL: an update's weight gradients are dense."""
        return updating(dense, sparse, self.update_interval)


class GraNetPruner(Pruner, method=GraNet):
    """What GraNet does."""

    method: GraNet

    def __init__(self, method: GraNet, setup: Setup) -> None:
        super().__init__(method, setup)
        self.total = self.epochs * self.iterations
        self.last = int(method.prune_until * self.total) // method.update_interval
        if not self.last:
            raise UserError(
                f"update_interval: {method.update_interval} iterations never come in the "
                f"{method.prune_until * self.total:g} with prunes ({method.prune_until:g} of {self.total}); take fewer"
            )
        self.start = min(1 - method.initial_density, self.sparsity)
        self.n = sum(weight.numel() for weight in self.weights)
        counts = random_counts(self.weights, kept(self.n, self.start), self.start, "erk")
        self.buffer = drawn_masks(self.weights, counts, derive(self.seed, "mask"))
        self.hold(self.buffer)
        self.dense: list[torch.Tensor] = []

    def adjust_gradients(self) -> None:
        """Those of masked weights become zero; before an update all are kept aside."""
        if self._update_after(self.iteration + 1):
            self.dense = Flat.like(self.trained).views
            torch._foreach_copy_(self.dense, gradients(self.trained))
        super().adjust_gradients()

    def after_step(self) -> None:
        """Prune, then move."""
        number = self._update_after(self.iteration)
        if number:
            self._prune(self.start + cubic_sparsity(self.sparsity - self.start, number, self.last))
            self._move()
            self.dense = []

    def finalize(self) -> bool:
        """Prune what a rehearsal, which leaves out most iterations, has not; else nothing is left to do."""
        assert self.masks is not None
        left = int(torch.stack([mask.count_nonzero() for mask in self.masks]).sum())
        lacks = left > kept(self.n, self.sparsity)
        if lacks:
            self._prune(self.sparsity)
        return lacks

    def _update_after(self, iterations: int) -> int:
        """Which update it is, from 1, that comes after so many iterations; 0 for none."""
        number, rest = divmod(iterations, self.method.update_interval)
        return 0 if rest or number > self.last else number

    def _prune(self, sparsity: float) -> None:
        """A weight of zero that has just grown ranks before those that are not in the mask."""
        assert self.masks is not None
        least = torch.finfo(self.weights[0].dtype).tiny
        scores = [w.detach().abs().add_(m, alpha=least) for w, m in zip(self.weights, self.masks, strict=True)]
        largest(scores, kept(self.n, sparsity), self.buffer, waiting=False)
        self.hold(self.buffer)

    def _move(self) -> None:
        """The host waits for the device, once an update, to learn what each layer has left."""
        assert self.masks is not None
        fraction = LEAST + (self.method.drop_fraction - LEAST) / 2 * (1 + cos(pi * self.iteration / self.total))
        moving = [(w, mask) for w, mask in zip(self.weights, self.masks, strict=True) if w.requires_grad]
        counts: list[float] = torch.stack([_ones(mask) for _, mask in moving]).tolist()
        for (weight, mask), growth, count in zip(moving, self.dense, counts, strict=True):
            move(weight, mask, growth, int(count), ceil(fraction * count))
        self.hold_again()


def _ones(mask: torch.Tensor) -> torch.Tensor:
    """How many there are: sums of rows, exact in single precision, take a tenth of the time of `count_nonzero`."""
    return mask.sum(tuple(range(1, mask.dim())), dtype=torch.float32).sum(dtype=torch.float64)
