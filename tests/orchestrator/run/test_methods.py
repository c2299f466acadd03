"""Every method from a sweep file to its row, one of one's own included."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest

from prunesweep import load_results
from prunesweep.orchestrator.figures.comparisons import Frames
from prunesweep.orchestrator.figures.kinds import make_chart
from prunesweep.orchestrator.results.query import Query
from prunesweep.workers.methods import METHODS, method_class
from tests.cases import SETTINGS, TAYLOR
from tests.orchestrator.conftest import Cli, descendants
from tests.same_tables import assert_same, compare

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
LEARNED = ["str", "dst", "cs"]
ASKED = [name for name in SETTINGS if name == TAYLOR or method_class(name).takes_sparsity]


def all_methods(folder: Path) -> tuple[Cli, str]:
    """A folder that has a method of one's own, and a sweep over all methods in it."""
    cli = Cli(folder)
    shutil.copy(EXAMPLES / "taylor.py", cli.folder)
    blocks = [
        {"method": name, **({"sparsity": [0.3, 0.9]} if name in ASKED else {}), **settings}
        for name, settings in SETTINGS.items()
    ]
    sweep = {
        "name": "all",
        "dataset": "digits",
        "model": "lenet300",
        "train": {"epochs": 4, "lr": 0.05, "schedule": "cosine"},
    }
    return cli, cli.write(json.dumps({**sweep, "trials": blocks}))


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """A finished sweep over all methods."""
    cli, sweep = all_methods(tmp_path_factory.mktemp("methods"))
    cli.run_here(sweep)
    return cli


@pytest.fixture(scope="module")
def frame(cli: Cli) -> pd.DataFrame:
    return load_results(cli.folder / "results" / "all")


def test_every_method_has_its_rows(frame: pd.DataFrame):
    assert set(frame.method) == {*SETTINGS}
    sparse = frame[frame.method.isin(ASKED)]
    assert (sparse.groupby("method").target_sparsity.apply(list).map(tuple) == (0.3, 0.9)).all()
    narrower = sparse[sparse.method == "small_dense"]  # its channels are whole
    assert (narrower.reached_sparsity - narrower.target_sparsity).abs().max() < 5e-3
    sparse = sparse.drop(narrower.index)
    assert (sparse.reached_sparsity > sparse.target_sparsity - 1e-4).all()
    exact = sparse[~sparse.method.isin([*LEARNED, "set"])]  # what has grown behind a black pixel stays zero
    assert (exact.reached_sparsity - exact.target_sparsity).abs().max() < 1e-4
    assert frame[frame.method == "sr_ste"].reached_sparsity.tolist() == [0.5]


def test_hyperparameters_are_columns_and_null_where_a_method_has_none(frame: pd.DataFrame):
    rows = frame.set_index("method")
    assert (rows.loc["str", "s_initial"] == -3.0).all()
    assert (rows.loc["gsm", "momentum"] == 0.95).all()
    assert (rows.loc["dpf", "momentum"] == 0.9).all()
    assert (rows.loc["dpf", "mask_interval"] == 4).all()
    assert (rows.loc[TAYLOR, "when"] == 0.5).all()
    assert set(rows.loc["bimp", "schedule"]) == {"linear"}, "what it trained on, whatever train.schedule says"
    assert rows.loc["dnw", ["s_initial", "mask_interval", "when"]].isna().all().all()


