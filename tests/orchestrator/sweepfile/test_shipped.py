"""The sweeps that ship ask exactly what they say, and cost what they say; nothing is trained here."""

from __future__ import annotations

import re
from functools import cache
from itertools import product
from pathlib import Path

import pytest

from prunesweep.orchestrator.plan import Plan, Size, make_plan
from prunesweep.orchestrator.search.cost import planned
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.methods import create
from prunesweep.workers.spec import PruneStage, RetrainSpec, TrainSpec, TrialSpec, path
from prunesweep.workers.store import Store

SWEEPS = Path(__file__).parents[3] / "sweeps"
SCHEDULES = {"FT", "LRW", "SLR", "CLR", "LLR", "ALLR"}
METHODS = {"bimp", "gmp", "gsm", "dpf", "dnw", "lc", "str", "dst"}
PAPER = {0.7, 0.8, 0.9}
HARDER = {*PAPER, 0.95, 0.98}

SIZES = {
    "quickstart": (3, Size(46, 1 + 36 + 4 + 3 + 3, 20 * 46 + 54 + 6, 20 + 54 + (18 + 3 * 2) + 3 * 20 + 3 * 2)),
    "digits_methods": (3, Size(186, 205, 3760, 1912)),
    "imagenet_schedules": (2, Size(54, 55, 54 * 90 + 18 * 17, 90 + 18 * 17)),
    "imagenet_methods": (2, Size(24, 4 + 5 * 3 + 2 * 6, 24 * 90, 81 + 3 * 9 + 7 * 270)),
    "cifar10_schedules": (3, Size(90, 91, 90 * 160 + 30 * 31, 160 + 30 * 31)),
    "cifar10_methods": (3, Size(80, 6 + 5 * 5 + 2 * 30, 80 * 160, 144 + 5 * 16 + 7 * 800)),
    "cifar100_schedules": (3, Size(180, 182, 2 * (90 * 200 + 30 * 37), 2 * (200 + 30 * 37))),
    "cifar100_methods": (3, Size(160, 2 * 91, 160 * 200, 2 * (180 + 5 * 20 + 7 * 1000))),
    "digits_schedules": (5, Size(91, 91, 91 * 90 + 30 * 17, 90 + 30 * 17)),
    "cifar10_rigl_reproduction": (3, Size(10, 10, 8 * 250 + 2 * 500, 8 * 250 + 2 * 500)),
    "imagenet_rigl": (1, Size(19, 19, 15 * 100 + 4 * 500, 15 * 100 + 4 * 500)),
    "lottery_tickets": (
        5,
        Size(41, 1 + 1 + 5 * 8, 20 + 3 * (160 + 20 * 36) + 2 * (160 + 18 * 36), 20 + 3 * 160 + 2 * 8 * 18),
    ),
    "n_m": (5, Size(27, 27, 23 * 20 + 4 * 25, 24 * 20)),
    "digits_reviewers": (5, Size(72, 1 + 53 + 5 + 9 + 5 + 6, 72 * 20 + 6 * 2, 20 + 53 * 20 + 5 * 20 + 24 + 22 + 12)),
    "digits_mini_methods": (5, Size(41, 1 + 8 + 5 * 5 + 8 + 7, 41 * 20, 20 + 72 + 5 * 100 + 60 + 40)),
    "tuned_schedules": (5, Size(132, 133, 132 * 90 + 66 * 7, 90 + 66 * 7)),
    "iterative_imp": (5, Size(24, 1 + 6 * 11, 24 * 90 + 12 * 30, 90 + 12 * 30)),
    "bimp_budgets": (5, Size(48, 3 + 15 - 2 + 45, 16 * 70, 70 + 224 - 30 + 3 * 126)),
}
"""Seeds, and what each asks for, worked out by hand: dense and baselines' epochs, plus retraining by cells."""


@cache
def plan(name: str) -> Plan:
    """The plan of a sweep that ships, in a store with nothing in it."""
    return make_plan(read_sweep(SWEEPS / f"{name}.yaml"), Store(SWEEPS / "no-store"))


def first_seed(name: str) -> list[TrialSpec]:
    return [trial for trial in plan(name).sweep.trials if trial.seed == 0]


