"""The contract that every method keeps: those of the registry, and a user's own, named `module:Name`."""

from __future__ import annotations

import io
from copy import deepcopy
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from prunesweep.workers import methods
from prunesweep.workers.methods import METHODS
from prunesweep.workers.selection import kept
from prunesweep.workers.spec import PruneStage, Stage, TrainStage, path
from prunesweep.workers.store import CURVE, Store
from tests.cases import SETTINGS, TAYLOR, TRAIN, last_stage, trial
from tests.contract import (
    Awkward,
    batches,
    in_parts,
    network,
    numbers,
    resumed_after,
    resumed_at_every_epoch,
    run,
    trained_with,
)
from tests.networks import prunable_weights

NAMES = [*METHODS, TAYLOR]
SPARSE = [n for n in NAMES if (cls := methods.method_class(n)).takes_sparsity and not cls.narrows]
"""`small_dense` has no zeros, and as many weights as whole channels allow (tests/workers/test_small_dense.py)."""


def test_every_method_has_a_case():
    assert SETTINGS.keys() == {*NAMES}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Of stages that ran undisturbed: each is trained once, for all tests that look at it."""
    return Store(tmp_path_factory.mktemp("unbroken"))


def own_stages(name: str, last: Stage) -> list[Stage]:
    """Those of a trial that the method itself has, not the dense network that it starts from."""
    return [stage for stage in path(last) if name == "dense" or stage.parent or stage.root.method.name == name]


@pytest.mark.parametrize("name", NAMES)
def test_resumed_at_every_epoch_equals_unbroken_bit_for_bit(name: str, unbroken: Store, tmp_path):
    last, broken = last_stage(trial(name)), Store(tmp_path / "broken")
    run(last, unbroken)
    own = own_stages(name, last)
    assert any(stage.epochs > 1 for stage in own)
    for stage in own:
        resumed_at_every_epoch(stage, broken)
        assert numbers(stage, broken) == numbers(stage, unbroken), "resumed"
    parted, longest = Store(tmp_path / "parted"), max(own, key=lambda stage: stage.epochs)
    in_parts(longest, parted)
    assert numbers(longest, parted) == numbers(longest, unbroken), "trained in parts"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_resumed_once_at_any_epoch_equals_unbroken_bit_for_bit(name: str, precision: str, unbroken: Store, tmp_path):
    last = last_stage(trial(name, train=replace(TRAIN, precision=precision)))
    run(last, unbroken)
    for stage in own_stages(name, last):
        for stop in range(1, stage.epochs):
            broken = Store(tmp_path / f"broken{stage.key}{stop}")
            resumed_after(stop, stage, broken)
            assert numbers(stage, broken) == numbers(stage, unbroken), f"resumed after epoch {stop}"


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("sparsity", [0.05, 0.5, 0.9, 0.99])
def test_reaches_its_sparsity_exactly_or_reports_that_it_is_sparser(name: str, sparsity: float, unbroken: Store):
    stage = last_stage(trial(name, sparsity))
    run(stage, unbroken)
    result = unbroken.result(stage.key)
    n = sum(layer["weights"] for layer in result["layers"])
    zeros = sum(int((network(stage, unbroken)[layer["name"]] == 0).sum()) for layer in result["layers"])
    assert result["metrics"]["reached_sparsity"] == zeros / n
    learned = isinstance(stage, PruneStage) and stage.retrain is None
    before = unbroken.result(stage.parent.key)["metrics"]["reached_sparsity"] if learned else 0.0
    assert zeros == max(n - kept(n, sparsity), round(before * n))


@pytest.mark.parametrize("name", NAMES)
def test_ends_as_a_plain_network_with_the_dense_keys(name: str, unbroken: Store):
    stage, dense = last_stage(trial(name)), last_stage(trial("dense"))
    run(stage, unbroken)
    run(dense, unbroken)
    assert network(stage, unbroken).keys() == network(dense, unbroken).keys()


@pytest.mark.parametrize("name", NAMES)
def test_the_plain_network_computes_what_the_trained_one_did(name: str):
    """Exactly, where `finalize` says so; where it prunes, what it keeps are weights of the trained network."""
    model = Awkward()
    training = trained_with(name, model)
    training.run()
    (inputs, _), weights = next(batches(1)), training.pruner.weights
    model.eval()
    with torch.no_grad(), training.pruner.view():
        before, seen = model(inputs), [weight.detach().clone() for weight in weights]
    stored = [weight.detach().clone() for weight in weights]
    changed = training.pruner.finalize()
    assert changed or torch.equal(model(inputs), before)
    for weight, *known in zip(weights, seen, stored, strict=True):
        assert all(any(bool(k[i] == weight[i]) for k in known) for i in map(tuple, weight.nonzero().tolist()))


@pytest.mark.parametrize("name", NAMES)
def test_never_touches_biases_and_normalisation(name: str):
    """Neither their values nor their gradients, at any point; only the optimizer does."""
    model = Awkward()
    training = trained_with(name, model)
    pruner, others = training.pruner, {**dict(model.named_parameters()), **dict(model.named_buffers())}
    others = {n: p for n, p in others.items() if all(p is not weight for weight in pruner.weights)}
    training.epoch(1)
    inputs, targets = next(batches(1))
    with pruner.view():
        torch.autograd.backward(nn.functional.cross_entropy(model(inputs), targets) + pruner.regularization())
    before = snapshot(others)
    assert len(before) > len(others), "gradients as well"
    pruner.adjust_gradients()
    pruner.adjust_decay()
    pruner.after_step()
    pruner.after_epoch(2)
    pruner.finalize()
    for name_, value in snapshot(others).items():
        assert torch.equal(value, before[name_]), name_


def snapshot(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    values = {name: p.detach().clone() for name, p in parameters.items()}
    return {**values, **{f"{name}.grad": p.grad.clone() for name, p in parameters.items() if p.grad is not None}}


@pytest.mark.parametrize("name", NAMES)
def test_works_with_frozen_shared_and_tiny_layers(name: str):
    torch.manual_seed(0)
    model = Awkward()
    frozen = model.frozen.weight.detach().clone()
    training = trained_with(name, model)
    losses = training.run()
    training.pruner.finalize()
    assert losses[-1] < losses[0] < 3.0
    survivors = model.frozen.weight != 0
    assert torch.equal(model.frozen.weight[survivors], frozen[survivors])
    assert not model.frozen.weight.requires_grad
    assert model.frozen.weight.grad is None
    assert model.twin.weight is model.grouped.weight


@pytest.mark.parametrize("name", NAMES)
def test_works_under_bf16_autocast(name: str):
    torch.manual_seed(0)
    model = Awkward().to(memory_format=torch.channels_last)
    training = trained_with(name, model, precision="bfloat16")
    losses = training.run()
    training.pruner.finalize()
    assert losses[-1] < losses[0] < 3.0
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", SPARSE)
def test_memory_layout_does_not_change_the_numbers(name: str):
    """In float64, where the order of sums in a convolution is all that a layout changes."""
    torch.manual_seed(0)
    model = Awkward().double()
    for each in (rows := deepcopy(model)), (channels := model.to(memory_format=torch.channels_last)):
        training = trained_with(name, each)
        for number in range(1, 5):
            training.epoch(number, dtype=torch.float64)
        training.pruner.finalize()
    weights = [prunable_weights(trained, Awkward.SHAPE).values() for trained in (rows, channels)]
    for ours, theirs in zip(*weights, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_golden_loss_curves(name: str, unbroken: Store):
    """A change that moves one says so in its commit and in the changelog: `changes results`."""
    stage = last_stage(trial(name, train=replace(TRAIN, epochs=4, precision="float64")))
    run(stage, unbroken)
    assert losses_of(stage, unbroken) == pytest.approx(GOLDEN[name], rel=1e-7)


def losses_of(stage: Stage, store: Store) -> list[float]:
    tables = [pq.read_table(io.BytesIO(store.read_published(s.key, CURVE))) for s in path(stage)]
    return [loss for table in tables for loss in table.column("train_loss").to_pylist() if loss is not None]


def test_a_network_that_loses_all_its_weights_has_a_result(store: Store):
    """A threshold of 0.95 is above every weight."""
    asked = trial("str", 0.9)
    all_gone = replace(asked, method=methods.method_class("str")(s_initial=3.0).choice("str"))
    stage = last_stage(all_gone)
    run(stage, store)
    metrics = store.result(stage.key)["metrics"]
    assert (metrics["reached_sparsity"], metrics["relative_norm_drop"]) == (1.0, 0.0)
    assert metrics["theoretical_speedup"] is None


def test_targets_of_a_method_that_learns_its_sparsity_share_one_training():
    for name in ("str", "dst", "cs"):
        first, second = (last_stage(trial(name, sparsity)) for sparsity in (0.5, 0.9))
        assert first != second
        assert first.parent == second.parent
        assert isinstance(first.parent, TrainStage)


GOLDEN: dict[str, list[float]] = {
    "dense": [1.4872201653, 1.330103946535, 1.155493428727, 1.020593852996],
    "small_dense": [1.358491578832, 1.191133994487, 1.048623881652, 0.991099857686],
    "imp": [
        1.4872201653,
        1.330103946535,
        1.155493428727,
        1.020593852996,
        1.029787364015,
        1.11951614557,
        1.058432008554,
    ],
    "bimp": [1.4872201653, 1.330893941287, 1.191270422342, 1.289869340521],
    "random": [1.4872201653, 1.330103946535, 1.155493428727, 1.020593852996, 1.394889759422, 1.356502771713],
    "gmp": [1.4872201653, 1.355330526923, 1.284095248614, 1.19257832951],
    "gsm": [1.487055587719, 1.368427339134, 1.214550703538, 1.077116595886],
    "dpf": [1.4872201653, 1.361257667602, 1.278196231687, 1.167611891364],
    "dnw": [1.432293034156, 1.268457523549, 1.073743894872, 0.980956031743],
    "lc": [1.487218072514, 1.329903020139, 1.15507905664, 1.019024599443],
    "str": [1.452996850553, 1.330009659687, 1.175034067828, 1.075673911448],
    "dst": [1.482658833866, 1.325042197412, 1.117923441116, 0.975446065351],
    "cs": [1.487463985986, 1.321174009855, 1.015727942865, 0.783537231143],
    "static": [1.468317624362, 1.304473452732, 1.071784995886, 0.99332674037],
    "set": [1.474197548518, 1.336963181516, 1.165717059549, 1.114927278883],
    "rigl": [1.474581614102, 1.335715649206, 1.138462294889, 1.055292410484],
    "snip": [1.484324482827, 1.347944699061, 1.184973615353, 1.053164670816],
    "grasp": [1.380169237605, 1.074197792773, 0.940868155339, 0.916200819527],
    "synflow": [1.474361073575, 1.34147172237, 1.187814920822, 1.077638347025],
    "acdc": [1.4872201653, 1.379090553388, 1.27073460983, 1.25812799034],
    "granet": [1.446676757952, 1.32942759835, 1.146791638286, 1.058874947059],
    "sr_ste": [1.502302724963, 1.327153052939, 1.160916363772, 1.07559648314],
    "taylor:Taylor": [1.4872201653, 1.330103946535, 1.19855040445, 1.088857793772],
}
"""Training losses in float64 of a trial's epochs, pruning phases included, as the code gave them in version 0.1.0."""
