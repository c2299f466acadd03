"""The `search` of a block: what it makes, and what is said of wrong ones, at their lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prunesweep.orchestrator.records import recall, remember
from prunesweep.orchestrator.search.cost import planned
from prunesweep.orchestrator.search.decoding import decode_search
from prunesweep.orchestrator.search.halving import rungs_of
from prunesweep.orchestrator.search.space import Range, Values
from prunesweep.orchestrator.search.target import Target
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.orchestrator.sweepfile.read import read_sweep, sweep_of
from prunesweep.workers.encoding import encode
from prunesweep.workers.errors import UserError
from prunesweep.workers.store import Store

FILE = """\
name: tuned
dataset: {dataset}
model: resnet8
seeds: 3
train: {{epochs: 20}}
trials:
  - method: {method}
    sparsity: [0.9, 0.95]
    {more}
    search: {search}
"""
LR = "{train.lr: {log: [0.01, 0.5]}}"
Reader = Callable[..., Sweep]


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    def reader(search: str, method: str = "gmp", more: str = "", dataset: str = "digits") -> Sweep:
        file = tmp_path / "x.yaml"
        file.write_text(FILE.format(search=search, method=method, more=more, dataset=dataset))
        return read_sweep(file)

    return reader


def test_a_search_for_each_method_and_sparsity(read: Reader):
    sweep = read(f"{{space: {LR}, budget: 16x}}", method="[gmp, rigl]")
    assert sweep.trials == ()
    cells = [(search.base.method.name, search.base.sparsity) for search in sweep.searches]
    assert cells == [("gmp", 0.9), ("gmp", 0.95), ("rigl", 0.9), ("rigl", 0.95)]
    assert {(search.epochs, search.trainings, search.seeds) for search in sweep.searches} == {(320, 16, (0,))}
    assert sweep.searches[0].final_seeds == (0, 1, 2)
    assert sweep.searches[0].space == (Range("train.lr", "log", 0.01, 0.5),)


def test_a_method_may_have_a_space_of_its_own_and_settings_that_must_be_given(read: Reader):
    spaces = "{gmp: {pruning_interval: [1, 2]}, str: {s_initial: {uniform: [-4, -2]}}}"
    gmp, _, learned, _ = read(f"{{space: {spaces}, budget: 8x}}", method="[gmp, str]").searches
    assert gmp.space == (Values("pruning_interval", (1, 2)),)
    assert learned.space == (Range("s_initial", "uniform", -4.0, -2.0),)
    assert planned(gmp).candidates == 2, "there are no more points"


def test_an_axis_beside_it_makes_a_search_for_each_of_its_values(read: Reader):
    sweep = read(f"{{space: {LR}, budget: 4x}}", more="pruning_interval: [1, 2]")
    assert len(sweep.searches) == 4


def test_the_budget_in_epochs_is_the_same_for_trainings_of_any_length(read: Reader):
    """IMP's paths have 22 epochs: 320 pay for 14 of them, and for 16 of GMP's."""
    sweep = read(f"{{space: {LR}, budget: 320 epochs}}", method="imp", more="retrain_epochs: 2")
    assert [search.trainings for search in sweep.searches] == [14, 14]


def test_a_sweep_is_remembered_with_its_searches(read: Reader, tmp_path: Path):
    store = Store(tmp_path / "store")
    store.require_writable()
    sweep = read(f"{{space: {LR}, budget: 16x, algorithm: halving}}")
    remember(sweep, store)
    again = recall("tuned", store)
    assert again is not None
    assert again.searches == sweep.searches
    remember(sweep, store)
    other = sweep_of({"name": "tuned", "dataset": "digits", "model": "resnet8", "trials": [{"method": "dense"}]})
    with pytest.raises(UserError, match="another sweep of that name"):
        remember(other, store)


STEERED = "{train.lr: {log: [0.01, 0.5]}, s_initial: {uniform: [-4, -1]}}"


def test_a_target_takes_what_steers_the_sparsity_out_of_the_space(read: Reader):
    first, second = read(f"{{space: {STEERED}, budget: 16x, target: {{within: 0.01}}}}", method="str").searches
    assert (first.base.sparsity, second.base.sparsity) == (0.9, 0.95)
    assert first.space == (Range("train.lr", "log", 0.01, 0.5),)
    assert first.target == Target(rises=True, within=0.01, tries=8, steer=Range("s_initial", "uniform", -4.0, -1.0))
    (gentle, *_), (sharp, *_) = (
        read(f"{{space: {LR}, budget: 16x, target: {{}}}}", method=method).searches for method in ("dst", "cs")
    )
    assert gentle.target is not None
    assert sharp.target is not None
    assert (gentle.target.steer, gentle.target.rises) == (Range("penalty", "log", 1e-6, 2e-2), True)
    assert (sharp.target.steer, sharp.target.rises) == (Range("s_initial", "uniform", -0.3, 0.3), False)


def test_a_target_may_give_the_sparsity_of_its_block(tmp_path: Path):
    block = {
        "method": ["str", "cs"],
        "search": {"space": {"train.lr": [0.1]}, "budget": "8x", "target": {"sparsity": 0.8}},
    }
    settings = {"name": "a", "dataset": "digits", "model": "resnet8", "trials": [block]}
    assert [search.base.sparsity for search in sweep_of(settings).searches] == [0.8, 0.8]
    assert sweep_of({**settings, "trials": [{**block, "sparsity": 0.8}]}).searches == sweep_of(settings).searches
    with pytest.raises(UserError, match=r"the block says sparsity: 0\.9, and the target 0\.8: leave one out"):
        sweep_of({**settings, "trials": [{**block, "sparsity": 0.9}]})
    with pytest.raises(UserError, match="missing: sparsity, here or in the block"):
        sweep_of({**settings, "trials": [{**block, "search": {**block["search"], "target": {"within": 0.01}}}]})


def test_a_search_may_look_for_nothing_but_the_target(read: Reader):
    search = read("{space: {s_initial: {uniform: [-4, -1]}}, budget: 8x, target: {}}", method="str").searches[0]
    assert (search.space, planned(search)) == ((), (1, 160))


WRONG_TARGETS = {
    f"{{space: {LR}, budget: 16x, algorithm: halving, target: {{}}}}": "halving looks at beginnings of trainings",
    "{space: {s_initial: [-4, -2]}, budget: 16x, target: {}}": "by bisection: give a range without steps",
    f"{{space: {LR}, budget: 5x, target: {{}}}}": "pays for no bisection: one takes up to 8 trainings of 20 epochs",
    "{space: {train.lr: [0.1, 0.2]}, budget: 8x, algorithm: grid, target: {}}": "each of up to 8 tries: give more",
    f"{{space: {LR}, budget: 16x, target: {{within: 0}}}}": "a difference of sparsities above 0",
    f"{{space: {LR}, budget: 16x, target: {{tries: 1}}}}": "a whole number of 2 to 100",
    f"{{space: {LR}, budget: 16x, target: {{near: 1}}}}": 'unknown key of target "near"',
    f"{{space: {LR}, budget: 16x, target: 0.9}}": "0.9 is not allowed: a mapping",
}


@pytest.mark.parametrize("search", WRONG_TARGETS)
def test_what_is_wrong_with_a_target_is_said_at_its_line(search: str, read: Reader):
    with pytest.raises(UserError) as error:
        read(search, method="str", more="")
    assert WRONG_TARGETS[search] in str(error.value)
    assert "x.yaml:10: trials[0].search" in str(error.value)


def test_a_method_with_a_sparsity_of_its_own_takes_no_target(read: Reader):
    with pytest.raises(UserError, match="gmp prunes to the sparsity that it is told: leave target out"):
        read(f"{{space: {LR}, budget: 16x, target: {{}}}}", method="[str, gmp]")


WRONG = {
    f"{{space: {LR}}}": "missing: what is spent on each method",
    f"{{space: {LR}, budget: 16}}": "trainings or epochs, such as 16x",
    f"{{space: {LR}, budget: 10 epochs}}": "10 epochs pays for no candidate: one takes 20 epochs",
    f"{{space: {LR}, budget: 999999x}}": "999999x pays for 10,000 candidates or more: give less",
    f"{{space: {LR}, budget: 10000x, algorithm: halving}}": "10000x pays for 10,000 candidates or more: give less",
    f"{{space: {LR}, budget: 2x, seeds: 3}}": "2x pays for no candidate: one takes 20 epochs with each of 3 seeds",
    f"{{space: {LR}, budget: 16x, seeds: 4}}": "4 seeds are more than the 3 of the sweep",
    f"{{space: {LR}, budget: 16x, algorithm: bohb}}": "one of random, grid, halving, tpe",
    f"{{space: {LR}, budget: 16x, algorithm: gp}}": "not gp, whose proposals may differ between machines: take tpe",
    f"{{space: {LR}, budget: 16x, by: test_accuracy}}": "what is chosen by test images can't be measured on them",
    f"{{space: {LR}, budget: 16x, rungs: {{factor: 2}}}}": "rungs are halving's",
    f"{{space: {LR}, budget: 16x, algorithm: halving, rungs: {{from: 1%}}}}": "1% of 20 epochs is less than one",
    "{space: {train.lr: {log: [0, 0.5]}}, budget: 16x}": "0 is not allowed: a number above 0",
    "{space: {train.weight_decay: {log: [0, 0.5]}}, budget: 16x}": "0 has no logarithm",
    "{space: {train.lr: {uniform: [0.5, 0.1]}}, budget: 16x}": "the first number is the smaller one",
    "{space: {train.lr: {logarithmic: [0.1, 0.5]}}, budget: 16x}": "{log: [low, high]}",
    "{space: {train.nesterov: {uniform: [0, 1]}}, budget: 16x}": "no number: give a list of values",
    "{space: {penalty: {log: [0.1, 0.5]}}, budget: 16x}": 'unknown setting of method gmp "penalty"',
    "{space: {lr: {log: [0.1, 0.5]}}, budget: 16x}": 'did you mean "train.lr"?',
    "{space: {train.epochs: [10, 20]}, budget: 16x}": "train.epochs can't be searched for",
    '{space: {train.optimizer: [sgd, "mine:Own"]}, budget: 16x}': "mine:Own can't be searched for",
    "{space: {sparsity: [0.5, 0.9]}, budget: 16x}": "sparsity can't be searched for",
    "{space: {gmp: {train.lr: [0.1]}, str: {train.lr: [0.1]}}, budget: 16x}": 'unknown method of this block "str"',
    f"{{space: {LR}, budget: 16x, algorithm: grid}}": "a grid needs lists, or ranges with steps",
    "{space: {train.lr: [0.1, 0.2, 0.3]}, budget: 2x, algorithm: grid}": "the grid has 3 points",
    "{space: {pruning_interval: [1, 40]}, budget: 16x}": "an interval of 40 epochs does not fit",
    f"{{space: {LR}, budget: 16x, colour: red}}": 'unknown key of search "colour"',
    "{space: {}, budget: 16x}": "a mapping from settings to ranges",
}


@pytest.mark.parametrize("search", WRONG)
def test_what_is_wrong_is_said_at_its_line(search: str, read: Reader):
    with pytest.raises(UserError) as error:
        read(search)
    assert WRONG[search] in str(error.value)
    assert "x.yaml:10: trials[0].search" in str(error.value)


def test_what_is_best_is_said_by_the_task(read: Reader):
    """Of regression the mean squared error is primary, of which less is better, and of R2 more."""
    own = {"dataset": "tests.task_data:vectors", "more": "task: regression"}
    chosen = {
        by: read(f"{{space: {LR}, budget: 4x{by}}}", **own).searches[0]
        for by in ("", ", by: validation_mae", ", by: validation_r2", ", by: validation_loss")
    }
    names = [(search.by, search.sign) for search in chosen.values()]
    assert names == [("validation_mse", -1), ("validation_mae", -1), ("validation_r2", 1), ("validation_loss", -1)]
    assert decode_search(json.loads(json.dumps(encode(chosen[""])))) == chosen[""]
    assert read(f"{{space: {LR}, budget: 4x}}").searches[0].by == "validation_accuracy"
    with pytest.raises(UserError, match="has no accuracy: validation_mse, validation_mae, validation_r2, validation_l"):
        read(f"{{space: {LR}, budget: 4x, by: validation_accuracy}}", **own)
    with pytest.raises(UserError, match="halving compares candidates on their way, of which validation_mse and"):
        read(f"{{space: {LR}, budget: 16x, by: validation_r2, algorithm: halving}}", **own)


def test_methods_of_one_block_are_tuned_at_equal_cost_unless_it_says_otherwise(read: Reader):
    grids = "{gmp: {pruning_interval: [1, 2]}, rigl: {train.lr: [0.1, 0.2, 0.3]}}"
    with pytest.raises(UserError, match="tuning at unequal cost: epochs of each search are gmp 40, rigl 60"):
        read(f"{{space: {grids}, budget: 16x, algorithm: grid}}", method="[gmp, rigl]")
    budgets = "{gmp: 2x, rigl: 3x}"
    assert read(f"{{space: {grids}, budget: {budgets}, algorithm: grid}}", method="[gmp, rigl]").searches


def test_a_setting_is_either_given_or_searched_for(read: Reader):
    with pytest.raises(UserError, match=r"train\.lr is searched for and given as well"):
        read(f"{{space: {LR}, budget: 16x}}", more="train: {lr: 0.1}")


FROM_INIT = "init: {path: net.pt}\n    train_from_init: {epochs: 20}"


def test_what_starts_from_trained_weights_is_searched_by_the_settings_of_that_training(read: Reader):
    own = "{train_from_init.lr: {log: [0.01, 0.5]}}"
    (search, _) = read(f"{{space: {own}, budget: 16x}}", more=FROM_INIT).searches
    assert search.base.init is not None
    assert search.base.init.fine_tunes
    assert search.candidate((("train_from_init.lr", 0.07),), 0).train.lr == 0.07
    assert (search.first_epoch, search.length, search.trainings) == (0, 20, 16)
    assert decode_search(json.loads(json.dumps(encode(search)))) == search


def test_epochs_behind_weights_that_are_given_cost_a_search_nothing(read: Reader):
    """The file says that they took 20 epochs; a candidate's own are those of its retraining, which alone has rungs."""
    retraining = "train: {lr: 0.1, schedule: linear}\n    init: {path: net.pt}\n    retrain_epochs: 10"
    halving = "{space: {retrain_schedule: [FT, LRW, SLR, CLR, LLR, ALLR]}, budget: 4x, algorithm: halving}"
    (search, _) = read(halving, method="imp", more=retraining).searches
    assert (search.first_epoch, search.length, search.epochs) == (20, 10, 40)
    assert rungs_of(search) == (21, 23, 30)
    assert planned(search) == (6, 6 * 1 + 2 * 2 + 1 * 7), "all six, the best two to epoch 3, and one to the end"


@pytest.mark.parametrize(
    ("name", "method", "more", "message"),
    [
        ("train.lr", "gmp", FROM_INIT, "how the weights of init were trained, which is over: write train_from_init.lr"),
        ("train.lr", "imp", "init: {path: net.pt}\n    retrain_epochs: 5", "which is over: leave it out"),
        ("train_from_init.lr", "gmp", "", "there is no init, so that nothing starts from it: write train.lr"),
        (
            "train_from_init.lr",
            "imp",
            "init: {path: net.pt}\n    retrain_epochs: 5\n    retrain_schedule: linear\n    retrain_lr: 0.1",
            "imp prunes the network as it is",
        ),
    ],
)
def test_settings_of_a_training_that_a_trial_does_not_have(
    name: str, method: str, more: str, message: str, read: Reader
):
    with pytest.raises(UserError, match=message):
        read(f"{{space: {{{name}: {{log: [0.01, 0.5]}}}}, budget: 16x}}", method=method, more=more)