def lengths(trial: TrialSpec) -> list[int]:
    """Epochs of each stage on the trial's path."""
    return [stage.epochs for stage in path(create(trial.method).stage(trial))]


def schedule_cells(name: str, model: str) -> list[tuple[object, float, int]]:
    """Schedule, sparsity and retraining epochs of each trial of a seed."""
    return sorted(
        (str(trial.method.settings["retrain_schedule"]), trial.sparsity, lengths(trial)[-1])
        for trial in first_seed(name)
        if trial.model.name == model and trial.method.name != "dense"
    )


def method_cells(name: str, model: str) -> list[tuple[str, float]]:
    return sorted((trial.method.name, trial.sparsity) for trial in first_seed(name) if trial.model.name == model)


# --- all of them


def test_every_sweep_that_ships_has_its_size_here():
    assert {file.stem for file in SWEEPS.glob("*.yaml")} == {*SIZES, "digits_tuned"}


def test_the_tuned_comparison_tunes_ten_methods_and_their_control_at_equal_cost():
    """15 candidates to epoch 6 and 5 on to 20: 90 + 70 = 160. IMP's paths have 22 epochs, its rungs 7: 14 and 4."""
    decisions = plan("digits_tuned").decisions
    spent = {(d.search.base.method.name, d.search.base.sparsity): planned(d.search) for d in decisions}
    assert len(spent) == 21
    assert spent["dense", 0.0] == (15, 160)
    assert {spent[name, 0.9] for name in ("gmp", "gsm", "dpf", "dnw", "lc", "bimp")} == {(15, 160)}
    assert {spent[name, 0.98] for name in ("str", "dst", "cs")} == {(8, 160)}, "without rungs"
    assert spent["imp", 0.98] == (14, 14 * 7 + 4 * 15)
    assert {decision.search.final_seeds for decision in decisions} == {(0, 1, 2, 3, 4)}


@pytest.mark.parametrize("name", SIZES)
def test_a_sweep_has_exactly_these_trials_stages_and_epochs(name: str):
    counts = plan(name).counts
    seeds, size = SIZES[name]
    assert counts.per_seed == size
    assert (counts.seeds, counts.duplicates, plan(name).sweep.name) == (seeds, 0, name)
    assert (counts.trials, counts.stages, counts.epochs) == tuple(
        seeds * each for each in (size.trials, size.stages, size.epochs)
    )


@pytest.mark.parametrize("name", SIZES)
def test_its_first_lines_say_what_it_asks_what_it_costs_and_what_to_read(name: str):
    text = (SWEEPS / f"{name}.yaml").read_text().split("\nname: ")[0]
    said = " ".join(line.removeprefix("#").strip() for line in text.splitlines()[1:])
    parts = re.fullmatch(r"What it asks: (.*) What it costs: (.*) What to read: (.*)", said)
    assert parts
    asks, costs, reading = parts.groups()
    size = SIZES[name][1]
    assert re.search(rf"\b{size.trials} cells a seed", asks) or f"{size.trials} trials" in costs
    assert costs.startswith(f"{size.epochs:,} epochs a seed")
    assert f"single trials would cost {size.epochs_unshared:,}" in costs
    assert re.search(rf"\b{size.trials} trials in {size.stages}\b", costs)
    assert f"`prunesweep results {name}" in reading


# --- the paper's tables


IMAGENET = TrainSpec(
    epochs=90,
    batch_size=256,
    lr=0.1,
    schedule="multistep",
    milestones=(30, 60, 80),
    gamma=0.1,
    warmup_epochs=5,
    momentum=0.9,
    weight_decay=1e-4,
)


def test_the_imagenet_schedule_table_is_the_papers():
    assert schedule_cells("imagenet_schedules", "resnet50") == sorted(product(SCHEDULES, PAPER, (2, 5, 10)))
    assert {lengths(trial)[0] for trial in first_seed("imagenet_schedules")} == {90}


def test_the_imagenet_method_table_is_the_papers():
    assert method_cells("imagenet_methods", "resnet50") == sorted(product(METHODS, PAPER))


@pytest.mark.parametrize("name", ["imagenet_schedules", "imagenet_methods"])
def test_imagenet_has_the_standard_recipe(name: str):
    trials = first_seed(name)
    assert {(trial.dataset.name, trial.model.name) for trial in trials} == {("imagenet", "resnet50")}
    assert {trial.train for trial in trials if trial.method.name != "str"} == {IMAGENET}


