"""The methods that are sparse from the start against their second implementation: see `test_reference`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, cos, floor, pi
from typing import Any

import pytest
import torch
from torch import Tensor

from prunesweep.workers.seeding import derive
from prunesweep.workers.store import Store
from tests.workers.test_reference import (
    FLOAT64,
    E,
    Reference,
    StraightThrough,
    Tensors,
    compare,
    largest,
    revived,
    shared_out,
    stage_of,
)

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


@dataclass(eq=False)
class GraNet(Static):
    initial_density: float = 0.5
    update_interval: int = 1000
    drop_fraction: float = 0.5
    prune_until: float = 0.5

    def __post_init__(self) -> None:
        self.target, self.sparsity, self.history = self.sparsity, 1 - self.initial_density, []
        super().__post_init__()
        self.start, self.updates = self.sparsity, 0

    def adjust_gradients(self) -> None:
        self.dense = {name: w.grad.abs() for name, w in self.weights.items()}
        super().adjust_gradients()

    def after_step(self) -> None:
        t, total = self.iteration, self.train.epochs * E
        end = floor(self.prune_until * total / self.update_interval) * self.update_interval
        if t % self.update_interval or t > end:
            return
        self.updates += 1
        self.masks = self.select(self.start + (self.target - self.start) * (1 - (1 - t / end) ** 3))
        self.apply()
        self.history.append(sum(int(mask.sum()) for mask in self.masks.values()))
        before, rate = self.masks, 0.005 + (self.drop_fraction - 0.005) / 2 * (1 + cos(pi * t / total))
        self.masks = {name: self.moved(name, rate) for name in self.weights}
        self.apply()
        self.revived += revived(before, self.masks)

    def moved(self, name: str, rate: float) -> Tensor:
        w, mask = self.weights[name].detach().flatten().tolist(), self.masks[name].flatten().tolist()
        active = sorted((i for i, m in enumerate(mask) if m), key=lambda i: -abs(w[i]))
        stay = active[: len(active) - ceil(rate * len(active))]
        score = self.dense[name].flatten().tolist()
        others = sorted(set(range(len(w))) - set(stay), key=lambda i: (-score[i], i))
        new = torch.zeros(len(w), dtype=torch.float64)
        new[[*stay, *others[: len(active) - len(stay)]]] = 1
        return new.view_as(self.masks[name])


@dataclass(eq=False)
class ACDC(Reference):
    allocation: str = "global"
    warmup: int = 10
    phase: int = 5
    final_dense: int = 10
    final_compressed: int = 15

    def after_epoch(self) -> None:
        """Epochs of each kind, spelled out: dense, then compressed and dense by turns."""
        middle = self.train.epochs - self.warmup - self.final_dense - self.final_compressed
        lengths = [self.warmup, *[self.phase] * (middle // self.phase), self.final_dense, self.final_compressed]
        starts = [sum(lengths[:i]) for i in range(len(lengths))]
        if self.epochs_over not in starts:
            return
        if starts.index(self.epochs_over) % 2:
            self.prune(self.select(self.sparsity, self.allocation))
        else:
            self.masks, self.momentum_of = {}, {p: torch.zeros_like(b) for p, b in self.momentum_of.items()}


@dataclass(eq=False)
class SRSTE(Reference):
    pattern: str = "2:4"
    refinement: float = 2e-4

    def chosen(self) -> Tensors:
        """Group by group: of M input channels at one place the N of largest magnitude."""
        n, m = map(int, self.pattern.split(":"))
        masks = {name: torch.ones_like(w) for name, w in self.weights.items()}
        for name, w in self.weights.items():
            if w.shape[1] % m:
                continue
            rows = w.detach().movedim(1, -1).reshape(-1, m).tolist()
            kept = [sorted(range(m), key=lambda i: -abs(row[i]))[:n] for row in rows]
            flags = torch.tensor([[float(i in places) for i in range(m)] for places in kept], dtype=torch.float64)
            masks[name] = flags.view(w.movedim(1, -1).shape).movedim(-1, 1)
        return masks

    def view(self) -> Tensors:
        self.seen = self.chosen()
        return {name: StraightThrough.apply(self.weights[name], mask) for name, mask in self.seen.items()}

    def adjust_gradients(self) -> None:
        for name, w in self.weights.items():
            w.grad += self.refinement * (1 - self.seen[name]) * w

    def finalize(self) -> None:
        self.become_the_view()


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


@pytest.mark.parametrize(
    "settings", [{"update_interval": 10}, {"update_interval": 7, "initial_density": 1.0, "prune_until": 0.8}]
)
def test_granet(settings: dict[str, Any], store: Store):
    """In the second case 96 iterations are cut to 91, which 7 divides; both end with exactly what is asked for."""
    reference = GraNet(0.9, LONG, **settings)
    compare(stage_of("granet", 0.9, settings, LONG), reference, store)
    assert reference.updates == {10: 6, 7: 13}[settings["update_interval"]]
    assert reference.history[-1] == reference.n - round(0.9 * reference.n)
    assert reference.history == sorted(reference.history, reverse=True)
    assert reference.revived > 100


@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_acdc(allocation: str, store: Store):
    """20 epochs: dense to 2, compressed to 6, dense to 10, compressed to 14, dense to 16, compressed to the end."""
    settings = {"warmup": 2, "phase": 4, "final_dense": 2, "final_compressed": 4, "allocation": allocation}
    reference = ACDC(0.9, LONG, **settings)
    compare(stage_of("acdc", 0.9, settings, LONG), reference, store)
    assert reference.reached() == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize(("pattern", "refinement"), [("2:4", 1e-2), ("1:4", 2e-4), ("3:16", 1e-3), ("1:2", 0.0)])
def test_sr_ste(pattern: str, refinement: float, store: Store):
    """The first convolution has one channel, and is dense; 16 divides the last ones alone."""
    settings, train = (
        {"pattern": pattern, "refinement": refinement},
        replace(LONG, epochs=20 if pattern == "2:4" else 5),
    )
    reference = SRSTE(0.0, train, **settings)
    compare(stage_of("sr_ste", 0.0, settings, train), reference, store)
    n, m = map(int, pattern.split(":"))
    shares = {float((w != 0).double().mean()) for w in reference.weights.values()}
    assert shares == {1.0, n / m}
