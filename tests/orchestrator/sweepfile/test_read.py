"""Sweep files: what they expand to, by numbers worked out by hand, and what is said of wrong ones."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from prunesweep.orchestrator.resources import Resources
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.orchestrator.sweepfile.schema import sweep_schema
from prunesweep.orchestrator.sweepfile.settings import TRAIN
from prunesweep.workers.errors import UserError
from prunesweep.workers.methods import create
from prunesweep.workers.spec import TrainSpec, path

SWEEPS = Path(__file__).parents[3] / "sweeps"
HEAD = "dataset: digits\nmodel: resnet8\n"
"""Two lines, so that `trials:` is on the third and a block on the fourth."""


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads a text as `x.yaml`."""
    monkeypatch.chdir(tmp_path)

    def reader(text: str, name: str = "x.yaml") -> Sweep:
        Path(name).write_text(text)
        return read_sweep(Path(name))

    return reader


@pytest.fixture
def block(read):
    """Reads a block in flow style, below `HEAD`."""
    return lambda text, head=HEAD: read(f"{head}trials:\n  - {{{text}}}\n")


def settings(sweep: Sweep, *names: str) -> list[tuple[object, ...]]:
    """Some settings of every trial."""
    found = []
    for trial in sweep.trials:
        known = {**trial.method.settings, **asdict(trial.train), **vars(trial), "method": trial.method.name}
        found.append(tuple(known[name] for name in names))
    return found


# --- the sweeps that ship


def test_quickstart_has_138_trials():
    sweep = read_sweep(SWEEPS / "quickstart.yaml")
    assert Counter(trial.method.name for trial in sweep.trials) == {
        "dense": 3,
        "imp": 108,
        "bimp": 9,
        "gmp": 9,
        "random": 9,
    }
    assert (sweep.name, sweep.duplicates, sweep.resources.default) == ("quickstart", 0, Resources(cpus=1.0, gpus=0.0))
    assert sweep.text == (SWEEPS / "quickstart.yaml").read_text()


def test_the_schedule_table_costs_396_epochs_a_seed_where_single_trials_would_cost_5166():
    trials = [trial for trial in read_sweep(SWEEPS / "imagenet_schedules.yaml").trials if trial.seed == 0]
    last = [create(trial.method).stage(trial) for trial in trials]
    stages = {stage.key: stage for end in last for stage in path(end)}
    assert len(trials) == 54
    assert sum(stage.epochs for stage in stages.values()) == 396
    assert sum(stage.start_epoch + stage.epochs for stage in last) == 5166
    assert sorted({end.epochs for end in last}) == [2, 5, 10]


# --- expansion


def test_axes_multiply_in_the_order_of_the_file_and_seeds_come_last(read):
    sweep = read(HEAD + "seeds: [3, 7]\ntrials:\n  - {method: gmp, pruning_interval: [1, 2], sparsity: [0.5, 0.9]}\n")
    assert settings(sweep, "pruning_interval", "sparsity", "seed") == [
        (1, 0.5, 3), (1, 0.5, 7), (1, 0.9, 3), (1, 0.9, 7), (2, 0.5, 3), (2, 0.5, 7), (2, 0.9, 3), (2, 0.9, 7),
    ]  # fmt: skip


def test_a_number_of_seeds_counts_from_0_and_the_name_is_the_files(read):
    sweep = read(HEAD + "seeds: 3\ntrials: [{method: dense}]\n")
    assert (sweep.name, [trial.seed for trial in sweep.trials]) == ("x", [0, 1, 2])


def test_a_block_goes_before_the_file_and_both_may_hold_axes(read):
    text = (
        "dataset: [digits, {name: synthetic, shape: [1, 8, 8]}]\nmodel: resnet8\n"
        "train: {lr: [0.1, 0.2], epochs: 10}\n"
        "trials:\n  - {method: dense, train: {epochs: 4, momentum: 0}}\n  - {method: dense, dataset: cifar10}\n"
    )
    sweep = read(text)
    assert settings(sweep, "lr", "epochs", "momentum") == [(0.1, 4, 0.0), (0.2, 4, 0.0)] * 2 + [
        (0.1, 10, 0.9),
        (0.2, 10, 0.9),
    ]
    assert [str(trial.dataset) for trial in sweep.trials] == ["digits"] * 2 + ["synthetic"] * 2 + ["cifar10"] * 2
    assert sweep.trials[2].dataset.settings["shape"] == (1, 8, 8)
    assert sweep.trials[2].dataset.settings["classes"] == 10


def test_a_setting_that_is_a_list_becomes_an_axis_as_a_list_of_lists(block):
    train = "train: {schedule: multistep, gamma: 0.1, milestones: %s}"
    assert settings(block(f"method: dense, {train % '[10, 15]'}"), "milestones") == [((10, 15),)]
    assert settings(block(f"method: dense, {train % '[[10], [10, 15]]'}"), "milestones") == [((10,),), ((10, 15),)]


def test_several_methods_take_one_block(block):
    sweep = block("method: [imp, random], sparsity: 0.9, retrain_epochs: [1, 2]")
    assert settings(sweep, "method", "retrain_epochs") == [("imp", 1), ("imp", 2), ("random", 1), ("random", 2)]


