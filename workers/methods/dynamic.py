"""Masks that move while a network trains: what SET and RigL share (Evci et al. 2020, section 3)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from math import cos, floor, pi
from typing import get_args

from prunesweep.workers.allocation import RandomAllocation
from prunesweep.workers.errors import UserError
from prunesweep.workers.flat import Flat, pieces
from prunesweep.workers.lazy import torch
from prunesweep.workers.methods.base import Method, hyperparameter
from prunesweep.workers.methods.grouped import check_name
from prunesweep.workers.methods.pruner import Setup
from prunesweep.workers.methods.static import START, Static, StaticPruner
from prunesweep.workers.selection import largest
from prunesweep.workers.spec import TrialSpec


class Dynamic(Static):
    """What SET and RigL are told: when and how much of their masks moves."""

    allocation: RandomAllocation = hyperparameter(
        f"{START}; no pattern N:M, since weights grow anywhere in a layer; static and sr_ste take one", "erk"
    )
    update_interval: int = hyperparameter("iterations between two updates of the masks", 100, ge=1)
    drop_fraction: float = hyperparameter("fraction of a layer's weights that the first update moves", 0.3, gt=0, lt=1)
    update_until: float = hyperparameter("fraction of the training after which masks stay", 0.75, gt=0, le=1)

    def levels(self, sparsity: float | None) -> Iterator[tuple[float | None, Method]]:
        """The target is the sparsity of the masks, which are no pattern."""
        yield sparsity, self

    def check(self, trial: TrialSpec) -> None:
        """The allocation is one that masks keep as they move."""
        check_name(self.allocation, get_args(RandomAllocation))


class DynamicPruner(StaticPruner):
    """Every so many iterations, in the place of the optimizer's step, each layer drops weights and grows as many."""

    method: Dynamic

    def __init__(self, method: Dynamic, setup: Setup) -> None:
        super().__init__(method, setup)
        self.end = method.update_until * (self.epochs * self.iterations)
        if method.update_interval >= self.end:
            raise UserError(
                f"update_interval: {method.update_interval} iterations never come in the {self.end:g} in which masks "
                f"move ({method.update_until:g} of {self.epochs * self.iterations}); take fewer, or the method static"
            )

    @abstractmethod
    def growth(self) -> Sequence[torch.Tensor]:
        """What is not kept grows where these, one for each of `trained`, are largest by magnitude."""

    def adjust_gradients(self) -> None:
        """Gradients of masked weights are zero, but where an update wants them."""
        if not self._due():
            super().adjust_gradients()

    def replace_step(self) -> bool:
        """Update the masks every `update_interval` iterations, as long as they move."""
        due = self._due()
        if due:
            self._move()
        return due

    def _due(self) -> bool:
        return 0 < self.iteration < self.end and self.iteration % self.method.update_interval == 0

    def _move(self) -> None:
        """Of z weights a layer drops d = floor(f z), and grows d, dropped ones perhaps.

        f = alpha / 2 (1 + cos(pi t / T_end)); layers that do not train keep theirs.
        """
        assert self.masks is not None
        fraction, growth = self.method.drop_fraction / 2 * (1 + cos(pi * self.iteration / self.end)), self.growth()
        moving = [(w, m, n) for w, m, n in zip(self.weights, self.masks, self.counts, strict=True) if w.requires_grad]
        for (weight, mask, count), grown in zip(moving, growth, strict=True):
            move(weight, mask, grown, count, floor(fraction * count))
        self.hold_again()


def move(weight: torch.Tensor, mask: torch.Tensor, growth: torch.Tensor, count: int, dropped: int) -> None:
    """In a mask that keeps `count` weights drop the `dropped` smallest, then grow where `growth` is largest.

    A weight of zero that the mask has ranks before those that it has not, so that it has `count` ones again whatever is
    zero. Where there is no growth, as behind a layer that kept nothing, what was dropped grows first.
    """
    least, scores, stay = torch.finfo(weight.dtype).tiny, torch.empty_like(mask), Flat.like([mask])
    for score, w, own in pieces(scores, weight, mask):
        torch.abs(w, out=score).add_(own, alpha=least)
    largest([scores], count - dropped, stay, waiting=False)
    for score, g, own, kept in pieces(scores, growth, mask, stay.views[0]):
        torch.abs(g, out=score).add_(own, alpha=least).add_(least).mul_(1 - kept)
    largest([scores], dropped, Flat.over(mask), waiting=False)
    mask.add_(stay.views[0])
