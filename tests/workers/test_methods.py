"""The contract that every method of the registry keeps."""

from __future__ import annotations

import io
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from tests.cases import SETTINGS, TRAIN, last_stage, trial
from workers import checkpoint, methods
from workers.errors import SpecError
from workers.host import Where
from workers.methods import METHODS
from workers.run import run_stage
from workers.spec import PruneStage, Stage, TrialSpec, path
from workers.store import CURVE, MOMENTUM, NETWORK, Store

TIMINGS = {"train_seconds", "elapsed_seconds", "finished_at", "attempts", "peak_memory_bytes"}


def run(stage: Stage, store: Store, *, checkpoint_seconds: float = 1e9) -> None:
    for each in path(stage):
        list(run_stage(each, store, Where(checkpoint_seconds=checkpoint_seconds)))


def numbers(stage: Stage, store: Store) -> dict[str, object]:
    """Everything in a result that must not depend on how it was reached; checksums of network and curve included."""
    result = store.result(stage.key)
    assert result is not None
    return {name: value for name, value in result.items() if name not in TIMINGS}


def network(stage: Stage, store: Store) -> dict[str, torch.Tensor]:
    return checkpoint.unpack_tensors(store.read_published(stage.key, NETWORK))


def test_every_method_has_a_case():
    assert SETTINGS.keys() == METHODS.keys()


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", METHODS)
def test_resumed_at_any_epoch_equals_unbroken_bit_for_bit(name: str, precision: str, tmp_path):
    stage = last_stage(trial(name, train=replace(TRAIN, precision=precision)))
    unbroken = Store(tmp_path / "unbroken")
    run(stage, unbroken)
    for stop in range(1, stage.epochs):
        broken = Store(tmp_path / f"broken{stop}")
        for ancestor in path(stage)[:-1]:
            run(ancestor, broken)
        stepped = run_stage(stage, broken, Where(checkpoint_seconds=0))
        for _ in range(stop):
            next(stepped)
        del stepped
        assert broken.result(stage.key) is None
        run(stage, broken, checkpoint_seconds=0)
        assert numbers(stage, broken) == numbers(stage, unbroken), f"resumed after epoch {stop}"