def test_bimp_on_imagenet_pretrains_81_linear_epochs_and_retrains_9_with_allr():
    for trial in (each for each in first_seed("imagenet_methods") if each.method.name == "bimp"):
        pruned = create(trial.method).stage(trial)
        assert isinstance(pruned, PruneStage)
        assert pruned.retrain == RetrainSpec(9, "ALLR")
        assert (pruned.parent, pruned.sparsity) == (pruned.root, trial.sparsity)
        assert (pruned.root.train.epochs, pruned.root.train.schedule) == (81, "linear")


@pytest.mark.parametrize(
    ("name", "model", "epochs"),
    [
        ("cifar10_schedules", "resnet56", (4, 9, 18)),
        ("cifar100_schedules", "wrn28x10", (4, 11, 22)),
        ("cifar100_schedules", "vgg16_bn", (4, 11, 22)),
        ("digits_schedules", "resnet8", (2, 5, 10)),
    ],
)
def test_the_other_schedule_tables_have_two_harder_sparsities(name: str, model: str, epochs: tuple[int, ...]):
    assert schedule_cells(name, model) == sorted(product(SCHEDULES, HARDER, epochs))


@pytest.mark.parametrize(
    ("name", "model"),
    [("cifar10_methods", "resnet56"), ("cifar100_methods", "wrn28x10"), ("cifar100_methods", "vgg16_bn")],
)
def test_on_cifar_what_learns_its_sparsity_has_five_settings_for_all_targets(name: str, model: str):
    settings = {method: 5 if method in {"str", "dst"} else 1 for method in METHODS}
    cells = [(method, target) for method, target in product(METHODS, HARDER) for _ in range(settings[method])]
    assert method_cells(name, model) == sorted(cells)


def test_the_miniature_method_table_has_the_papers_methods_and_a_dense_network():
    assert method_cells("digits_mini_methods", "resnet8") == sorted([("dense", 0.0), *product(METHODS, HARDER)])


# --- comparisons that are fair


@pytest.mark.parametrize(
    ("name", "budget"),
    [("imagenet_methods", 90), ("cifar10_methods", 160), ("cifar100_methods", 200), ("digits_mini_methods", 20)],
)
def test_methods_have_equal_total_budgets(name: str, budget: int):
    assert {sum(lengths(trial)) for trial in first_seed(name)} == {budget}


def test_phases_of_imp_share_equal_totals():
    splits = {tuple(lengths(trial)) for trial in first_seed("iterative_imp")}
    assert splits == {
        (90, 10), (90, 5, 5), (90, 3, 3, 4), (90, 2, 2, 2, 2, 2),
        (90, 20), (90, 10, 10), (90, 6, 6, 8), (90, 4, 4, 4, 4, 4),
    }  # fmt: skip


def test_bimp_splits_each_budget_in_the_same_proportions():
    splits = {tuple(lengths(trial)) for trial in first_seed("bimp_budgets") if trial.method.name == "bimp"}
    assert splits == {
        (share * total // 100, total - share * total // 100) for share in (30, 50, 70, 80, 90) for total in (10, 20, 40)
    }


def test_tuned_schedules_have_ten_settings_each_against_llr_and_allr_without_any():
    settings = {"LLR": 1, "ALLR": 1, "constant": 10, "linear": 10}
    cells = product(settings, {0.9, 0.95, 0.98}, (2, 5))
    assert schedule_cells("tuned_schedules", "resnet8") == sorted(
        cell for cell in cells for _ in range(settings[cell[0]])
    )


# --- work that sweeps share


def test_the_miniature_of_the_methods_trains_nothing_new_for_the_seeds_of_digits_methods():
    new = {stage.key for stage in plan("digits_mini_methods").stages.values() if stage.root.seed < 3}
    assert new <= set(plan("digits_methods").stages)


@pytest.mark.parametrize("name", ["tuned_schedules", "iterative_imp"])
def test_sweeps_over_retraining_start_from_the_dense_networks_of_the_schedules(name: str):
    roots = {stage.key for stage in plan(name).stages.values() if stage.parent is None}
    assert len(roots) == 5
    assert roots <= set(plan("digits_schedules").stages)
