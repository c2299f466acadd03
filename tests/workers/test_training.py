from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from timm.loss import BinaryCrossEntropy
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import update_bn

from prunesweep.workers import precision, training
from prunesweep.workers.methods.base import Method
from prunesweep.workers.methods.lc import LC
from prunesweep.workers.methods.pruner import Setup
from prunesweep.workers.optimizers import make_optimizer
from prunesweep.workers.spec import TrainSpec
from prunesweep.workers.store import Store
from prunesweep.workers.tasks.classification import Classification, binary_targets
from tests.cases import TRAIN, last_stage, trial
from tests.contract import network, numbers, resumed_after, run

LR = 0.1


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).double()


def batches(count: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 8, 3, 2, 2, generator=generator, dtype=torch.float64)
    return [(batch, torch.randint(4, (8,), generator=generator)) for batch in images]


def trained(**settings: object) -> tuple[nn.Module, training.Score]:
    train = TrainSpec(lr=LR, batch_size=8, precision="float64", **settings)  # type: ignore[arg-type]
    model = linear()
    pruner = Method().pruner(Setup(model, {"1.weight": model[1].weight}, 0.0, 1, 3))
    pruner.optimizer = optimizer = make_optimizer(model, pruner, train)
    computed = training.Network(model, train, torch.device("cpu"))
    return model, training.train_epoch(computed, pruner, optimizer, batches(), lambda k: LR, 0)


