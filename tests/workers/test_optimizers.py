"""Optimizers against plain loops in float64, and the contract that each keeps with every method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prunesweep.workers import checkpoint, methods, models
from prunesweep.workers.checkpoint import Progress
from prunesweep.workers.errors import SpecError, UserError
from prunesweep.workers.fingerprints import fingerprinted, without_fingerprints
from prunesweep.workers.methods.base import Method
from prunesweep.workers.methods.pruner import Setup
from prunesweep.workers.optimizer_settings import OPTIMIZERS
from prunesweep.workers.optimizer_state import begin_anew, of_weight
from prunesweep.workers.optimizers import make_optimizer
from prunesweep.workers.parameter_patterns import factors, freeze, matches
from prunesweep.workers.run import StageFailed
from prunesweep.workers.seeding import seed_all
from prunesweep.workers.selection import magnitude_masks
from prunesweep.workers.spec import TrainSpec
from prunesweep.workers.store import Store
from prunesweep.workers.training import Network, train_epoch
from prunesweep.workers.trust import choices_of_stage, require_trusted
from tests.cases import RESNET, SETTINGS, last_stage, trial
from tests.contract import Awkward, numbers, resumed_after, run, trained_with

STEPS, PRUNED_AFTER, LR = 50, 20, 0.01

Tensors = dict[str, Tensor]
Step = Callable[[Tensor, Tensor, Tensors, int], None]


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 4)).double()


def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        images = torch.randn(8, 3, 2, 2, generator=generator, dtype=torch.float64)
        yield images, torch.randint(4, (8,), generator=generator)


def adamw(p: Tensor, g: Tensor, state: Tensors, t: int, lr: float = LR, decay: float = 0.1) -> None:
    """Loshchilov & Hutter 2019, algorithm 2, with beta1 0.8 and beta2 0.99."""
    p *= 1 - lr * decay
    state["m"] = 0.8 * state.get("m", torch.zeros_like(p)) + 0.2 * g
    state["v"] = 0.99 * state.get("v", torch.zeros_like(p)) + 0.01 * g * g
    p -= lr * (state["m"] / (1 - 0.8**t)) / ((state["v"] / (1 - 0.99**t)).sqrt() + 1e-6)


def adam(p: Tensor, g: Tensor, state: Tensors, t: int, lr: float = LR, decay: float = 0.1) -> None:
    """Kingma & Ba 2015, algorithm 1, with decay in the gradient."""
    adamw(p, g + decay * p, state, t, lr, 0.0)


def rmsprop(p: Tensor, g: Tensor, state: Tensors, t: int, lr: float = LR, decay: float = 0.1) -> None:
    """Graves 2013, section 4.2, with momentum 0.5."""
    g = g + decay * p
    state["v"] = 0.9 * state.get("v", torch.zeros_like(p)) + 0.1 * g * g
    state["a"] = 0.9 * state.get("a", torch.zeros_like(p)) + 0.1 * g
    deviation = (state["v"] - state["a"] ** 2).sqrt() + 1e-6
    state["b"] = 0.5 * state.get("b", torch.zeros_like(p)) + g / deviation
    p -= lr * state["b"]


def lamb(p: Tensor, g: Tensor, state: Tensors, t: int, lr: float = LR, decay: float = 0.1) -> None:
    """You et al. 2020, algorithm 2: Adam's step with the decay in it, as long as the weights are."""
    state["m"] = 0.8 * state.get("m", torch.zeros_like(p)) + 0.2 * g
    state["v"] = 0.99 * state.get("v", torch.zeros_like(p)) + 0.01 * g * g
    step = (state["m"] / (1 - 0.8**t)) / ((state["v"] / (1 - 0.99**t)).sqrt() + 1e-6) + decay * p
    lengths = p.norm(), step.norm()
    p -= lr * (lengths[0] / lengths[1] if min(lengths) > 0 else 1.0) * step


LOOPS: dict[str, tuple[Step, dict[str, Any]]] = {
    "adamw": (adamw, {"beta1": 0.8, "beta2": 0.99, "eps": 1e-6}),
    "adam": (adam, {"beta1": 0.8, "beta2": 0.99, "eps": 1e-6}),
    "rmsprop": (rmsprop, {"alpha": 0.9, "centered": True, "momentum": 0.5, "eps": 1e-6}),
    "lamb": (lamb, {"beta1": 0.8, "beta2": 0.99, "eps": 1e-6}),
}


