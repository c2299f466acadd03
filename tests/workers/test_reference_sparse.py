"""The methods that are sparse from the start against their second implementation: see `test_reference`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import cos, floor, pi
from typing import Any

import pytest
import torch
from torch import Tensor

from prunesweep.workers.seeding import derive
from prunesweep.workers.store import Store
from tests.workers.test_reference import FLOAT64, E, Reference, Tensors, compare, largest, revived, shared_out, stage_of

LONG = replace(FLOAT64, epochs=20)
"""120 iterations."""

SEED = derive(0, "method")


@dataclass(eq=False)
class Static(Reference):
    allocation: str = "erk"

    def __post_init__(self) -> None:
        super().__post_init__()
        generator = torch.Generator().manual_seed(derive(SEED, "mask"))
        counts = dict(zip(self.weights, self.counts(), strict=True))
        for name, w in self.weights.items():
            draw = torch.rand(w.shape, generator=generator)
            self.masks |= largest({name: draw.double()}, counts[name])
        self.apply()
        self.revived = 0

    def counts(self) -> list[int]:
        sizes, keep = [w.numel() for w in self.weights.values()], self.n - round(self.sparsity * self.n)
        if self.allocation == "first_dense":
            return [size - (round(self.sparsity * size) if i else 0) for i, size in enumerate(sizes)]
        shares = sizes if self.allocation == "uniform" else [sum(w.shape) for w in self.weights.values()]
        return shared_out(shares, sizes, keep)

    @torch.no_grad()
    def apply(self) -> None:
        for name, w in self.weights.items():
            w *= self.masks[name]
            if w in self.momentum_of:
                self.momentum_of[w] *= self.masks[name]


@dataclass(eq=False)
class SET(Static):
    update_interval: int = 100
    drop_fraction: float = 0.3
    update_until: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        self.updates = 0
        self.moving = False

    def adjust_gradients(self) -> None:
        t, end = self.iteration, self.update_until * self.train.epochs * E
        self.moving = 0 < t < end and t % self.update_interval == 0
        if not self.moving:
            super().adjust_gradients()
            return
        fraction, before = self.drop_fraction / 2 * (1 + cos(pi * t / end)), self.masks
        growth = self.growth()
        self.masks = {name: self.moved(name, fraction, growth[name]) for name in self.weights}
        self.apply()
        self.updates += 1
        self.revived += revived(before, self.masks)

    def step(self, p: Tensor, lr: float) -> None:
        if not self.moving:
            super().step(p, lr)

    def moved(self, name: str, fraction: float, growth: Tensor) -> Tensor:
        """Sorted as lists of places, one weight after another."""
        w, mask = self.weights[name].detach().flatten().tolist(), self.masks[name].flatten().tolist()
        active = sorted((i for i, m in enumerate(mask) if m), key=lambda i: -abs(w[i]))
        stay = active[: len(active) - floor(fraction * len(active))]
        score = growth.flatten().tolist()
        others = sorted(set(range(len(w))) - set(stay), key=lambda i: (-score[i], i))
        new = torch.zeros(len(w), dtype=torch.float64)
        new[[*stay, *others[: len(active) - len(stay)]]] = 1
        return new.view_as(self.masks[name])

    def growth(self) -> Tensors:
        generator = torch.Generator().manual_seed(derive(SEED, "growth", self.iteration))
        return {name: torch.rand(w.shape, generator=generator).double() for name, w in self.weights.items()}


@dataclass(eq=False)
class RigL(SET):
    def growth(self) -> Tensors:
        return {name: w.grad.abs() for name, w in self.weights.items()}


def densities(reference: Reference) -> list[Fraction]:
    return [Fraction(int(mask.sum()), mask.numel()) for mask in reference.masks.values()]


@pytest.mark.parametrize("allocation", ["erk", "uniform", "first_dense"])
def test_static(allocation: str, store: Store):
    settings, train = {"allocation": allocation}, replace(FLOAT64, epochs=3)
    reference = Static(0.25, train, **settings)
    compare(stage_of("static", 0.25, settings, train), reference, store)
    full = [density for density in densities(reference) if density == 1]
    assert len(full) == {"erk": 6, "uniform": 0, "first_dense": 1}[allocation]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("rigl", {"update_interval": 5}),
        ("rigl", {"update_interval": 7, "drop_fraction": 0.6, "update_until": 1.0, "allocation": "first_dense"}),
        ("set", {"update_interval": 5}),
        ("set", {"update_interval": 10, "drop_fraction": 0.5, "allocation": "uniform"}),
    ],
)
def test_masks_move(name: str, settings: dict[str, Any], store: Store):
    reference = {"rigl": RigL, "set": SET}[name](0.8, LONG, **settings)
    counts = densities(reference)
    compare(stage_of(name, 0.8, settings, LONG), reference, store)
    until = settings.get("update_until", 0.75)
    assert reference.updates == (len(range(0, round(until * 120), settings["update_interval"])) - 1)
    assert reference.revived > 100
    assert densities(reference) == counts
