"""Sweeps that start from trained weights: the same numbers as behind their training, and answers to mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load

from prunesweep import load_curves, load_results
from prunesweep.orchestrator.lookup import planned_sweep
from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.results.compare import compare
from prunesweep.orchestrator.run.supplying import supply
from prunesweep.orchestrator.status import garbage
from prunesweep.orchestrator.status.checking import Check
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.errors import UserError
from prunesweep.workers.methods import METHODS, method_class
from prunesweep.workers.spec import Init, Stage
from prunesweep.workers.store import CURVE, NETWORK, Store
from tests.cases import SETTINGS
from tests.in_process import run_here

TRAINED = """\
name: trained
dataset: digits
model: {name: resnet8, width: 4}
train: {epochs: 3, batch_size: 64, lr: 0.1, warmup_epochs: 1}
trials:
  - {method: dense}
  - {method: imp, sparsity: 0.9, retrain_epochs: 2, phases: 2, retrain_schedule: [ALLR, FT, LRW, SLR]}
"""

FROM_FILE = TRAINED.replace("name: trained", "name: started").replace("lr: 0.1,", "lr: 0.1, schedule: linear,")

TUNED = """\
name: tuned
dataset: digits
model: {name: resnet8, width: 4}
init: {path: net.pt}
train_from_init: {epochs: 2, lr: 0.05, batch_size: 64}
trials:
  - {method: dense}
  - {method: [gmp, gsm], sparsity: 0.9, pruning_interval: 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a store in which networks were trained and pruned, the trained one in files, and the sweeps from these."""
    folder = tmp_path_factory.mktemp("init")
    store = Store(folder / "results")
    (folder / "trained.yaml").write_text(TRAINED)
    root = first(run_here(folder / "trained.yaml", store))
    network = store.read_published(root.key, NETWORK)
    torch.save({"state_dict": {f"module.{n}": t for n, t in load(network).items()}, "epoch": 3}, folder / "net.pt")
    (folder / "net.safetensors").write_bytes(network)
    (folder / "started.yaml").write_text(f"{FROM_FILE}init: {{path: net.pt}}\n")
    run_here(folder / "started.yaml", store)
    return folder


@pytest.fixture
def store(folder: Path) -> Store:
    return Store(folder / "results")


def first(plan: Plan) -> Stage:
    return next(iter(plan.stages.values()))


def planned(folder: Path, text: str, name: str = "x.yaml") -> Plan:
    (folder / name).write_text(text)
    store = Store(folder / "results")
    return make_plan(planned_sweep(folder / name, store), store)


# --- what comes of it


def test_pruning_from_a_file_is_pruning_behind_the_training_bit_for_bit(folder: Path, store: Store):
    trained, started = (make_plan(planned_sweep(name, store), store) for name in ("trained", "started"))
    assert len(trained.stages) == len(started.stages) == 9
    for before, after in zip(trained.stages.values(), started.stages.values(), strict=True):
        assert before.key != after.key
        assert store.read_published(before.key, NETWORK) == store.read_published(after.key, NETWORK)
        if before.parent is not None:
            assert store.read_published(before.key, CURVE) == store.read_published(after.key, CURVE)
    results = [store.result(plan.last[trial.key]) for plan in (trained, started) for trial in plan.sweep.trials]
    metrics = [result["metrics"] for result in results if result]
    assert metrics[:5] == metrics[5:]


def test_loading_costs_no_epoch_and_tables_name_the_weights(folder: Path):
    rows = load_results(folder / "results/started").set_index("method")
    assert rows.loc["dense", "total_epochs"] == 0
    imp = rows.loc["imp"]
    assert (set(imp.total_epochs), set(imp.pretrain_epochs), set(imp.retrain_epochs)) == ({2}, {0}, {2})
    hashed = make_plan(planned_sweep("started", Store(folder / "results")), Store(folder / "results")).sweep.trials[0]
    assert hashed.init is not None
    assert set(rows.init) == {f"net.pt {hashed.init.weights[:6]}"}
    assert set(imp.dense_test_accuracy) == {rows.loc["dense", "test_accuracy"]}
    before = load_results(folder / "results/trained")
    assert before.init.isna().all()
    assert before.total_epochs.tolist() == [3, 5, 5, 5, 5]


def test_the_curve_goes_on_where_the_training_elsewhere_ended(folder: Path):
    curves = load_curves(folder / "results/started")
    assert sorted(set(curves.epoch)) == [3, 4, 5]


def test_one_network_in_two_kinds_of_file_makes_one_trial(folder: Path):
    plan = planned(folder, f"{FROM_FILE}init: [{{path: net.pt}}, {{path: net.safetensors}}]\n")
    assert (len(plan.sweep.trials), plan.sweep.duplicates) == (5, 5)
    assert plan.counts.done == 5, "the store has them, of another sweep"


def test_weights_of_a_trial_of_the_store_are_those_of_its_file(folder: Path, store: Store):
    trial = planned_sweep("trained", store).trials[0].key
    plan = planned(folder, f"{FROM_FILE}init: {{sweep: trained, trial: {trial[:8]}}}\n")
    assert plan.counts.done == 5
    assert plan.sweep.trials[0].init is not None
    assert plan.sweep.trials[0].init.source == f"trained/{trial[:6]}"


def test_random_is_one_of_the_values(folder: Path):
    plan = planned(folder, f"{FROM_FILE}init: [random, {{path: net.pt}}]\n")
    assert plan.counts.done == len(plan.sweep.trials) == 10


def test_what_starts_from_random_weights_keeps_its_keys(folder: Path, store: Store):
    keys = [trial.key for trial in planned_sweep("trained", store).trials]
    assert [trial.key for trial in planned(folder, TRAINED).sweep.trials] == keys


def test_python_asks_for_weights_in_the_same_way(folder: Path):
    text = (
        "from prunesweep import Choice, Init, TrainSpec, TrialSpec\n\n"
        "train = TrainSpec(epochs=3, batch_size=64, lr=0.1, warmup_epochs=1)\n"
        'model, init = Choice.of("resnet8", {"width": 4}), Init.of({"path": "net.pt"})\n\n\n'
        "def trials():\n"
        '    yield TrialSpec(Choice.of("digits"), model, Choice("dense"), 0, 0.0, train, init=init)\n'
        '    imp = Choice.of("imp", {"retrain_epochs": 2, "phases": 2})\n'
        '    yield TrialSpec(Choice.of("digits"), model, imp, 0, 0.9, train, init=init)\n'
        '    gmp = Choice.of("gmp", {"pruning_interval": 1})\n'
        '    yield TrialSpec(Choice.of("digits"), model, gmp, 0, 0.9, train, init=init)\n'
    )
    plan = planned(folder, text, "x.py")
    assert [plan.trial_state(trial) for trial in plan.sweep.trials] == ["done", "done", "new"]
    gmp = plan.sweep.trials[2]
    assert gmp.init is not None
    assert (gmp.init.fine_tunes, plan.stages[plan.last[gmp.key]].epochs) == (True, 3)


def test_methods_that_train_start_from_the_weights(folder: Path, store: Store):
    (folder / "tuned.yaml").write_text(TUNED.replace(", pruning_interval: 1", "").replace("epochs: 2", "epochs: 4"))
    plan = run_here(folder / "tuned.yaml", store)
    rows = load_results(folder / "results/tuned").set_index("method")
    assert set(rows.total_epochs) == {4}
    assert rows.reached_sparsity.round(3).tolist() == [0.0, 0.9, 0.9]
    assert set(rows.lr) == {0.05}
    random = load_curves(folder / "results/trained").query("epoch == 1").train_loss.min()
    tuned = load_curves(folder / "results/tuned").query("epoch == 1").train_loss.max()
    assert tuned < random / 2, "they would begin at the loss of random weights"
    assert all(stage.root.init and stage.root.init.fine_tunes for stage in plan.stages.values())


def test_what_starts_from_other_weights_is_never_averaged(folder: Path):
    names = ("trained", "started")
    frames = pd.concat([load_results(folder / "results" / name) for name in names], ignore_index=True)
    frames.loc[frames["sweep"] == "started", "seed"] = 1
    rows = compare(frames, by=["method", "retrain_schedule"], at=["dataset", "model", "target_sparsity"])
    assert "init" in rows
    assert set(rows.n) <= {0, 1}


# --- the store


def test_the_store_keeps_weights_once_and_cleans_up_what_nothing_starts_from(folder: Path, store: Store):
    assert len(list((folder / "results/weights").iterdir())) == 1
    kept = garbage.find(store).kinds.get("weights that no sweep starts from", {})
    assert kept == {}
    assert [fault for fault in Check(store, deep=True).faults() if fault.place.startswith("weights/")] == []


def test_weights_of_no_sweep_are_garbage_and_damaged_ones_a_fault(folder: Path, tmp_path: Path):
    store = Store(tmp_path / "results")
    store.require_writable()
    store.write(b"anything", "weights", f"{'a' * 20}.safetensors")
    file = tmp_path / "results/weights" / f"{'a' * 20}.safetensors"
    assert [f.place for f in Check(store, deep=True).faults()] == [f"weights/{'a' * 20}.safetensors"]
    assert garbage.find(store).kinds == {}, "a run may be about to use them"
    import os

    os.utime(file, (0, 0))
    assert [*garbage.find(store).kinds] == ["weights that no sweep starts from"]


def test_a_sweep_of_the_store_starts_from_the_stores_weights_alone(folder: Path, tmp_path: Path):
    store = Store(tmp_path / "results")
    (tmp_path / "net.pt").write_bytes((folder / "net.pt").read_bytes())
    (tmp_path / "x.yaml").write_text(f"{FROM_FILE.replace('started', 'x')}init: {{path: net.pt}}\n")
    plan = make_plan(planned_sweep(tmp_path / "x.yaml", store), store)
    from prunesweep.orchestrator.records import remember

    store.require_writable()
    remember(plan.sweep, store)
    assert str(tmp_path / "net.pt") not in json.dumps(json.loads(store.read("x", "sweep.json") or b"")["trials"])
    remembered = make_plan(planned_sweep("x", store), store)
    assert [*remembered.stages] == [*plan.stages]
    with pytest.raises(UserError, match=r"the store has no weights net\.pt \w{6} to start from; run the sweep's file"):
        supply(remembered, store)
    supply(plan, store)
    supply(remembered, store)


# --- mistakes


def rewritten(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def write(file: Path) -> None:
        tensors = load((file.parent / "net.safetensors").read_bytes())
        change(tensors)
        torch.save(tensors, file)

    return write


DENSE = "dataset: digits\nmodel: {name: resnet8, width: 4}\ntrials: [{method: dense}]\ninit: {path: x.pt}\n"

MISTAKES = [
    (DENSE, None, "x.pt: no such file"),
    (DENSE, lambda f: f.write_text("hello"), "x.pt is a text file, not weights; weights are read from .safetensors"),
    (DENSE, lambda f: torch.save({"net": print}, f), "x.pt holds Python objects (print), and loading them could run"),
    (DENSE, rewritten(lambda t: t.pop(min(t))), "1 tensor that the file lacks ("),
    (
        DENSE.replace("resnet8, width: 4", "resnet14, width: 4"),
        rewritten(len),
        "x.pt does not fit resnet14: 30 tensors that the file lacks (",
    ),
    (DENSE.replace("width: 4", "width: 8"), rewritten(len), "of another shape ("),
    (
        DENSE.replace("digits", "{name: synthetic, shape: [1, 8, 8], classes: 4}"),
        rewritten(len),
        "x.pt has a classifier for 10 classes, and synthetic has 4: add head: new, with which",
    ),
    (DENSE.replace("path: x.pt", "torchvision: IMAGENET1K_V1"), None, "torchvision has no weights for resnet8"),
    (
        DENSE.replace("path: x.pt", "timm: true"),
        None,
        "timm has no weights for resnet8; its models are called timm",
    ),
    (
        DENSE.replace("path: x.pt", "sweep: trained, trial: zzz"),
        None,
        "trial: zzz begins the key of no trial of tra",
    ),
    (DENSE.replace("path: x.pt", "sweep: nosuch, trial: a"), None, "nosuch"),
]


@pytest.mark.parametrize(("text", "write", "answer"), MISTAKES)
def test_a_mistake_with_weights_is_answered_in_a_sentence_at_its_line(
    text: str, write: Callable[[Path], object] | None, answer: str, folder: Path
):
    (folder / "x.pt").unlink(missing_ok=True)
    if write:
        write(folder / "x.pt")
    with pytest.raises(UserError) as refused:
        planned(folder, text)
    said = str(refused.value)
    assert said.startswith(f"{folder}/x.yaml:4: init: ")
    assert answer in said
    assert "\n" not in said


LACKING = {
    "FT": "add train: {epochs: ..., lr: ..., schedule: ...} as they were there",
    "LRW": "add train: {epochs: ..., lr: ..., schedule: ...} as they were there",
    "SLR": "add train: {epochs: ..., lr: ..., schedule: ...} as they were there",
    "CLR": "add train: {epochs: ..., lr: ..., schedule: ...} as they were there",
    "LLR": "add train: {lr: ...} as it was there",
    "ALLR": "add train: {epochs: ..., lr: ...} as they were there",
}


@pytest.mark.parametrize("schedule", LACKING)
def test_a_schedule_says_what_it_must_know_of_the_training_elsewhere(schedule: str, tmp_path: Path):
    block = f"trials: [{{method: imp, sparsity: 0.9, retrain_epochs: 1, retrain_schedule: {schedule}}}]"
    (tmp_path / "x.yaml").write_text(f"dataset: digits\nmodel: resnet8\ninit: {{path: net.pt}}\n{block}\n")
    with pytest.raises(UserError) as refused:
        read_sweep(tmp_path / "x.yaml")
    assert str(refused.value).startswith(f"{tmp_path}/x.yaml:4: trials[0].retrain_schedule: {schedule} takes its")
    assert LACKING[schedule] in str(refused.value)


def read(folder: Path, text: str) -> Any:
    (folder / "x.yaml").write_text(f"dataset: digits\nmodel: resnet8\ninit: {{path: net.pt}}\n{text}\n")
    return read_sweep(folder / "x.yaml")


def test_a_tunable_schedule_needs_to_know_nothing(tmp_path: Path):
    block = "{method: imp, sparsity: 0.9, retrain_epochs: 1, retrain_schedule: cosine, retrain_lr: 0.01}"
    (trial,) = read(tmp_path, f"trials: [{block}]").trials
    assert (trial.train.epochs, trial.train.lr, trial.train.schedule) == (0, 0.0, "")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("trials: [{method: imp, sparsity: 0.9, retrain_budget: 10%}]", "10% is a share of train.epochs: say for how"),
        ("trials: [{method: imp, sparsity: 0.9, budget: 2x}]", "2x of a dense training, which init takes the place of"),
        ("trials: [{method: rigl, sparsity: 0.9}]", "rigl does not start from trained weights: it draws its mask at"),
        (
            "trials: [{method: bimp, sparsity: 0.9, pretrain_epochs: 2}]",
            "bimp does not start from trained weights: it trains the network itself",
        ),
        ("train_from_init: {epochs: 4}\ntrials: [{method: gmp, sparsity: 0.9}]", "train_from_init.lr: missing: gmp"),
        (
            "train_from_init: {epochs: 4, lr: 0.1}\ntrials: [{method: granet, sparsity: 0.9}]",
            "a random mask would spoil the weights of init: give initial_density: 1",
        ),
        (
            "train_from_init: {epochs: 4, lr: 0.1, warmup_epochs: 4}\ntrials: [{method: gmp, sparsity: 0.9}]",
            "4: train_from_init.warmup_epochs: 4 warm-up epochs leave none of 4 for training",
        ),
        (
            "train_from_init: {epochs: 4, lr: 0.1}\n"
            "trials: [{method: imp, sparsity: 0.9, retrain_epochs: 1, retrain_schedule: linear, retrain_lr: 0.1}]",
            "4: train_from_init: has no effect, since the methods prune the network as it is; leave it out",
        ),
        ("train: {milestones: [1]}\ntrials: [{method: dense}]", "train.milestones: it says how the given network was"),
    ],
)
def test_what_does_not_go_together_is_refused(text: str, answer: str, tmp_path: Path):
    with pytest.raises(UserError) as refused:
        read(tmp_path, text)
    assert answer in str(refused.value)


def test_what_train_from_init_lacks_is_as_in_train_but_for_the_schedule(tmp_path: Path):
    train = "train: {epochs: 90, lr: 0.1, schedule: step, step_epochs: 30, gamma: 0.1, momentum: 0.8, batch_size: 32}"
    sweep = read(tmp_path, f"{train}\ntrain_from_init: {{epochs: 4, lr: [0.01, 0.02]}}\ntrials: [{{method: dense}}]")
    specs = [trial.train for trial in sweep.trials]
    assert [(s.epochs, s.lr, s.schedule, s.step_epochs, s.momentum, s.batch_size) for s in specs] == [
        (4, 0.01, "linear", None, 0.8, 32),
        (4, 0.02, "linear", None, 0.8, 32),
    ]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_starts_from_given_weights_or_says_why_not(name: str, tmp_path: Path):
    cls = method_class(name)
    block = {"method": name, **SETTINGS[name], **({"sparsity": 0.5} if cls.takes_sparsity else {})}
    block |= {"initial_density": 1.0} if name == "granet" else {}
    text = "train: {epochs: 6, lr: 0.1}\ntrain_from_init: {epochs: 6}\n"
    others = "{method: gmp, sparsity: 0.5}"
    if cls.not_from_trained:
        with pytest.raises(UserError, match=f"{name} does not start from trained weights"):
            read(tmp_path, f"{text}trials: [{json.dumps(block)}, {others}]")
        return
    trial = read(tmp_path, f"{text}trials: [{json.dumps(block)}, {others}]").trials[0]
    root = method_class(name)(**trial.method.settings).stage(trial).root
    assert isinstance(root.init, Init)
    assert root.loads == cls.prunes_trained