@pytest.mark.slow
def test_killed_twice_and_resumed_all_methods_have_the_same_numbers(cli: Cli, tmp_path: Path):
    """A worker is killed in its stage, later the driver with all that runs; nothing is lost, doubled or different."""
    assert {*METHODS} <= {*SETTINGS}
    killed, sweep = all_methods(tmp_path)
    process = killed.start("run", sweep)
    killed.wait_for(lambda: begun(killed) > killed.results() >= 6, process)
    os.kill(descendants(process.pid, "ray::Resource")[0], signal.SIGKILL)
    killed.wait_for(lambda: begun(killed) > killed.results() >= cli.results() // 2, process)
    process.kill()
    process.communicate()
    assert killed.results() < cli.results()
    killed("resume", "all")
    assert (load_results(killed.folder / "results" / "all").attempts > 1).any()
    folders = [each.folder / "results" / "all" for each in (cli, killed)]
    assert_same(*folders)
    assert all(rows.equal for rows in compare(*folders).values())


def begun(cli: Cli) -> int:
    return len(list((cli.folder / "results/stages").glob("*/spec.json")))


def test_every_method_is_drawn_at_the_cost_of_its_training(cli: Cli, frame: pd.DataFrame):
    """`sr_ste`, which has no target sparsity, as well; dense training, which costs 1x, is a line across the panel."""
    assert "wrote cost.svg" in cli("plot", "all", "--kind", "training", "--output", "cost.svg")
    frames = Frames(frame, pd.DataFrame, pd.DataFrame)
    (panel,) = make_chart("training", frames, Query()).panels
    assert panel.x.label == "training FLOPs, of dense training"
    drawn = {series.name.partition(",")[0]: series.x for series in panel.series if series.kind == "points"}
    off = (frame.method == "str") & (frame.target_sparsity == 0.3)
    costs = frame[~off & (frame.method != "dense")].groupby("method").train_flops_ratio.apply(list)
    assert drawn.keys() == {*METHODS, TAYLOR} - {"dense"}
    assert {name: sorted(x) for name, x in drawn.items()} == {name: sorted(x) for name, x in costs.items()}


def test_a_narrower_network_costs_its_share_of_dense_training(frame: pd.DataFrame):
    """All multiply-adds of LeNet-300-100 are those of its weights, one each."""
    rows = frame[frame.method == "small_dense"]
    assert rows.train_flops_ratio.tolist() == pytest.approx((1 - rows.reached_sparsity).tolist())
    assert (rows.model == "lenet300").all()


def test_a_method_that_learns_its_sparsity_trains_once_for_all_targets(frame: pd.DataFrame):
    for name in LEARNED:
        rows = frame[frame.method == name]
        assert rows.stage_keys.map(lambda keys: keys[0]).nunique() == 1
        assert (rows.total_epochs == 4).all()
        assert (rows.retrain_epochs == 0).all()
        assert rows.phases.isna().all()
        assert rows.dense_test_accuracy.isna().all()
        assert rows.train_images_per_second.notna().all()


def test_nothing_is_left_to_train(cli: Cli):
    assert "to train  nothing" in cli("plan", "sweep.yaml")


def test_the_documented_sweep_over_ones_own_method_is_valid(tmp_path: Path):
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    assert "valid, 3 trials" in Cli(tmp_path / "examples")("validate", "taylor.yaml")
    assert len([line for line in (EXAMPLES / "taylor.py").read_text().splitlines() if line.strip()]) < 40


def test_a_hyperparameter_that_a_method_lacks_is_an_error_with_its_line(tmp_path: Path):
    cli = Cli(tmp_path)
    head = "name: x\ndataset: digits\nmodel: resnet8\ntrials:\n"
    for block, message in [
        ("method: dnw, sparsity: 0.9, penalty: 1", 'unknown key of method dnw "penalty"'),
        ("method: str, sparsity: 0.9", "s_initial: missing: initial value of t"),
        ("method: dst, sparsity: 0.9, penalty: -1", "penalty"),
        ("method: gsm, sparsity: 0.9, momentum: 1.0", "momentum"),
        ("method: gmp, sparsity: 0.9, allocation: earth", 'allocation: "earth"'),
        ("method: random, sparsity: 0.9, retrain_epochs: 1, allocation: lamp", "random pruning takes global, uniform"),
    ]:
        answer = cli.ask("validate", cli.write(f"{head}  - {{{block}}}\n"))
        assert answer.code == 2
        assert answer.err.startswith("error: sweep.yaml:5: ")
        assert message in answer.err