@pytest.mark.parametrize("name", [name for name in METHODS if methods.method_class(name).takes_sparsity])
@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99])
def test_reaches_its_sparsity_exactly(name: str, sparsity: float, store: Store):
    stage = last_stage(trial(name, sparsity))
    run(stage, store)
    metrics = store.result(stage.key)["metrics"]
    dense = last_stage(trial("dense"))
    run(dense, store)
    n = sum(layer["weights"] for layer in store.result(dense.key)["layers"])
    assert metrics["reached_sparsity"] == pytest.approx(round(sparsity * n) / n, abs=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_ends_as_a_plain_network_with_the_dense_keys(name: str, store: Store):
    stage, dense = last_stage(trial(name)), last_stage(trial("dense"))
    run(stage, store)
    run(dense, store)
    assert network(stage, store).keys() == network(dense, store).keys()


@pytest.mark.parametrize("name", METHODS)
def test_never_zeroes_biases_or_normalisation(name: str, store: Store):
    stage = last_stage(trial(name, 0.99))
    run(stage, store)
    weights = {layer["name"] for layer in store.result(stage.key)["layers"]}
    others = {
        key: t for key, t in network(stage, store).items() if key not in weights and "bn" in key and "weight" in key
    }
    assert others
    assert all(torch.count_nonzero(tensor) == tensor.numel() for tensor in others.values())


def test_momentum_of_pruned_weights_stays_zero(store: Store):
    stage = last_stage(trial("imp", 0.9))
    run(stage, store)
    momentum = checkpoint.unpack_tensors(store.read_published(stage.key, MOMENTUM))
    for name, weight in network(stage, store).items():
        if name in momentum:
            assert torch.count_nonzero(momentum[name][weight == 0]) == 0


def test_a_phase_continues_the_momentum_of_the_phase_before(store: Store):
    """Without it the second phase would train differently: its first step has momentum from the first phase."""
    stage = last_stage(trial("imp"))
    assert isinstance(stage.parent, PruneStage)
    run(stage, store)
    before = numbers(stage, store)
    zeroed = {
        k: torch.zeros_like(v)
        for k, v in checkpoint.unpack_tensors(store.read_published(stage.parent.key, MOMENTUM)).items()
    }
    parent = store.result(stage.parent.key)
    store.remove("stages", stage.key, "result.json")
    store.remove("stages", stage.parent.key, "result.json")
    files = {name: store.read("stages", stage.parent.key, name) for name in (NETWORK, CURVE)}
    store.publish(stage.parent, {**files, MOMENTUM: checkpoint.pack_tensors(zeroed)}, parent)
    run(stage, store)
    assert numbers(stage, store) != before


def test_phases_prune_the_same_fraction_of_the_living_each_time():
    stage = last_stage(trial("imp", 0.75))
    assert [s.sparsity for s in path(stage)] == [0.0, 0.5, 0.75]
    assert [s.epochs for s in path(stage)] == [6, 1, 2], "3 epochs over 2 phases, the remainder to the last"


def test_levels_of_a_fixed_fraction_share_their_prefix():
    imp = methods.method_class("imp")(phase_fraction=0.2, phase_epochs=1, phases=3)
    stages = []
    for sparsity, level in imp.levels(None):
        base = trial("imp")
        stages.append(level.stage(TrialSpec(base.dataset, base.model, level.choice("imp"), 0, sparsity, TRAIN)))
    assert [s.sparsity for s in stages] == pytest.approx([0.2, 0.36, 0.488])
    assert path(stages[2])[:-1] == path(stages[1])


@pytest.mark.parametrize(
    ("name", "settings", "train", "field"),
    [
        ("imp", {}, {}, "retrain_epochs"),
        ("imp", {"retrain_epochs": 1, "phase_epochs": 1}, {}, "retrain_epochs"),
        ("imp", {"retrain_epochs": 2, "phases": 3}, {}, "retrain_epochs"),
        ("imp", {"retrain_epochs": 7, "retrain_schedule": "LRW"}, {}, "retrain_schedule"),
        ("imp", {"retrain_epochs": 1, "retrain_schedule": "cosine"}, {}, "retrain_lr"),
        ("imp", {"retrain_epochs": 1, "retrain_lr": 0.1}, {}, "retrain_lr"),
        ("imp", {"retrain_epochs": 4, "phase_fraction": 0.2}, {}, "phase_fraction"),
        ("bimp", {"pretrain_epochs": 6}, {}, "pretrain_epochs"),
        ("bimp", {"pretrain_epochs": 1}, {}, "pretrain_epochs"),
        ("gmp", {"pruning_interval": 4}, {}, "pruning_interval"),
    ],
)
def test_settings_that_do_not_fit_name_their_field(name: str, settings: dict, train: dict, field: str):
    method = methods.method_class(name)(**settings)
    base = trial("dense")
    with pytest.raises(SpecError) as caught:
        method.check(TrialSpec(base.dataset, base.model, method.choice(name), 0, 0.5, TRAIN))
    assert caught.value.field == field


def test_gmp_prunes_at_the_ends_of_its_intervals_to_the_cubic(store: Store):
    """Six epochs, interval 1: S = 5 prunes at the ends of epochs 1 to 5, none at the end of the sixth."""
    stage = last_stage(trial("gmp", 0.8))
    run(stage, store)
    curve = pq.read_table(io.BytesIO(store.read_published(stage.key, CURVE))).to_pydict()
    expected = [0.8 * (1 - (1 - t / 5) ** 3) for t in (1, 2, 3, 4, 5, 5)]
    assert curve["sparsity"] == pytest.approx(expected, abs=1e-3)


GOLDEN: dict[str, list[float]] = {
    "dense": [1.4872201653, 1.330103946535, 1.155493428727, 1.020593852996],
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
}
"""Training losses in float64 of a trial's epochs, pruning phases included, as the code gave them in version 0.1.0."""


@pytest.mark.parametrize("name", METHODS)
def test_golden_loss_curves(name: str, store: Store):
    """A change that moves one says so in its commit and in the changelog: `changes results`."""
    stage = last_stage(trial(name, train=replace(TRAIN, epochs=4, precision="float64")))
    run(stage, store)
    tables = [pq.read_table(io.BytesIO(store.read_published(s.key, CURVE))) for s in path(stage)]
    losses = [loss for table in tables for loss in table.column("train_loss").to_pylist() if loss is not None]
    assert losses == pytest.approx(GOLDEN[name], rel=1e-7)