def test_zipped_axes_advance_together(block):
    imp = "method: imp, sparsity: [0.8, 0.9], retrain_epochs: [1, 2]"
    assert settings(block(f"{imp}, zip: [sparsity, retrain_epochs]"), "sparsity", "retrain_epochs") == [
        (0.8, 1),
        (0.9, 2),
    ]
    train = "retrain_schedule: [FT, LLR], train: {lr: [0.1, 0.2]}"
    sweep = block(f"{imp}, {train}, zip: [[sparsity, train.lr], [retrain_epochs, retrain_schedule]]")
    assert settings(sweep, "sparsity", "lr", "retrain_epochs", "retrain_schedule") == [
        (0.8, 0.1, 1, "FT"), (0.8, 0.1, 2, "LLR"), (0.9, 0.2, 1, "FT"), (0.9, 0.2, 2, "LLR"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ("{sparsity: 0.8, retrain_epochs: 2}", [(0.8, 1), (0.8, 3), (0.9, 1), (0.9, 2), (0.9, 3)]),
        ("{sparsity: 0.8, retrain_epochs: [2, 3]}", [(0.8, 1), (0.9, 1), (0.9, 2), (0.9, 3)]),
        ("{sparsity: 0.8}, {retrain_epochs: 1}", [(0.9, 2), (0.9, 3)]),
        ("{sparsity: 0.9, train.lr: 0.1}", [(0.8, 1), (0.8, 2), (0.8, 3)]),
        ("{sparsity: 0.9, train: {lr: 0.1}, dataset: digits, phases: 1}", [(0.8, 1), (0.8, 2), (0.8, 3)]),
    ],
)
def test_exclude_drops_the_cells_that_have_all_of_a_mappings_values(block, exclude: str, left: list[object]):
    sweep = block(f"method: imp, sparsity: [0.8, 0.9], retrain_epochs: [1, 2, 3], exclude: [{exclude}]")
    assert settings(sweep, "sparsity", "retrain_epochs") == left


def test_exclude_compares_the_numbers_and_not_how_they_are_written(block):
    sweep = block(
        "method: gmp, sparsity: [0.30000000000000004, 0.5, 0.7, 0.8], pruning_interval: 1, "
        "exclude: [{sparsity: 0.3}, {sparsity: 0.50000000000000001}, {sparsity: 70.0%}]"
    )
    assert {trial.sparsity for trial in sweep.trials} == {0.8}
    budgets = "method: imp, sparsity: 0.9, retrain_budget: [5%, 10.0%], exclude: [{retrain_budget: 10%}]"
    assert len(block(budgets).trials) == 1


def test_an_excluded_cell_need_not_be_possible(block):
    schedules = "method: imp, sparsity: 0.9, retrain_epochs: [2, 30], retrain_schedule: [LRW, LLR]"
    sweep = block(f"{schedules}, exclude: [{{retrain_epochs: 30, retrain_schedule: LRW}}]")
    assert settings(sweep, "retrain_epochs", "retrain_schedule") == [(2, "LRW"), (2, "LLR"), (30, "LLR")]


@pytest.mark.parametrize(
    ("epochs", "budget", "expected"),
    [(90, "2.22%", 2), (90, "5.55%", 5), (90, "11.11%", 10), (20, "2.5%", 1), (20, "12.5%", 3), (20, "12.49%", 2)],
)
def test_a_budget_is_rounded_to_whole_epochs_and_ties_go_up(block, epochs: int, budget: str, expected: int):
    sweep = block(f"method: imp, sparsity: 0.9, retrain_budget: {budget}, train: {{epochs: {epochs}}}")
    assert settings(sweep, "retrain_epochs") == [(expected,)]


def test_a_fraction_per_phase_makes_a_trial_of_every_level(block):
    sweep = block("method: imp, phase_fraction: 0.2, phase_epochs: 1, phases: 3")
    assert settings(sweep, "sparsity", "phases") == [(0.2, 1), (0.36, 2), (0.488, 3)]
    ends = [create(trial.method).stage(trial) for trial in sweep.trials]
    assert [ends[1].parent.key, ends[2].parent.key] == [ends[0].key, ends[1].key]


def test_equal_trials_are_one(read):
    sweep = read(
        HEAD + "trials:\n  - {method: gmp, sparsity: [0.8, 0.9]}\n  - {method: gmp, sparsity: 0.9, pruning_interval: 2}"
    )
    assert (len(sweep.trials), sweep.duplicates) == (2, 1)


def test_yaml_is_read_by_version_1_2_and_whole_numbers_serve_as_floats(read):
    sweep = read(HEAD + "name: yes\ntrain: {lr: 1, weight_decay: 1e-3}\ntrials: [{method: dense}]\n")
    assert sweep.name == "yes"
    assert settings(sweep, "lr", "weight_decay") == [(1.0, 0.001)]
    assert isinstance(sweep.trials[0].train.lr, float)


def test_resources_say_nothing_about_the_numbers(read):
    few, many = (read(f"{HEAD}resources: {r}\ntrials: [{{method: dense}}]\n") for r in ("{gpus: 0.25}", "{cpus: 4}"))
    assert (few.resources.default, many.resources.default) == (Resources(1.0, 0.25), Resources(4.0, 0.0))
    assert [t.key for t in few.trials] == [t.key for t in many.trials]


RULES = """resources:
  gpus: 0.25
  for:
    - {model: [resnet56, {name: cifar_resnet, depth: 20}], gpus: 1}
    - {method: dst, cpus: 4}
"""


def test_rules_give_other_resources_by_model_and_method_and_the_last_that_matches_goes(read):
    models = "model: [resnet8, resnet56, {name: cifar_resnet, depth: 20}, {name: cifar_resnet, depth: 26}]"
    sweep = read(
        f"dataset: digits\n{models}\n{RULES}trials:\n  - {{method: gmp, sparsity: 0.9}}\n"
        "  - {method: dst, sparsity: 0.9, penalty: 1.0e-6}\n"
    )
    shares = [sweep.resources.of(trial) for trial in sweep.trials]
    gpus = [0.25, 1.0, 1.0, 0.25]
    assert shares == [Resources(1.0, each) for each in gpus] + [Resources(4.0, each) for each in gpus]