def ours(train: TrainSpec) -> nn.Module:
    """50 steps, after 20 of which half of the weights are pruned and held."""
    net = model()
    freeze(net, train.freeze or ())
    weights = {name: p for name, p in net.named_parameters() if p.dim() > 1}
    pruner = Method().pruner(Setup(net, weights, 0.5, 1, STEPS))
    pruner.optimizer = optimizer = make_optimizer(net, pruner, train)
    network, whole = Network(net, train, torch.device("cpu")), list(batches(STEPS))
    train_epoch(network, pruner, optimizer, whole[:PRUNED_AFTER], lambda k: LR, 0)
    pruner.hold(magnitude_masks(pruner.weights, 0.5))
    train_epoch(network, pruner, optimizer, whole[PRUNED_AFTER:], lambda k: LR, PRUNED_AFTER)
    return net


def by_hand(
    step: Step, told: Callable[[str], dict[str, float]] = lambda name: {}, bound: float = math.inf
) -> nn.Module:
    """The same in a plain loop; `told` says what a parameter's step is told otherwise than others.

    `bound` is of the norm of all gradients together.
    """
    net, masks, states = model(), {}, {name: {} for name, _ in model().named_parameters()}
    for t, (images, targets) in enumerate(batches(STEPS), 1):
        net.zero_grad()
        cross_entropy(net(images), targets).backward()
        with torch.no_grad():
            gradients = {name: p.grad * masks.get(name, 1.0) for name, p in net.named_parameters()}
            norm = math.sqrt(sum(float(g.square().sum()) for g in gradients.values()))
            for name, p in net.named_parameters():
                step(p, gradients[name] / max(1.0, norm / bound), states[name], t, **told(name))
            if t == PRUNED_AFTER:
                weights = {name: p for name, p in net.named_parameters() if p.dim() > 1}
                order = torch.cat([p.abs().flatten() for p in weights.values()]).sort().values
                masks = {name: (p.abs() > order[len(order) // 2 - 1]).double() for name, p in weights.items()}
                for name, mask in masks.items():
                    weights[name].mul_(mask)
                    states[name] = {kind: tensor * mask for kind, tensor in states[name].items()}
    return net


@pytest.mark.parametrize("name", LOOPS)
def test_fifty_steps_with_a_mask_by_hand(name: str):
    step, settings = LOOPS[name]
    train = TrainSpec(batch_size=8, precision="float64", optimizer=name, weight_decay=0.1, **settings)
    trained, expected = ours(train), by_hand(step, bound=1.0 if name == "lamb" else math.inf)
    for (parameter, p), q in zip(trained.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-13)
        assert torch.equal(p == 0, q == 0), parameter
    assert sum(int((p == 0).sum()) for p in trained.parameters() if p.dim() > 1) == (12 * 8 + 8 * 4) // 2


def test_decay_of_weights_alone_factors_of_the_learning_rate_and_frozen_layers_by_hand():
    train = TrainSpec(
        batch_size=8,
        precision="float64",
        optimizer="adamw",
        weight_decay=0.1,
        **LOOPS["adamw"][1],
        decay_norm_and_bias=False,
        lr_scale=(("4", 0.1), ("1.bias", 3.0)),
        freeze=("2",),
    )

    def told(name: str) -> dict[str, float]:
        scale = {"4.weight": 0.1, "4.bias": 0.1, "1.bias": 3.0, "2.weight": 0.0, "2.bias": 0.0}.get(name, 1.0)
        return {"lr": LR * scale, "decay": 0.1 if name in ("1.weight", "4.weight") else 0.0}

    trained, expected, start = ours(train), by_hand(adamw, told), model()
    for p, q in zip(trained.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-13)
    assert torch.equal(trained[2].weight, start[2].weight)
    assert torch.equal(trained[2].bias, start[2].bias)


# --- the contract


REFUSED = {
    *(("gsm", name) for name in ("adamw", "adam", "rmsprop", "lamb", "tests.own_training:Restless")),
    *(("lc", name) for name in ("adamw", "lamb", "tests.own_training:Restless")),
}
"""Methods whose mathematics is not that of the optimizer."""


OWN = "tests.own_training:Restless"
OTHERS = ["adamw", *(pytest.param(name, marks=pytest.mark.slow) for name in ("adam", "rmsprop", "lamb", OWN))]


def test_every_optimizer_is_tried():
    assert {"sgd", "adamw", "adam", "rmsprop", "lamb"} == OPTIMIZERS.keys()


@pytest.mark.parametrize("optimizer", OTHERS)
@pytest.mark.parametrize("name", SETTINGS)
def test_resumed_equals_unbroken_and_of_what_is_pruned_nothing_is_kept(name: str, optimizer: str):
    """In memory, with a checkpoint after the second of three epochs; the average of the weights is part of it."""
    train = TrainSpec(epochs=6, lr=1e-3, optimizer=optimizer, weight_decay=1e-3)
    if (name, optimizer) in REFUSED:
        with pytest.raises(SpecError, match="train it with sgd"):
            trial(name, train=train)
        return
    trial(name, train=train)
    unbroken, resumed = (begun(name, optimizer) for _ in range(2))
    unbroken.epoch(1)
    unbroken.epoch(2)
    packed = checkpoint.pack("key", Progress(), unbroken.network.model, unbroken.pruner, unbroken.optimizer)
    checkpoint.unpack(packed, "key", resumed.network.model, resumed.pruner, resumed.optimizer)
    for training in (unbroken, resumed):
        training.epoch(3)
    averages = [training.pruner.average.tensors for training in (unbroken, resumed)]
    assert all(torch.equal(tensor, averages[1][key]) for key, tensor in averages[0].items())
    for training in (unbroken, resumed):
        training.pruner.average.adopt()
        training.pruner.finalize()
    state, expected = (training.network.model.state_dict() for training in (resumed, unbroken))
    assert all(torch.equal(tensor, expected[key]) for key, tensor in state.items())
    for weight, mask in zip(resumed.pruner.weights, resumed.pruner.masks or (), strict=False):
        assert not any(kept[mask == 0].any() for kept in of_weight(resumed.optimizer, weight))


def begun(name: str, optimizer: str):
    torch.manual_seed(0)
    return trained_with(name, Awkward(), optimizer=optimizer, weight_decay=1e-3, ema=0.9)


@pytest.mark.parametrize("name", ["adam", "lamb"])
def test_what_begins_anew_steps_as_at_first(name: str):
    """LAMB counts steps in its groups, and not with each parameter."""
    net = nn.Linear(3, 2)
    optimizer = make_optimizer(net, Method().pruner(Setup(net, {}, 0.0, 1, 4)), TrainSpec(optimizer=name, lr=0.1))
    gradient, start = torch.linspace(-0.1, 0.1, 6).view(2, 3), net.weight.detach().clone()

    def stepped(factor: float) -> Tensor:
        net.weight.data.copy_(start)
        net.weight.grad = factor * gradient
        optimizer.step()
        return net.weight.detach().clone()

    first = stepped(1.0)
    stepped(3.0)
    begin_anew(optimizer)
    assert torch.equal(stepped(1.0), first)


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("rmsprop", marks=pytest.mark.slow)])
def test_phases_hand_on_all_that_the_optimizer_keeps(optimizer: str, tmp_path):
    """A second phase that is resumed equals one that is not; steps are counted on from the first."""
    train = TrainSpec(epochs=1, batch_size=32, lr=2e-3, optimizer=optimizer, ema=0.9)
    last = last_stage(trial("imp", train=train))
    unbroken, broken = Store(tmp_path / "unbroken"), Store(tmp_path / "broken")
    run(last, unbroken)
    resumed_after(1, last, broken)
    assert numbers(last, broken) == numbers(last, unbroken)
    kept = checkpoint.unpack_tensors(unbroken.read_published(last.key, "momentum.safetensors"))
    assert {float(tensor) for name, tensor in kept.items() if name.startswith("step of ")} == {18.0}
    weight = checkpoint.unpack_tensors(unbroken.read_published(last.key, "network.safetensors"))["fc.weight"]
    squares = kept["exp_avg_sq of fc.weight" if optimizer == "adamw" else "square_avg of fc.weight"]
    assert (weight == 0).any()
    assert not squares[weight == 0].any()


def test_an_optimizer_of_ones_own_keeps_masks_and_is_continued(tmp_path):
    """It moves weights that have no gradient, and counts in its state and in its groups."""
    asked = trial("gmp", 0.5, train=TrainSpec(epochs=3, batch_size=32, lr=0.05, optimizer=OWN, momentum=0.9))
    stage = last_stage(fingerprinted([asked], "data", {})[0])
    assert stage.root.train.optimizer_code.startswith("code:")
    unbroken, broken = Store(tmp_path / "unbroken"), Store(tmp_path / "broken")
    run(stage, unbroken)
    resumed_after(2, stage, broken)
    assert numbers(stage, broken) == numbers(stage, unbroken)
    result = unbroken.result(stage.key)
    n = sum(layer["weights"] for layer in result["layers"])
    assert result["metrics"]["reached_sparsity"] == round(0.5 * n) / n


def test_the_version_of_an_optimizer_of_ones_own_is_in_the_key_and_required(store: Store):
    asked = trial("dense", train=TrainSpec(epochs=1, batch_size=32, lr=0.05, optimizer=OWN))
    [named] = fingerprinted([asked], "data", {})
    assert named.key != asked.key
    assert without_fingerprints(named) == asked
    other = replace(named, train=replace(named.train, optimizer_code="code:0123456789abcdef"))
    with pytest.raises(StageFailed, match=r"optimizer .*own_training.py, or what it imports, has changed"):
        run(last_stage(other), store)


@pytest.mark.parametrize("name", ["os:system", "timm:create_model"])
def test_code_that_a_record_names_as_an_optimizer_is_not_imported(name: str):
    stage = last_stage(trial("dense", train=TrainSpec(epochs=1, lr=0.1, optimizer=name)))
    with pytest.raises(UserError, match=f"it wants to import {name}, which is not of this folder"):
        require_trusted(choices_of_stage(stage), "it", (), "leave it")


# --- settings and patterns


def test_an_optimizer_has_its_own_defaults_and_old_keys_stay():
    assert (TrainSpec().momentum, TrainSpec().nesterov, TrainSpec().weight_decay) == (0.9, True, 5e-4)
    adamw = TrainSpec(optimizer="adamw")
    assert (adamw.beta1, adamw.beta2, adamw.eps, adamw.weight_decay) == (0.9, 0.999, 1e-8, 0.01)
    assert adamw.momentum is adamw.nesterov is None
    said = TrainSpec(optimizer="adamw", beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01)
    assert said == adamw


@pytest.mark.parametrize(
    ("pattern", "name", "does"),
    [
        ("layer1", "layer1.0.weight", True),
        ("layer1", "layer10.0.weight", False),
        ("*.bias", "layer1.0.bias", True),
        ("layer[12].0", "layer2.0.bias", True),
        ("weight", "layer1.weight", False),
    ],
)
def test_a_pattern_names_parameters_or_the_modules_that_they_are_in(pattern: str, name: str, does: bool):
    assert matches(pattern, name) == does


def test_a_pattern_that_matches_nothing_is_an_error_that_names_parameters():
    with pytest.raises(
        UserError, match=r'"norn" matches no parameter of the model; there are first.weight, first.bias'
    ):
        freeze(Awkward(), ["norn"])
    with pytest.raises(UserError, match='did you mean "norm"'):
        freeze(Awkward(), ["norn"])
    with pytest.raises(UserError, match=r"both first and \*.bias match first.bias; give patterns of which one does"):
        factors(dict(Awkward().named_parameters()), {"first": 0.1, "*.bias": 2.0})


def test_methods_of_the_registry_have_a_sentence_where_they_need_sgd():
    assert all(methods.method_class(name) for name, _ in REFUSED)
    with pytest.raises(SpecError, match="gsm is a way to use the momentum of SGD"):
        trial("gsm", train=TrainSpec(epochs=6, optimizer="adamw"))


def test_a_frozen_layer_is_held_in_a_stage_and_its_pattern_is_checked(store: Store):
    train = TrainSpec(epochs=1, batch_size=32, freeze=("layer1",))
    stage = last_stage(trial("dense", train=train))
    run(stage, store)
    trained = checkpoint.unpack_tensors(store.read_published(stage.key, "network.safetensors"))
    seed_all(0, "weights")
    start = dict(models.build(RESNET, (1, 8, 8), 4).named_parameters())
    held = {name for name, parameter in start.items() if torch.equal(trained[name], parameter)}
    assert held == {name for name in start if name.startswith("layer1.")}
    with pytest.raises(StageFailed, match=r'"layer9" matches no parameter .* did you mean "layer'):
        run(last_stage(trial("dense", train=replace(train, freeze=("layer9",)))), store)
