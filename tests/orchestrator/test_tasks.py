"""Sweeps of other tasks than classification: tables, plots and reports follow the primary metric and its direction."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunesweep import compare, load_classes, load_curves, select_best
from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.records import remember
from prunesweep.orchestrator.results.parquet import load_results
from prunesweep.orchestrator.run.collect import Collector
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.orchestrator.tables.grid import laid_out
from prunesweep.orchestrator.tables.means import best_table, means_table
from prunesweep.orchestrator.tables.rendering import render
from prunesweep.orchestrator.versions import versioned
from prunesweep.workers.errors import UserError
from prunesweep.workers.host import Where
from prunesweep.workers.lineage import work
from prunesweep.workers.run import run_stage
from prunesweep.workers.store import Store
from tests.workers.test_segmentation import masks_of

HALVES = """\
dataset: "tests.task_data:vectors"
model: {name: cifar_resnet, depth: 8, width: 4}
task: regression
seeds: 2
train: {epochs: 2, batch_size: 32, lr: [0.05, 1.0e-6]}
trials:
  - {method: imp, sparsity: 0.5, retrain_epochs: 1}
  - {method: gmp, sparsity: 0.5, pruning_interval: 1}
"""

LRASPP = """\
dataset: {name: mask_folder, path: leaves, classes: 3, size: 64}
model: lraspp_mobilenet_v3_large
task: segmentation
train: {epochs: 1, batch_size: 4, lr: 0.01}
trials: [{method: imp, sparsity: 0.8, retrain_epochs: 1}]
"""

EXAMPLES = Path(__file__).parents[2] / "docs/examples"


def trained(text: str, folder: Path) -> Path:
    """As `prunesweep run --data-dir` leaves it behind: the folder of the tables."""
    file, store = folder / "asked.yaml", Store(folder / "store")
    file.write_text(text)
    plan = make_plan(versioned(read_sweep(file), store, str(folder)), store)
    remember(plan.sweep, store)
    for last in plan.last.values():
        for stage in work(plan.stages[last]):
            list(run_stage(stage, store, Where(str(folder))))
    plan = plan.refreshed(store)
    Collector(plan, store).write()
    return folder / "store" / plan.sweep.name


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(HALVES, tmp_path_factory.mktemp("halves"))


def test_the_columns_are_the_tasks(halves: Path):
    frame = load_results(halves)
    assert {"test_mse", "validation_mae", "test_r2", "train_mse", "dense_test_mse", "pruned_test_mse"} <= {*frame}
    assert not [name for name in frame if "accuracy" in name]
    assert set(zip(frame.task, frame.primary_metric, strict=True)) == {("regression", "mse")}
    assert [name for name in load_curves(halves) if "mse" in name] == ["train_mse", "validation_mse"]
    assert load_classes(halves).empty


def test_lower_is_better(halves: Path):
    """The learning rate of 1e-6 learns nothing, and so has the larger error."""
    frame = load_results(halves)
    means = frame.groupby("lr").test_mse.mean()
    assert means[0.05] < means[1e-6]
    assert set(select_best(frame).lr) == {0.05}
    best = best_table(frame)
    assert (best.metric, best.best_by) == ("test_mse", "validation_mse")
    cells = means_table(frame).cells.values()
    assert {cell.settings["lr"] for cell in cells if cell.best} <= {0.05}
    assert (compare(frame, at=["target_sparsity"]).difference >= 0).all(), "the reference has the least error"
    printed = render(laid_out(best), "markdown")
    assert "test mse" in printed
    assert "accuracy" not in printed


def test_a_prune_makes_the_error_larger(halves: Path):
    frame = load_results(halves).query("method == 'imp' and lr == 0.05")
    rise = (frame.pruned_test_mse - frame.dense_test_mse) / frame.dense_test_mse
    assert frame.pruning_instability.tolist() == pytest.approx(rise.tolist())


def test_the_documented_network_and_loss_of_ones_own(tmp_path: Path):
    """A segmentation network and its loss to a table of three methods at three sparsities, in under twenty lines."""
    text = (EXAMPLES / "leaves.yaml").read_text()
    assert len(text.splitlines()) < 20
    masks_of(tmp_path / "leaves", count=24)
    folder = trained(text, tmp_path)
    table = best_table(load_results(folder))
    assert (table.metric, len(table.rows), len(table.columns)) == ("test_mean_iou", 3, 3)
    assert all(0.2 < cell.mean <= 1 for cell in table.cells.values())
    assert "test mean iou" in render(laid_out(table), "markdown")


@pytest.mark.slow
def test_torchvisions_network_is_measured_and_pruned(tmp_path: Path):
    masks_of(tmp_path / "leaves", size=(64, 64))
    folder = trained(LRASPP, tmp_path)
    frame = load_results(folder)
    assert frame.reached_sparsity.tolist() == pytest.approx([0.8], abs=1e-6)
    assert frame.theoretical_speedup[0] > 1
    classes = load_classes(folder)
    assert classes["metric"].tolist() == ["iou"] * 3
    assert classes["count"].sum() == 12 * 64 * 64
    assert classes["value"].mean() == pytest.approx(frame.test_mean_iou[0])


def test_choosing_by_what_is_not_there_names_what_is(halves: Path):
    with pytest.raises(UserError, match="validation_accuracy"):
        select_best(load_results(halves), "validation_accuracy")


MISTAKES = [
    ("task: regresion", 'task: unknown task "regresion": .* did you mean "regression"'),
    ("task: [regression, classification]", "a sweep compares its trials by one metric: .*mse.*accuracy"),
    ("task: {name: regression, ignore: 1}", "task regression has no options"),
    ("task: regression\ntrain: {label_smoothing: 0.1}", "0.1 would do nothing: task regression has no classes"),
    ("task: regression\ntrain: {loss: binary_cross_entropy}", "task regression has a loss of its own; leave it out"),
    ("task: regression\ntrain: {mixup: 0.2}", "changes images but not the targets of task regression"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_mistakes_in_a_sweep_file(line: str, message: str, tmp_path: Path):
    file = tmp_path / "x.yaml"
    file.write_text(
        f"dataset: tests.task_data:vectors\nmodel: resnet8\n{line}\ntrials: [{{method: gmp, sparsity: 0.5}}]\n"
    )
    with pytest.raises(UserError, match=message):
        read_sweep(file)


def test_a_method_that_ranks_by_cross_entropy_takes_classification_alone(tmp_path: Path):
    file = tmp_path / "x.yaml"
    file.write_text("dataset: digits\nmodel: resnet8\ntask: regression\ntrials: [{method: snip, sparsity: 0.5}]\n")
    with pytest.raises(UserError, match="snip ranks weights by the cross-entropy of images of each class"):
        read_sweep(file)
