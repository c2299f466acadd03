"""The average of weights over iterations, against a plain loop in float64, and as the network of a stage."""

from __future__ import annotations

import io
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prunesweep.workers import models
from prunesweep.workers.average import average_of
from prunesweep.workers.methods.base import Method
from prunesweep.workers.methods.pruner import Setup
from prunesweep.workers.optimizers import make_optimizer
from prunesweep.workers.seeding import seed_all
from prunesweep.workers.selection import magnitude_masks
from prunesweep.workers.spec import Stage, TrainSpec
from prunesweep.workers.store import CURVE, Store
from prunesweep.workers.training import Network, train_epoch
from tests.cases import RESNET, last_stage, trial
from tests.contract import network, run

STEPS, PRUNED_AFTER, LR, DECAY = 50, 20, 0.1, 0.9


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)).double()


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(STEPS, 8, 3, 2, 2, generator=generator, dtype=torch.float64)
    return [(batch, torch.randint(4, (8,), generator=generator)) for batch in images]


def test_fifty_steps_with_a_mask_by_hand():
    net, train = model(), TrainSpec(batch_size=8, precision="float64", momentum=0.0, nesterov=False, ema=DECAY)
    weights = {name: p for name, p in net.named_parameters() if p.dim() > 1}
    pruner = Method().pruner(Setup(net, weights, 0.5, 1, STEPS))
    pruner.optimizer = optimizer = make_optimizer(net, pruner, train)
    pruner.average = average_of(net, {}, train.ema)
    computed = Network(net, train, torch.device("cpu"))
    train_epoch(computed, pruner, optimizer, batches()[:PRUNED_AFTER], lambda k: LR, 0)
    pruner.hold(magnitude_masks(pruner.weights, 0.5))
    train_epoch(computed, pruner, optimizer, batches()[PRUNED_AFTER:], lambda k: LR, PRUNED_AFTER)

    expected, masks = model(), {}
    average = {name: tensor.clone() for name, tensor in expected.state_dict().items()}
    for t, (images, targets) in enumerate(batches(), 1):
        expected.zero_grad()
        cross_entropy(expected(images), targets).backward()
        with torch.no_grad():
            for name, p in expected.named_parameters():
                p -= LR * (p.grad + 5e-4 * p) * masks.get(name, 1.0)
        for name, tensor in expected.state_dict().items():
            whole = name == "2.num_batches_tracked"
            average[name] = tensor.clone() if whole else DECAY * average[name] + (1 - DECAY) * tensor
        if t == PRUNED_AFTER:
            parts = {name: p.detach() for name, p in expected.named_parameters() if p.dim() > 1}
            order = torch.cat([p.abs().flatten() for p in parts.values()]).sort().values
            masks = {name: (p.abs() > order[len(order) // 2 - 1]).double() for name, p in parts.items()}
            for name, mask in masks.items():
                parts[name].mul_(mask)
                average[name] *= mask

    assert pruner.average.tensors.keys() == average.keys()
    for name, tensor in pruner.average.tensors.items():
        torch.testing.assert_close(tensor, average[name], rtol=1e-12, atol=1e-13)
        assert torch.equal(tensor == 0, average[name] == 0)
    assert sum(int((pruner.average.tensors[name] == 0).sum()) for name in weights) == (12 * 8 + 8 * 4) // 2


TRAIN = TrainSpec(epochs=2, batch_size=32, lr=0.05)


def validation_losses(stage: Stage, store: Store) -> list[float]:
    return pq.read_table(io.BytesIO(store.read_published(stage.key, CURVE))).column("validation_loss").to_pylist()


def test_the_average_is_what_is_validated_and_published(store: Store):
    """Of a decay next to 1 it is the initial network; what is trained is the same with it and without."""
    still = {"ema": 0.9999999}
    plain, average, only_published, only_validated = (
        last_stage(trial("dense", train=replace(TRAIN, **settings)))
        for settings in ({}, still, {**still, "validate_ema": False}, {**still, "publish_ema": False})
    )
    for stage in (plain, average, only_published, only_validated):
        run(stage, store)
    seed_all(0, "weights")
    start = models.build(RESNET, (1, 8, 8), 4).state_dict()
    for stage in (average, only_published):
        published = network(stage, store)
        assert all(torch.allclose(published[name], p, atol=1e-4) for name, p in start.items() if p.is_floating_point())
        assert published["bn1.num_batches_tracked"] == 12
    trained, learned = network(plain, store), network(only_validated, store)
    assert all(torch.equal(learned[name], tensor) for name, tensor in trained.items())
    losses = [validation_losses(stage, store) for stage in (plain, average, only_published, only_validated)]
    assert losses[0][0] == losses[2][0] != losses[1][0] == losses[3][0]
    assert losses[1][1] == losses[2][1] == pytest.approx(losses[1][0], abs=1e-4)
    assert losses[3][1] == losses[0][1]


@pytest.mark.parametrize("name", ["gmp", "dnw", pytest.param("str", marks=pytest.mark.slow)])
def test_the_average_reaches_its_sparsity_exactly(name: str, store: Store):
    stage = last_stage(trial(name, 0.9, train=replace(TRAIN, epochs=3, ema=0.8)))
    run(stage, store)
    result = store.result(stage.key)
    assert result is not None
    n = sum(layer["weights"] for layer in result["layers"])
    assert result["metrics"]["reached_sparsity"] == round(0.9 * n) / n
