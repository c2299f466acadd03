"""Pruning at initialisation against a second implementation: see `test_reference`.

Scores are spelled out in loops over weights, and in central differences of losses where there is a derivative of one.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jvp
from torch.nn import functional

from prunesweep.workers.seeding import derive
from prunesweep.workers.store import Store
from tests.workers.test_reference import FLOAT64, Reference, Tensors, compare, largest, stage_of

LONG = replace(FLOAT64, epochs=20)
"""120 iterations."""


@dataclass(eq=False)
class Initial(Reference):
    images_per_class: int = 10
    rounds: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        self.keep = self.n - round(self.sparsity * self.n)
        self.masks = self.chosen()
        with torch.no_grad():
            for name, w in self.weights.items():
                w *= self.masks[name]

    def chosen(self) -> Tensors:
        raise NotImplementedError

    def batch(self) -> tuple[Tensor, Tensor]:
        """The first ten images of each class, in one order of the training set."""
        stream = list(self.batches(derive(0, "preparation")))
        images, targets = (torch.cat(parts) for parts in zip(*stream, strict=True))
        places = sorted(
            i for c in range(4) for i in (targets == c).nonzero().flatten().tolist()[: self.images_per_class]
        )
        return images[places], targets[places]

    def loss(self, weights: Tensors, temperature: float = 1.0) -> Tensor:
        """Of a copy of the network, whose statistics move and are forgotten."""
        images, targets = self.batch()
        copy = deepcopy(self.model).train()
        return functional.cross_entropy(functional_call(copy, weights, images) / temperature, targets)

    def gradients(self, weights: Tensors, temperature: float = 1.0) -> Tensors:
        leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
        parts = torch.autograd.grad(self.loss(leaves, temperature), list(leaves.values()))
        return dict(zip(leaves, parts, strict=True))


@dataclass(eq=False)
class SNIP(Initial):
    def chosen(self) -> Tensors:
        gradients = self.gradients(self.weights)
        return largest({name: (w * gradients[name]).abs().detach() for name, w in self.weights.items()}, self.keep)


@dataclass(eq=False)
class GraSP(Initial):
    def chosen(self) -> Tensors:
        """H g as the change of g along g, by a central difference of fourth order."""
        start = {name: w.detach() for name, w in self.weights.items()}
        g = self.gradients(start, 200.0)
        step = 1e-7 / max(float(part.abs().max()) for part in g.values())
        product = {name: torch.zeros_like(w) for name, w in start.items()}
        for factor, share in ((1, 2 / 3), (-1, -2 / 3), (2, -1 / 12), (-2, 1 / 12)):
            there = self.gradients({name: w + factor * step * g[name] for name, w in start.items()}, 200.0)
            for name in product:
                product[name] += share * there[name] / step
        return largest({name: w * product[name] for name, w in start.items()}, self.keep)


@dataclass(eq=False)
class SynFlow(Initial):
    def chosen(self) -> Tensors:
        tensors = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        state = {n: t.detach().abs() if t.is_floating_point() else t for n, t in tensors.items()}
        masks = {name: torch.ones_like(w) for name, w in self.weights.items()}
        density = 1 - self.sparsity
        for number in range(1, self.rounds + 1):
            keep = self.n - round((1 - density ** (number / self.rounds)) * self.n)
            masks = largest(self.flow(state, masks), keep if number < self.rounds else self.keep)
        return masks

    def flow(self, state: Tensors, masks: Tensors) -> Tensors:
        """w dR/dw by a forward derivative of each tensor's own scaling, weight by weight where it has few."""
        weights = {name: state[name] * masks[name] for name in masks}
        leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
        copy = deepcopy(self.model).eval()
        total = functional_call(copy, {**state, **leaves}, torch.ones(1, 1, 8, 8, dtype=torch.float64)).sum()
        parts = torch.autograd.grad(total, list(leaves.values()))
        scores = {name: (weights[name] * part).abs() for name, part in zip(leaves, parts, strict=True)}
        name = "conv1.weight"  # the sum of a layer's scores is what scaling the layer changes

        def scaled(factor: Tensor) -> Tensor:
            inputs = torch.ones(1, 1, 8, 8, dtype=torch.float64)
            return functional_call(copy, {**state, **weights, name: weights[name] * factor}, inputs).sum()

        one = torch.tensor(1.0, dtype=torch.float64)
        assert float(scores[name].sum()) == pytest.approx(float(jvp(scaled, (one,), (one,))[1]), rel=1e-9)
        return scores


@pytest.mark.parametrize(
    ("name", "settings", "sparsity"),
    [
        ("snip", {}, 0.9),
        ("snip", {"images_per_class": 3}, 0.5),
        ("grasp", {}, 0.8),
        ("synflow", {"rounds": 100}, 0.95),
        ("synflow", {"rounds": 1}, 0.5),
    ],
)
def test_pruning_at_initialisation(name: str, settings: dict[str, Any], sparsity: float, store: Store):
    reference = {"snip": SNIP, "grasp": GraSP, "synflow": SynFlow}[name](sparsity, LONG, **settings)
    compare(stage_of(name, sparsity, settings, LONG), reference, store)
    assert reference.reached() == pytest.approx(sparsity, abs=1e-3)