def by_hand(*, smoothing: float = 0.0, clip: float = math.inf, binary: bool = False) -> tuple[nn.Module, float]:
    """Plain SGD with Nesterov momentum; the loss on targets as distributions; clipping as torch defines it.

    The loss that is reported is cross-entropy without smoothing.
    """
    model, losses = linear(), []
    momentum = [torch.zeros_like(p) for p in model.parameters()]
    for images, targets in batches():
        wanted = (1 - smoothing) * torch.eye(4, dtype=torch.float64)[targets] + smoothing / 4
        logits = model(images)
        loss = -(wanted * logits.log_softmax(1)).sum(1).mean()
        if binary:
            loss = -(wanted * logits.sigmoid().log() + (1 - wanted) * (1 - logits.sigmoid()).log()).mean()
        losses.append(float(cross_entropy(model(images), targets).detach()))
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        for p, g, m in zip(model.parameters(), gradients, momentum, strict=True):
            g = g * min(1.0, clip / (norm + 1e-6)) + 5e-4 * p.detach()
            m.mul_(0.9).add_(g)
            p.data -= LR * (g + 0.9 * m)
    return model, sum(losses) / len(losses)


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({}, {}),
        ({"label_smoothing": 0.2}, {"smoothing": 0.2}),
        ({"loss": "binary_cross_entropy", "label_smoothing": 0.2}, {"smoothing": 0.2, "binary": True}),
        ({"clip_norm": 0.3}, {"clip": 0.3}),
        ({"accumulate": 4}, {}),
        ({"accumulate": 2, "label_smoothing": 0.2, "clip_norm": 0.3}, {"smoothing": 0.2, "clip": 0.3}),
    ],
)
def test_an_epoch_by_hand(settings: dict[str, float], same: dict[str, float]):
    model, score = trained(**settings)
    expected, loss = by_hand(**same)
    assert score.loss == pytest.approx(loss, rel=1e-12)
    for p, q in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("smoothing", "threshold", "wanted"),
    [
        (0.0, None, [[0.7, 0.3, 0.0, 0.0], [0.0, 0.15, 0.85, 0.0]]),
        (0.2, None, [[0.61, 0.29, 0.05, 0.05], [0.05, 0.17, 0.73, 0.05]]),
        (0.2, 0.2, [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]),
    ],
)
def test_targets_of_mixed_images_are_smoothed_and_then_held_against_the_threshold(
    smoothing: float, threshold: float | None, wanted: list[list[float]]
):
    """As timm's loss has them behind its Mixup."""
    logits = torch.randn(2, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    shares = torch.tensor([[0.7, 0.3, 0.0, 0.0], [0.0, 0.15, 0.85, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(binary_targets(logits, shares, smoothing, threshold), torch.tensor(wanted).double())
    train = TrainSpec(label_smoothing=smoothing, loss="binary_cross_entropy", target_threshold=threshold, mixup=0.1)
    ours = Classification().in_training(train).reduced(logits, shares, "mean")
    theirs = BinaryCrossEntropy(target_threshold=threshold)(logits, shares * (1 - smoothing) + smoothing / 4)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-12)


def test_lc_decays_the_smallest_weights_alone_also_where_gradients_are_clipped():
    """Clipped to nothing, the loss moves no weight: the smallest half loses 0.2 LR of itself, biases 0.1 LR."""
    model = linear()
    layer = model[1]
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    train = TrainSpec(
        lr=LR, batch_size=8, precision="float64", momentum=0.0, weight_decay=0.1, clip_norm=1e-12, nesterov=False
    )
    pruner = LC(penalty=0.2).pruner(Setup(model, {"1.weight": layer.weight}, 0.5, 1, 1))
    pruner.optimizer = optimizer = make_optimizer(model, pruner, train)
    network = training.Network(model, train, torch.device("cpu"))
    training.train_epoch(network, pruner, optimizer, batches(1), lambda k: LR, 0)
    smallest = weight.abs() <= weight.abs().flatten().kthvalue(weight.numel() // 2).values
    torch.testing.assert_close(layer.weight, torch.where(smallest, weight * (1 - 0.2 * LR), weight), rtol=0, atol=1e-11)
    torch.testing.assert_close(layer.bias, bias * (1 - 0.1 * LR), rtol=0, atol=1e-11)


def test_parts_of_a_batch_are_of_equal_size_and_none_is_larger_than_those_of_a_full_one():
    train = TrainSpec(batch_size=32, accumulate=4)
    assert [training.part_count(whole, train) for whole in (32, 25, 24, 9, 8, 1)] == [4, 4, 3, 2, 1, 1]
    network = training.Network(linear(), train, torch.device("cpu"))
    parts = network.parts(torch.arange(9), torch.arange(9))
    assert [inputs.tolist() for inputs, _ in parts] == [[0, 1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize("name", ["imp", "str"])
def test_a_stage_that_accumulates_resumes_bit_for_bit(name: str, tmp_path: Path):
    """180 images in batches of 32: the last has 20, in 3 parts of at most 8."""
    last = last_stage(trial(name, train=replace(TRAIN, epochs=2, accumulate=4)))
    stage = last if name == "imp" else last.root
    unbroken, broken = Store(tmp_path / "unbroken"), Store(tmp_path / "broken")
    run(stage, unbroken)
    resumed_after(1, stage, broken)
    assert numbers(stage, broken) == numbers(stage, unbroken)


def test_evaluation_is_of_the_loss_without_smoothing():
    model, train = linear(), TrainSpec(label_smoothing=0.5, precision="float64")
    score = training.evaluate(training.Network(model, train, torch.device("cpu")), batches(1))
    [(images, targets)] = batches(1)
    assert score.loss == pytest.approx(cross_entropy(model(images), targets).item(), rel=1e-12)


def test_tf32_is_what_was_asked_for_and_nothing_else():
    for name in (*precision.PRECISIONS, "tf32", "float32"):
        precision.set_backends(name)
        flags = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
        assert flags == (name == "tf32", name == "tf32")
        assert torch.backends.cudnn.deterministic


def test_bfloat16_multiplies_in_it_and_stores_float32(tmp_path: Path):
    """Other numbers than float32's, as good ones, in the same types."""
    stores = {name: Store(tmp_path / name) for name in ("float32", "bfloat16")}
    stages = {name: last_stage(trial("dense", train=replace(TRAIN, epochs=4, precision=name))) for name in stores}
    for name, store in stores.items():
        run(stages[name], store)
    exact, rounded = (network(stages[name], stores[name]) for name in stores)
    assert {name: t.dtype for name, t in exact.items()} == {name: t.dtype for name, t in rounded.items()}
    assert not torch.equal(exact["fc.weight"], rounded["fc.weight"])
    losses = [stores[name].result(stages[name].key)["metrics"]["test_loss"] for name in stores]  # type: ignore[index]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


@pytest.mark.slow
def test_compiled_training_is_close_to_eager_and_resumes_bit_for_bit(tmp_path: Path):
    """The last batch of an epoch is smaller here, and DPF computes with other weights than it keeps."""
    train = replace(TRAIN, precision="float64")
    eager, compiled = (last_stage(trial("dpf", train=replace(train, compile=on))) for on in (False, True))
    stores = [Store(tmp_path / name) for name in ("eager", "compiled", "resumed")]
    run(eager, stores[0])
    run(compiled, stores[1])
    resumed_after(2, compiled, stores[2])
    assert numbers(compiled, stores[1]) == numbers(compiled, stores[2])
    for name, tensor in network(eager, stores[0]).items():
        torch.testing.assert_close(network(compiled, stores[1])[name], tensor, rtol=1e-9, atol=1e-12)


class PartlyFrozen(nn.Module):
    """Its first layer keeps the statistics of a pretraining, and its last is one for evaluation alone."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.own, self.aside = nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        for norm in (self.frozen, self.own, self.aside):
            norm.running_mean.fill_(0.5)

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        images = self.own(self.frozen(images))
        return images if self.training else self.aside(images)


def test_recalibration_is_that_of_torch_but_for_layers_that_do_not_train():
    model = PartlyFrozen().double()
    training.recalibrate(training.Network(model, TrainSpec(), torch.device("cpu")), batches())
    for kept in (model.frozen, model.aside):
        assert kept.running_mean.tolist() == [0.5] * 3
        assert kept.num_batches_tracked == 0
    alone = nn.BatchNorm2d(3).double()
    update_bn([model.frozen(images) for images, _ in batches()], alone)
    for name, values in model.own.state_dict().items():
        assert values.equal(alone.state_dict()[name]), name
    assert model.own.momentum == 0.1