def test_a_third_partys_method_is_read_like_ours(read, tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(
        "from prunesweep import Method, hyperparameter\n"
        "class Mine(Method):\n"
        "    levels_kept: tuple[int, ...] = hyperparameter('kept', (1,), ge=1)\n"
        "    copy: float = hyperparameter('a name that pydantic uses too', lt=1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    text = HEAD + "trials:\n  - {method: 'theirs:Mine', sparsity: 0.5, levels_kept: [[1, 2], [3]], copy: %s}\n"
    assert settings(read(text % 0.5), "method", "levels_kept", "copy") == [
        ("theirs:Mine", (1, 2), 0.5),
        ("theirs:Mine", (3,), 0.5),
    ]
    with pytest.raises(UserError, match=r"x.yaml:4: trials\[0\].copy: 2 is not allowed: a number below 1"):
        read(text % 2)


@pytest.mark.parametrize("name", ["lr", "seed", "momentum", "test_accuracy", "sparsity", "model_options"])
def test_a_hyperparameter_of_ones_own_cannot_have_the_name_of_a_column(name: str, read, tmp_path, monkeypatch):
    """It would overwrite what every trial has there."""
    (tmp_path / f"columns_{name}.py").write_text(
        "from prunesweep import Method, hyperparameter\n"
        "from prunesweep.workers.methods.imp import IMP\n"
        f"class Mine(Method):\n    {name}: float = hyperparameter('mine', 0.5)\n"
        "class Later(IMP):\n    later: float = hyperparameter('mine', 0.5)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=f'its hyperparameter "{name}" has the name of a column.*such as own_{name}'):
        read(HEAD + f"trials:\n  - {{method: 'columns_{name}:Mine', sparsity: 0.5}}\n")
    read(HEAD + f"trials:\n  - {{method: 'columns_{name}:Later', sparsity: 0.5, retrain_epochs: 1}}\n")


# --- what is said of wrong files

WRONG_BLOCKS = [
    (
        "method: imp, sparsity: ninety, retrain_epochs: 1",
        'trials[0].sparsity: "ninety" is not allowed: a number in [0, 1)',
    ),
    (
        "method: imp, sparsity: [0.8, 0.9, 1.0], retrain_epochs: 1",
        "trials[0].sparsity[2]: 1.0 is not allowed: a number in",
    ),
    ("method: gmp, sparsity: -0.1", "trials[0].sparsity: -0.1 is not allowed: a number in [0, 1)"),
    ("method: gmp, sparsity: .nan", "trials[0].sparsity: .nan is not allowed: numbers are finite"),
    ("method: gmp, sparsity: '0.5'", 'trials[0].sparsity: "0.5" is not allowed: a number in [0, 1)'),
    ("method: gmp, sparsity: false", "trials[0].sparsity: false is not allowed: a number in [0, 1)"),
    ("method: gmp, sparsity: []", "trials[0].sparsity: an empty list is not allowed"),
    ("method: gmp", "trials[0].sparsity: missing: a number in [0, 1)"),
    ("method: gmp, sparsity: 90", "(fraction of prunable weights that end as 0); did you mean 0.9?"),
    ("method: gmp, sparsity: [0.8, 97.5%]", 'sparsity[1]: "97.5%" is not allowed'),
    ("method: gmp, sparsity: 97.5%", "; did you mean 0.975?"),
    ("method: gmp, sparsity: '0.5'", "; did you mean 0.5?"),
    ("method: gmp, sparsity: 0.9, seeds: 3", 'unknown key of method gmp "seeds": it belongs to the top of the file'),
    ("method: gmp, sparsity: 0.9, lr: 3", 'unknown key of method gmp "lr": it belongs into train: {lr: ...}'),
    ("method: gmp, sparsity: 0.9, model: './net.py:Net'", 'write "net:Net", a module that Python finds'),
    (
        "method: dense, sparsity: 0.5",
        'trials[0].sparsity: unknown key of method dense "sparsity": allowed are budget, dataset,',
    ),
    (
        "method: gmp, sparsity: 0.5, pruning_interval: 2.0",
        "trials[0].pruning_interval: 2.0 is not allowed: a whole number of at least 1 (epochs between prunes)",
    ),
    (
        "method: gmp, sparsity: 0.5, pruning_intervall: 2",
        'did you mean "pruning_interval"?',
    ),
    (
        "method: gmp, sparsity: 0.5, pruning_interval: [2, 11]",
        "trials[0].pruning_interval[1]: an interval of 11 epochs",
    ),
    ("method: [imp, gmp], sparsity: 0.5, retrain_epochs: 2", 'unknown key of method gmp "retrain_epochs"'),
    ("method: imb", 'trials[0].method: unknown method "imb": allowed are acdc,'),
    ("method: [dense, imb]", "trials[0].method[1]: unknown method"),
    ("method: 5", "trials[0].method: 5 is not allowed: the name of a method"),
    ("method: []", "trials[0].method: an empty list is not allowed"),
    ("method: [dense, dense]", 'trials[0].method[1]: "dense" is given twice'),
    (
        "method: imp, sparsity: 0.5, phases: 101, phase_epochs: 1",
        "trials[0].phases: 101 is not allowed: a whole number in [1, 100]",
    ),
    ("method: dense, train: {nesterov: !!bool maybe}", "trials[0].train.nesterov: maybe is not allowed: it is no bool"),
    ("sparsity: 0.5", "trials[0].method: missing: one of acdc,"),
    ("method: 'nowhere:Method'", 'trials[0].method: cannot load "nowhere:Method"'),
    ("method: 'prunesweep.workers.spec:Choice'", "prunesweep.workers.spec:Choice is no method"),
    ("method: bimp, sparsity: 0.5", "trials[0].pretrain_epochs: missing: epochs of dense training"),
    (
        "method: bimp, sparsity: 0.5, pretrain_epochs: [18, 20]",
        "trials[0].pretrain_epochs[1]: 20 of a budget of 20 epochs",
    ),
    ("method: imp, sparsity: 0.5", "trials[0].retrain_epochs: give either retrain_epochs"),
    ("method: imp, retrain_epochs: 2", "trials[0].sparsity: missing: a number in [0, 1), or phase_fraction"),
    (
        "method: imp, sparsity: 0.5, phase_fraction: 0.2, phase_epochs: 1, phases: 2",
        "trials[0].sparsity: 0.5 is not allowed: with phase_fraction the levels are 0.2, 0.36; leave one out",
    ),
    (
        "method: imp, sparsity: 0.5, retrain_epochs: 30, retrain_schedule: [FT, LRW]",
        "trials[0].retrain_schedule[1]: LRW rewinds 30 epochs, but the dense schedule has only 20",
    ),
    (
        "method: imp, sparsity: 0.5, retrain_epochs: 1, retrain_schedule: allr",
        '"allr" is not allowed: one of FT, LRW, SLR,',
    ),
    ("method: imp, sparsity: 0.5, retrain_epochs: 1, retrain_schedule: alr", 'did you mean "ALLR"?'),
    (
        "method: imp, sparsity: 0.5, retrain_budget: [10%, 1%]",
        "trials[0].retrain_budget[1]: 1% of 20 epochs is 0.2, which "
        "rounds to 0; the smallest that makes an epoch is 2.5%",
    ),
    ("method: imp, sparsity: 0.5, retrain_budget: 0.05", "trials[0].retrain_budget: 0.05 is not allowed: a percentage"),
    (
        "method: imp, sparsity: 0.5, retrain_budget: 5%, retrain_epochs: 1",
        "give either retrain_budget or retrain_epochs",
    ),
    ("method: imp, sparsity: 0.5, retrain_budget: 5%, phase_epochs: 1", "give either retrain_budget or phase_epochs"),
    ("method: gmp, sparsity: 0.5, retrain_budget: 5%", 'unknown key of method gmp "retrain_budget"'),
    (
        "method: dense, train: {schedule: cosin}",
        'trials[0].train.schedule: "cosin" is not allowed: one of constant, step, '
        "multistep, exponential, linear, cosine",
    ),
    ("method: dense, train: {schedule: step, step_epochs: 5}", "trials[0].train.gamma: schedule step needs gamma"),
    (
        "method: dense, train: {epochs: 5, schedule: step, step_epochs: 5, gamma: 0.1}",
        "trials[0].train.step_epochs: the first drop, after 5 epochs, never comes in 5;",
    ),
    (
        "method: gmp, sparsity: 0.5, train: {epochs: 5}, recover: [false, true]",
        "trials[0].recover[1]: an interval of 2 epochs allows one prune in 5, and none before it whose weights could "
        "come back; take a pruning_interval of at most 1, or leave it out",
    ),
    (
        "method: gmp, sparsity: 0.5, train: {epochs: 2}, pruning_interval: 1, recover: true",
        "allows one prune in 2, and none before it whose weights could come back; leave it out",
    ),
    (
        "method: lc, sparsity: 0.5, train: {epochs: 1}, penalty_growth: 1.1",
        "trials[0].penalty_growth: the penalty grows after an epoch, and there is one",
    ),
    (
        "method: lc, sparsity: 0.5, penalty: 0.0, penalty_growth: 1.1",
        "trials[0].penalty_growth: a penalty of 0 does not grow",
    ),
    (
        "method: str, sparsity: 0.5, train: {weight_decay: 0.0}, s_initial: [-104, -200]",
        "trials[0].s_initial[1]: the threshold sigmoid(-200) is 0, and without train.weight_decay it stays there",
    ),
    ("method: dense, train: {gamma: 0.5}", "trials[0].train.gamma: schedule linear has no gamma"),
    ("method: dense, train: {epochs: 0}", "trials[0].train.epochs: 0 is not allowed: a whole number of at least 1"),
    ("method: dense, train: {batch_size: 0}", "trials[0].train.batch_size: 0 is not allowed"),
    ("method: dense, train: {lr: [0.1, 0]}", "trials[0].train.lr[1]: 0 is not allowed: a number above 0"),
    ("method: dense, train: {lr: .inf}", "trials[0].train.lr: .inf is not allowed: numbers are finite"),
    ("method: dense, train: {momentum: 1}", "trials[0].train.momentum: 1 is not allowed: a number in [0, 1)"),
    ("method: dense, train: {weight_decay: -1}", "trials[0].train.weight_decay: -1 is not allowed"),
    (
        "method: dense, train: {precision: float16}",
        'precision: "float16" is not allowed: one of float32, tf32, bfloat16, float64',
    ),
    ("method: dense, train: {nesterov: 1}", "trials[0].train.nesterov: 1 is not allowed: true or false"),
    ("method: dense, train: {epoch: 5}", 'unknown key of train "epoch": allowed are accumulate, alpha,'),
    ("method: dense, train: 5", "trials[0].train: 5 is not allowed: a mapping of settings"),
    (
        "method: dense, train: {schedule: multistep, gamma: 0.1, milestones: []}",
        "trials[0].train.milestones: [] is not",
    ),
    (
        "method: dense, train: {warmup_epochs: [1, 20]}",
        "trials[0].train.warmup_epochs[1]: 20 warm-up epochs leave none",
    ),
    ("method: dense, dataset: digit", 'dataset: unknown dataset "digit": allowed are cifar10,'),
    ("method: dense, dataset: {name: synthetic, shap: [1, 8, 8]}", "trials[0].dataset.shap: unknown option of dataset"),
    ("method: dense, dataset: {shape: [1, 8, 8]}", "is not allowed: the name of a dataset, or a mapping {name: ...,"),
    ("method: dense, dataset: ':x'", 'trials[0].dataset: cannot load ":x"'),
    ("method: dense, model: [resnet8, resnet9]", 'trials[0].model[1]: unknown model "resnet9"'),
    (
        "method: gmp, sparsity: [0.8, 0.9], pruning_interval: 2, zip: [sparsity, pruning_interval]",
        "trials[0].zip: zipped axes need equally many values: sparsity has 2, pruning_interval has 1",
    ),
    (
        "method: gmp, sparsity: 0.8, zip: [sparsity, train.lr]",
        'trials[0].zip[1]: unknown axis of this block "train.lr"',
    ),
    ("method: gmp, sparsity: [0.8, 0.9], zip: [sparsity, sparsity]", "trials[0].zip[1]: sparsity is zipped twice"),
    ("method: gmp, sparsity: 0.8, zip: [sparsity]", 'zip: ["sparsity"] is not allowed: a list of two or more axes'),
    (
        "method: gmp, sparsity: [0.8, 0.9], exclude: [{sparsity: 90}]",
        "trials[0].exclude[0].sparsity: 90 matches no cell: sparsity is 0.8, 0.9 in this block; did you mean 0.9?",
    ),
    (
        "method: gmp, sparsity: [0.8, 0.9], exclude: [{sparsty: 0.8}]",
        "trials[0].exclude[0].sparsty: unknown setting of this block",
    ),
    (
        "method: gmp, sparsity: [0.8, 0.9], exclude: [{sparsity: [0.8, 0.85]}]",
        "trials[0].exclude[0].sparsity[1]: 0.85 matches no cell: sparsity is 0.8, 0.9 in this block",
    ),
    (
        "method: gmp, sparsity: [0.8, 0.9], pruning_interval: [2, 4], zip: [sparsity, pruning_interval], "
        "exclude: [{sparsity: 0.8, pruning_interval: 4}]",
        "trials[0].exclude[0]: {sparsity: 0.8, pruning_interval: 4} matches no cell",
    ),
    (
        "method: gmp, sparsity: [0.8, 0.9], exclude: [{method: gmp}]",
        "trials[0].exclude: every cell of this block is excluded",
    ),
    (
        "method: gmp, sparsity: 0.8, exclude: {sparsity: 0.8}",
        "is not allowed: a list of mappings from settings to values",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG_BLOCKS)
def test_a_wrong_block_is_an_error_at_its_place(block, text: str, message: str):
    with pytest.raises(UserError) as error:
        block(text)
    assert message in str(error.value)
    assert str(error.value).startswith("x.yaml:4: trials[0].")
    assert "\n" not in str(error.value)


WRONG_FILES = [
    ("", "x.yaml:1: the file is empty; a sweep needs dataset, model and trials"),
    ("# nothing\n", "x.yaml:1: the file is empty"),
    ("- a\n", "x.yaml:1: a list at the top"),
    ("\nhello", 'x.yaml:2: "hello" at the top'),
    ("a: [1\nb: 2", "x.yaml:1: not valid YAML: this [ is not closed, or a comma is missing after it\n  a: [1\n     ^"),
    ("a: '[' # {\nb: [1, {c: 2},", "x.yaml:2: not valid YAML: this [ is not closed"),
    ("a: {b: 1 c: 2}", "x.yaml:1: not valid YAML: expected ',' or '}'"),
    ("a: 1\nb 2\nc: 3", "x.yaml:2: not valid YAML: a colon is missing in this line\n  b 2\n     ^"),
    ("b 2\nc: 3", "x.yaml:1: not valid YAML: a colon is missing in this line\n  b 2\n     ^"),
    (
        "a: b: c",
        "x.yaml:1: not valid YAML: no colon may stand here: put a text that has one into quotes\n  a: b: c\n      ^",
    ),
    ('a: "b\nc: d', 'x.yaml:1: not valid YAML: this quotation mark is not closed\n  a: "b\n     ^'),
    (
        "a:\n  - b: 1\n   c: 2",
        "x.yaml:3: not valid YAML: the indentation does not fit the lines above\n     c: 2\n     ^",
    ),
    ("a: 1\n\tb: 2", "x.yaml:2: not valid YAML: a tab; indent with spaces\n   b: 2\n  ^"),
    ("a: [1" + 200 * " " + "b: 2", "^"),
    (
        "method: grid\nmetric: {name: a}\nparameters:\n  lr: {values: [0.1, 0.2]}\n  epochs: {value: 3}\n",
        "x.yaml:1: this is a sweep file of Weights & Biases. Here a sweep has dataset, model and trials",
    ),
    ("parameters: {lr: {values: [0.1, 0.2]}}\nprogram: x.py", "for its axes write {lr: [0.1, 0.2]}"),
    ("seml: {}\ngrid: {lr: {type: choice, options: [1, 2]}}", "for its axes write {lr: [1, 2]}"),
    ("dataset: digits\nlr: 0.1", 'x.yaml:2: lr: unknown key of sweep file "lr": it belongs into train: {lr: ...}'),
    ("dataset: digits\nsparsity: 0.1", 'unknown key of sweep file "sparsity": it belongs into a block of trials'),
    ("train: {optim: adam}", 'unknown key of train "optim": write "optimizer"'),
    ("train: {learning_rate: 0.1}", 'unknown key of train "learning_rate": write "lr"'),
    ("train: {batch_size: '64'}", "; did you mean 64?"),
    ("a: \x00", "x.yaml:1: not valid YAML: special characters are not allowed"),
    ("model: resnet8\ndataset: digits\nmodel: resnet8\n", "x.yaml:3: model: given twice, first on line 1"),
    ("1: 2", "x.yaml:1: a key that is not a name"),
    ("model: &x [*x]", "x.yaml:1: model[0]: the alias contains itself"),
    ("model: !env HOME", "x.yaml:1: model: the tag !env is not allowed"),
    (f"{HEAD}", "x.yaml:1: trials: missing"),
    (f"{HEAD}trials: []", "x.yaml:3: trials: an empty list is not allowed"),
    (f"{HEAD}trials: {{method: dense}}", 'x.yaml:3: trials: {method: "dense"} is not allowed: a list'),
    (f"{HEAD}trials:\n  - dense", 'x.yaml:4: trials[0]: "dense" is not allowed: a mapping of settings'),
    (
        f"{HEAD}seed: 3\ntrials: [{{method: dense}}]",
        'x.yaml:3: seed: unknown key of sweep file "seed": allowed are authors, dataset, '
        'init, model, name, notes, prune, resources, seeds, task, test_sets, title and 4 more; did you mean "seeds"?',
    ),
    (
        "model: resnet8\ntrials:\n  - method: dense\n",
        "x.yaml:3: trials[0].dataset: missing: give a dataset here or for the",
    ),
    (f"{HEAD}train: {{epochs: [20, 0]}}\ntrials: [{{method: dense}}]", "x.yaml:3: train.epochs[1]: 0 is not allowed"),
    (
        f"{HEAD}trials:\n  - method: gmp\n    sparsity:\n      - 0.8\n      - 1.0\n",
        "x.yaml:7: trials[0].sparsity[1]: 1.0",
    ),
    (f"{HEAD}trials:\n  - method: dense\n  - method: dense\n    lr: 1\n", "x.yaml:6: trials[1].lr: unknown key"),
    (
        f"{HEAD}train:\n  epochs: 4\ntrials:\n  - method: dense\n  - method: dense\n    train: {{warmup_epochs: 4}}\n",
        "x.yaml:8: trials[1].train.warmup_epochs: 4 warm-up",
    ),
    (
        f"{HEAD}train:\n  epochs: 4\n  schedule: step\ntrials:\n  - method: dense\n",
        "x.yaml:3: train.step_epochs: schedule",
    ),
    (
        f"{HEAD}seeds: 100000\ntrials: [{{method: gmp, sparsity: [0.8, 0.9]}}]",
        "200,000 trials are too many: at most 100,000",
    ),
    *(
        (f"{HEAD}seeds: {seeds}\ntrials: [{{method: dense}}]", "x.yaml:3: seeds: ")
        for seeds in ("0", "-1", "[]", "[1, 1]", "[0, -1]", "true", "1.5", "three")
    ),
    *(
        (f"{HEAD}name: {name}\ntrials: [{{method: dense}}]", "x.yaml:3: name: ")
        for name in (".x", "..", "../x", "/x", "a/b", "a b", "''", "5", "stages", "Stages", r'"a\0b"', "a" * 101)
    ),
    (
        f"{HEAD}resources: {{gpus: 1.5}}\ntrials: [{{method: dense}}]",
        "x.yaml:3: resources.gpus: 1.5 is not allowed: a number "
        "of GPUs of at least 0, a fraction to share one; more than 1 must be whole",
    ),
    (f"{HEAD}resources: {{gpu: 1}}\ntrials: [{{method: dense}}]", 'unknown key of resources "gpu"'),
    (f"{HEAD}resources: {{cpus: 0}}\ntrials: [{{method: dense}}]", "x.yaml:3: resources.cpus: 0 is not allowed"),
    *(
        (f"{HEAD}resources:\n  for:\n  - {rule}\ntrials: [{{method: dense}}]", f"x.yaml:5: resources.for[0]{message}")
        for rule, message in (
            ("{model: resnet50, gpus: 1}", ": matches no trial of this sweep, which has: model resnet8"),
            ("{method: [gmp, imp], gpus: 1}", ": matches no trial of this sweep, which has: method dense"),
            ("{gpus: 1}", ": missing: one of dataset, model, method"),
            ("{model: resnet8}", ": missing: cpus, gpus or replicas"),
            ("{model: resnet8, gpus: 1.5}", ".gpus: 1.5 is not allowed: a number of GPUs"),
            ("{network: resnet8, gpus: 1}", '.network: unknown key of a rule of resources "network"'),
            ("resnet8", ': "resnet8" is not allowed: a mapping of settings'),
        )
    ),
    (
        f"{HEAD}resources: {{gpus: 0.5, replicas: 2}}\ntrials: [{{method: dense}}]",
        "x.yaml:3: resources: gpus: 0.5 with replicas: 2 is not allowed: give each a whole GPU, or none",
    ),
    (f"{HEAD}resources: {{replicas: 0}}\ntrials: [{{method: dense}}]", "x.yaml:3: resources.replicas: 0 is not"),
    (f"{HEAD}resources: {{for: []}}\ntrials: [{{method: dense}}]", "x.yaml:3: resources.for: an empty list"),
    (f"{HEAD}resources: {{for: 1}}\ntrials: [{{method: dense}}]", "x.yaml:3: resources.for: 1 is not allowed: a list"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_FILES)
def test_a_wrong_file_is_an_error_at_its_line(read, text: str, message: str):
    with pytest.raises(UserError) as error:
        read(text)
    assert message in str(error.value)
    assert str(error.value).count("\n") <= 2


def test_several_problems_are_shown_in_the_order_of_the_file_five_at_most(read):
    intervals = "".join(f"  - method: gmp\n    sparsity: {1 + i}\n" for i in range(7))
    with pytest.raises(UserError) as error:
        read(f"{HEAD}seeds: 0\ntrials:\n{intervals}")
    lines = str(error.value).splitlines()
    assert [line.split(": ")[0] for line in lines[:5]] == [f"x.yaml:{n}" for n in (3, 6, 8, 10, 12)]
    assert lines[5:] == ["and 3 more"]


def test_a_file_that_is_not_there_is_an_error_with_the_nearest(read, tmp_path):
    read(HEAD + "trials: [{method: dense}]\n", "quick.yaml")
    with pytest.raises(UserError, match=r'^qick.yaml: no such file; did you mean "quick.yaml"\?$'):
        read_sweep(Path("qick.yaml"))
    with pytest.raises(UserError, match=r"no such file; there is no folder nowhere either"):
        read_sweep(Path("nowhere/x.yaml"))
    with pytest.raises(UserError, match=r"is a folder; name one of the sweep files in it: quick.yaml"):
        read_sweep(tmp_path)
    Path("x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"x.yaml: is not a text file in UTF-8"):
        read_sweep(Path("x.yaml"))


def test_a_tag_at_the_top_of_a_file_is_refused(read):
    with pytest.raises(UserError, match=r"x.yaml:1: the tag .*os.system is not allowed: a sweep holds plain values"):
        read(f"!!python/object:os.system\n{HEAD}trials: [{{method: dense}}]\n", "x.yaml")


def test_a_file_whose_name_cannot_be_a_sweeps_needs_one(read):
    with pytest.raises(UserError, match=r'^a b.yaml:1: name: "a b" is not allowed: a folder\'s name'):
        read(HEAD + "trials: [{method: dense}]\n", "a b.yaml")


# --- sweeps in Python

PYTHON = """\
from prunesweep.workers.spec import Choice, TrainSpec, TrialSpec

def trial(method="dense", sparsity=0.0, dataset="digits", train=TrainSpec(), seed=0, **options):
    return TrialSpec(Choice.of(dataset), Choice.of("resnet8"), Choice.of(method, options), seed, sparsity, train)

def trials():
"""


def test_a_python_sweep_is_the_same_as_a_yaml_one(read):
    code = (
        PYTHON + "    for interval in (1, 2):\n"
        "        yield trial('gmp', 0.9, pruning_interval=interval)\n"
        "    yield trial('gmp', 0.9)\n"
        "name = 'mine'\nresources = {'cpus': 2}\n"
    )
    python = read(code, "x.py")
    yaml = read(HEAD + "trials: [{method: gmp, sparsity: 0.9, pruning_interval: [1, 2]}]\n")
    assert [t.key for t in python.trials] == [t.key for t in yaml.trials]
    assert python.trials == yaml.trials
    assert (python.name, python.resources.default, python.duplicates) == ("mine", Resources(2.0, 0.0), 1)
    assert python.text == code


def test_numbers_of_numpy_make_the_same_trials_as_python_s(read):
    numpy = (
        "import numpy as np\n" + PYTHON + "    for epochs in np.arange(2, 4):\n"
        "        train = TrainSpec(epochs=epochs, lr=np.float32(0.1), augment=np.bool_(False))\n"
        "        yield trial('gmp', np.float64(0.9), seed=np.int64(3), pruning_interval=np.uint8(1), train=train)\n"
    )
    python = PYTHON + (
        "    for epochs in (2, 3):\n        train = TrainSpec(epochs=epochs, lr=0.1, augment=False)\n"
        "        yield trial('gmp', 0.9, seed=3, pruning_interval=1, train=train)\n"
    )
    assert read(numpy, "x.py").trials == read(python, "y.py").trials
    with pytest.raises(UserError, match=r"x.py:8: trials\(\)\[0\].seed: -1 is not allowed"):
        read("import numpy as np\n" + PYTHON + "    yield trial(seed=np.int64(-1))\n", "x.py")


def test_sparsities_that_are_computed_are_those_that_are_meant(read):
    """1 - 0.7 is 0.30000000000000004, and numpy.arange(0.7, 0.95, 0.1) has 0.7999999999999999."""
    computed = (
        "    yield trial('gmp', 1 - 0.7)\n    yield trial('gmp', 0.1 * 3)\n    yield trial('gmp', 0.7999999999999999)\n"
    )
    meant = "    yield trial('gmp', 0.3)\n    yield trial('gmp', 0.8)\n"
    assert read(PYTHON + computed, "x.py").trials == read(PYTHON + meant, "y.py").trials
    phases = "    yield trial('imp', {}, phase_fraction=0.2, phase_epochs=1, phases=2)\n"
    level = (
        read(HEAD + "trials: [{method: imp, phase_fraction: 0.2, phase_epochs: 1, phases: 2}]\n").trials[-1].sparsity
    )
    assert read(PYTHON + phases.format(repr(level)), "z.py").trials[0].sparsity == level


def test_sparsities_of_a_yaml_file_are_those_that_are_meant(block):
    """A script may write 1 - 0.7 as 0.30000000000000004; the twelfth digit is kept, and none becomes 1."""
    written = block("method: gmp, sparsity: [0.3, 0.30000000000000004, 0.7999999999999999, 0.123456789012]")
    assert settings(written, "sparsity") == [(0.3,), (0.8,), (0.123456789012,)]
    assert written.duplicates == 1
    assert settings(block("method: gmp, sparsity: 0.9999999999999"), "sparsity") == [(0.9999999999999,)]


def test_a_python_sweep_leaves_nothing_behind(read, tmp_path):
    before = set(sys.modules)
    read(
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int'\n" + PYTHON + "    yield trial()\n",
        "json.py",
    )
    assert {name for name in set(sys.modules) - before if "json" in name} == set()
    assert [file.name for file in tmp_path.iterdir()] == ["json.py"]


WRONG_TRIALS = [
    ("trial('gmp', 1.0)", "trials()[1].sparsity: 1.0 is not allowed: a number in [0, 1)"),
    ("trial('dense', 0.5)", "trials()[1].sparsity: 0.5 is not allowed: method dense takes no sparsity"),
    ("trial('imp', 0.5)", "trials()[1].retrain_epochs: give either retrain_epochs"),
    (
        "trial('imp', 0.2, phase_fraction=0.2, phase_epochs=1, phases=2)",
        "0.2 is not allowed: with phase_fraction the trial ends at 0.36",
    ),
    ("trial('gmp', 0.5, pruning_interval=(1, 2))", "trials()[1].pruning_interval: a list is not allowed"),
    (
        "trial('gmp', 0.5, interval=1)",
        'unknown hyperparameter of method gmp "interval": allowed are allocation, pruning_interval, recover',
    ),
    ("trial('gnp', 0.5)", 'trials()[1].method: unknown method "gnp"'),
    ("trial(dataset='digit')", 'unknown dataset "digit"'),
    ("trial(seed=-1)", "trials()[1].seed: -1 is not allowed"),
    ("trial(train=TrainSpec(lr='0.1'))", 'trials()[1].train.lr: "0.1" is not allowed: a number above 0'),
    ("trial(train=TrainSpec(schedule='step'))", "trials()[1].train.step_epochs: schedule step needs"),
    ("trial(train={})", "trials()[1].train: {} is not allowed: a TrainSpec"),
    (
        "TrialSpec('digits', Choice.of('resnet8'), Choice.of('dense'))",
        'trials()[1].dataset: "digits" is not allowed: a Choice',
    ),
    ("5", "trials()[1]: 5 is not allowed: trials() yields TrialSpecs"),
    ("1 / 0", "ZeroDivisionError: division by zero"),
]


@pytest.mark.parametrize(("expression", "message"), WRONG_TRIALS)
def test_a_wrong_trial_of_a_python_sweep_is_an_error_on_the_line_that_yields_it(read, expression: str, message: str):
    with pytest.raises(UserError) as error:
        read(f"{PYTHON}    yield trial()\n    yield {expression}\n", "x.py")
    assert str(error.value).startswith("x.py:8: ")
    assert message in str(error.value)


WRONG_PYTHON = [
    ("x = 1\n", "x.py:1: no function trials()"),
    ("\nx = (\n", "x.py:2: SyntaxError"),
    ("\nimport nowhere\n", "x.py:2: ModuleNotFoundError"),
    ("\nimport sys\nsys.exit(3)\n", "x.py:3: SystemExit: 3"),
    ("\ndef trials():\n    return 5\n", "x.py:2: trials() returns 5; it must yield TrialSpecs"),
    ("\ndef trials():\n    yield from ()\n", "x.py:2: trials() yields no trial"),
    (f"{PYTHON}    yield trial()\nname = 'a b'\n", 'x.py:8: name: "a b" is not allowed'),
    (f"{PYTHON}    yield trial()\n\nresources = {{'gpus': 1.5}}\n", "x.py:9: resources.gpus: 1.5 is not allowed"),
    (
        f"{PYTHON}    yield trial()\nresources = {{'for': [{{'model': 'resnet9', 'gpus': 1}}]}}\n",
        "x.py:8: resources.for[0]: matches no trial",
    ),
    (f"{PYTHON}    while True:\n        yield trial()\n", "x.py:8: trials() yields too many trials: at most 100,000"),
]


@pytest.mark.parametrize(("code", "message"), WRONG_PYTHON)
def test_a_wrong_python_sweep_is_an_error_at_its_line(read, code: str, message: str):
    with pytest.raises(UserError) as error:
        read(code, "x.py")
    assert str(error.value).startswith(message)


# --- the schema for editors


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    committed = json.loads((SWEEPS / "sweep.schema.json").read_text())
    Draft202012Validator.check_schema(committed)
    return Draft202012Validator(committed)


def valid(schema: Draft202012Validator, text: str) -> bool:
    return schema.is_valid(YAML(typ="safe", pure=True).load(text))


def test_the_committed_schema_is_up_to_date(schema):
    assert schema.schema == sweep_schema(), "run `prunesweep schema > sweeps/sweep.schema.json`"


@pytest.mark.parametrize("file", sorted(SWEEPS.glob("*.yaml")), ids=lambda file: file.name)
def test_the_sweeps_that_ship_name_their_schema_and_fit_it(schema, file: Path):
    assert file.read_text().startswith("# yaml-language-server: $schema=./sweep.schema.json\n#")
    assert valid(schema, file.read_text())


@pytest.mark.parametrize(
    "block",
    [
        "method: [imp, random], phase_fraction: 0.2, phase_epochs: 1, phases: 3",
        "method: 'theirs:Mine', anything: 1",
        "method: dense, dataset: {name: synthetic, shape: [1, 8, 8]}, model: 'theirs:net'",
        "method: dense, train: {schedule: multistep, milestones: [[10], [10, 15]], gamma: 0.1}",
        "method: gmp, sparsity: [0.8], zip: [[sparsity, train.lr]], exclude: [{sparsity: 0.8}]",
    ],
)
def test_the_schema_knows_axes_and_third_parties(schema, block: str):
    assert valid(schema, f"{HEAD}trials: [{{{block}}}]")


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}seed: 3\ntrials: [{{method: dense}}]",
        f"{HEAD}resources: {{gpus: 1.5}}\ntrials: [{{method: dense}}]",
        f"{HEAD}resources: {{gpu: 1}}\ntrials: [{{method: dense}}]",
        f"{HEAD}seeds: 0\ntrials: [{{method: dense}}]",
        *(
            f"{HEAD}trials: [{{{block}}}]"
            for block in (
                "method: dense, sparsity: 0.5",
                "method: dense, train: {learning_rate: 0.1}",
                "method: dense, dataset: digit",
                "method: dense, dataset: {name: digits, shape: [1, 8, 8]}",
                "method: imb",
                "method: gmp",
                "method: gmp, sparsity: [0.8, 1.0]",
                "method: gmp, sparsity: []",
                "method: [imp, gmp], sparsity: 0.5, retrain_epochs: 2",
                "method: imp, sparsity: 0.5, retrain_budget: 5",
                "method: imp, retrain_epochs: 5",
                "method: bimp, sparsity: 0.5",
            )
        ),
    ],
)
def test_the_schema_refuses_what_reading_refuses(schema, read, text: str):
    assert not valid(schema, text)
    with pytest.raises(UserError):
        read(text)


# --- the house


def test_every_setting_of_the_training_can_be_given():
    assert set(TRAIN) == {field.name for field in fields(TrainSpec)} - {"optimizer_code", "schedule_code"}


def test_reading_loads_neither_torch_nor_ray():
    code = (
        "import sys; from pathlib import Path; from prunesweep.orchestrator.sweepfile.read import read_sweep; "
        f"read_sweep(Path({str(SWEEPS / 'quickstart.yaml')!r})); print({{'torch', 'ray', 'pandas'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
