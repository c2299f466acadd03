"""IMP and GMP against a second, naive implementation in float64: SGD, masks and schedules spelled out in plain loops.

Only the model, the initial weights and the batches are shared. It knows nothing of methods, stages or optimizers.
"""

from __future__ import annotations

from dataclasses import replace
from math import floor

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.cases import TRAIN, last_stage, trial
from workers import checkpoint, data, models
from workers.data.base import train_batches
from workers.host import Where
from workers.run import run_stage
from workers.seeding import derive
from workers.spec import Stage, TrainSpec, path
from workers.store import MOMENTUM, NETWORK, Store

FLOAT64 = replace(TRAIN, precision="float64", epochs=4)
E = 6
"""180 training images in batches of 32."""


class Reference:
    def __init__(self, stage: Stage) -> None:
        root = stage.root
        self.train: TrainSpec = root.train
        self.dataset = data.load(root.dataset, "unused")
        torch.manual_seed(derive(root.seed, "weights"))
        self.model = models.build(root.model, self.dataset.shape, self.dataset.classes).double()
        self.weights = [m.weight for m in self.model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        self.masks = [torch.ones_like(w) for w in self.weights]
        self.momentum: dict[Tensor, Tensor] = {}

    def prune(self, sparsity: float) -> float:
        """By a full stable sort over all layers; returns the relative norm drop."""
        pool = torch.cat([w.detach().abs().flatten() for w in self.weights])
        order = pool.argsort(descending=True, stable=True)
        keep = torch.zeros_like(pool)
        keep[order[: len(pool) - round(sparsity * len(pool))]] = 1
        drop = float((pool * (1 - keep)).norm() / pool.norm())
        for i, (w, part) in enumerate(zip(self.weights, keep.split([w.numel() for w in self.weights]), strict=True)):
            self.masks[i] = part.view_as(w)
            w.data.mul_(self.masks[i])
            if w in self.momentum:
                self.momentum[w].mul_(self.masks[i])
        return drop

    def epoch(self, number: int, lr, first: int) -> None:
        batches = train_batches(
            self.dataset, seed=0, epoch=number, batch_size=32, augment=True, dtype=torch.float64, channels_last=False
        )
        self.model.train()
        for k, (inputs, targets) in enumerate(batches, first):
            self.model.zero_grad()
            functional.cross_entropy(self.model(inputs), targets).backward()
            for p in self.model.parameters():
                self.step(p, lr(k))

    @torch.no_grad()
    def step(self, p: Tensor, lr: float) -> None:
        """SGD with Nesterov momentum (Sutskever et al. 2013), weight decay in the gradient."""
        masks = [m for w, m in zip(self.weights, self.masks, strict=True) if w is p]
        gradient = p.grad * masks[0] if masks else p.grad
        gradient = gradient + self.train.weight_decay * p
        buffer = self.momentum.get(p)
        buffer = gradient.clone() if buffer is None else 0.9 * buffer + gradient
        self.momentum[p] = buffer
        p -= lr * (gradient + 0.9 * buffer)


def dense_lr(k: int, total: int) -> float:
    """0.05, one epoch of warm-up, linear to 0 over the rest."""
    return 0.05 * k / E if k < E else 0.05 * (1 - (k - E) / (total - E))


def allr(k: int, n: int, drop: float, q: float, budget: float) -> float:
    warmup = floor(0.1 * n)
    peak = 0.05 * min(1.0, max(drop / q**0.5, budget))
    return peak * k / warmup if k < warmup else peak * (1 - (k - warmup) / (n - warmup))


def run(stage: Stage, store: Store) -> dict[str, Tensor]:
    for each in path(stage):
        list(run_stage(each, store, Where()))
    return checkpoint.unpack_tensors(store.read_published(stage.key, NETWORK))


def assert_close(ours: dict[str, Tensor], reference: Reference) -> None:
    for name, expected in reference.model.named_parameters():
        torch.testing.assert_close(ours[name].contiguous(), expected.detach(), rtol=1e-9, atol=1e-13)
    weights = {name: p for name, p in reference.model.named_parameters() if any(p is w for w in reference.weights)}
    for (name, _), mask in zip(weights.items(), reference.masks, strict=True):
        assert torch.equal(ours[name] != 0, mask != 0)


def test_imp_in_two_phases(store: Store):
    """75 % in two phases of 1 and 2 epochs; momentum carries over, q = 1/2 in both."""
    stage = last_stage(trial("imp", 0.75, train=FLOAT64))
    ours = run(stage, store)
    reference = Reference(stage)
    for epoch in range(4):
        reference.epoch(epoch, lambda k: dense_lr(k, 4 * E), epoch * E)
    reference.momentum.clear()
    for sparsity, start, length in ((0.5, 4, 1), (0.75, 5, 2)):
        drop = reference.prune(sparsity)
        n = length * E
        for epoch in range(length):
            reference.epoch(start + epoch, lambda k, d=drop, n=n, b=length / 4: allr(k, n, d, 0.5, b), epoch * E)
    assert_close(ours, reference)
    momentum = checkpoint.unpack_tensors(store.read_published(stage.key, MOMENTUM))
    for name, p in reference.model.named_parameters():
        torch.testing.assert_close(momentum[name].contiguous(), reference.momentum[p], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_gmp(sparsity: float, store: Store):
    """Interval 1 of 4 epochs: three prunes, at the ends of epochs 1, 2 and 3."""
    stage = last_stage(trial("gmp", sparsity, train=FLOAT64))
    ours = run(stage, store)
    reference = Reference(stage)
    for epoch in range(4):
        reference.epoch(epoch, lambda k: dense_lr(k, 4 * E), epoch * E)
        if epoch < 3:
            reference.prune(sparsity * (1 - (1 - (epoch + 1) / 3) ** 3))
    assert_close(ours, reference)
