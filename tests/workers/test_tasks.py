"""Tasks: metrics by hand, sums that add up over batches and replicas, and stages that resume to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from prunesweep.workers import data, models, tasks
from prunesweep.workers.decoding import decode_trial
from prunesweep.workers.encoding import encode
from prunesweep.workers.errors import UserError
from prunesweep.workers.fingerprints import fingerprinted
from prunesweep.workers.methods.imp import IMP
from prunesweep.workers.replicas import ALONE
from prunesweep.workers.run import StageFailed
from prunesweep.workers.scoring import Score, Tally
from prunesweep.workers.spec import Choice, TrainSpec, TrialSpec
from prunesweep.workers.store import Store
from prunesweep.workers.tasks.base import Metric, Task
from prunesweep.workers.tasks.classification import Classification
from prunesweep.workers.tasks.regression import Regression
from prunesweep.workers.training import Network
from tests import cases, contract

TRAIN = TrainSpec(epochs=3, batch_size=32, lr=0.05)
SMALL = models.choose("cifar_resnet", {"depth": 8, "width": 4})
TRIALS = {
    "classification": (cases.TINY, SMALL),
    "segmentation": (data.choose("tests.task_data:masks", {}), models.choose("tests.task_data:pixelwise", {})),
    "language_modelling": (
        data.choose("text", {"path": __file__, "context": 16}),
        models.choose("transformer", {"width": 16, "depth": 1, "heads": 2}),
    ),
    "regression": (data.choose("tests.task_data:vectors", {}), SMALL),
}
"""Of every task in the registry a dataset and a network that are quick to train."""


def trial(task: str, train: TrainSpec = TRAIN) -> TrialSpec:
    dataset, model = TRIALS[task]
    method = IMP(retrain_epochs=2).choice("imp")
    asked = TrialSpec(dataset, model, method, 0, 0.5, train, task=tasks.choose(task, {}))
    return fingerprinted([asked], "", {})[0]


def scored(task: Task, *batches: tuple[Tensor, Tensor]) -> Score:
    tally = Tally(ALONE)
    for outputs, targets in batches:
        tally.add(task.reduced(outputs, targets, "sum"), task.sums(outputs, targets), len(targets))
    return tally.score(task)


def logits(probabilities: list[list[float]]) -> Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log()


def test_every_task_has_a_contract_trial():
    assert TRIALS.keys() == tasks.TASKS.keys()


@pytest.mark.parametrize("task", TRIALS)
def test_resumed_equals_unbroken(task: str, tmp_path: Path):
    stage = IMP(retrain_epochs=2).stage(trial(task))
    unbroken, resumed = Store(tmp_path / "unbroken"), Store(tmp_path / "resumed")
    contract.run(stage, unbroken)
    contract.resumed_after(1, stage, resumed)
    assert contract.numbers(stage, unbroken) == contract.numbers(stage, resumed)
    metrics = contract.numbers(stage, unbroken)["metrics"]
    primary = tasks.metrics_of(stage.root.task)[0].name
    assert metrics[f"test_{primary}"] is not None
    assert {f"{split}_{m.name}" for split in ("test", "validation") for m in tasks.metrics_of(stage.root.task)} <= {
        *metrics
    }


def test_classification_by_hand():
    """Six images of three classes, of which the third is in no target; their confidences are 0.6, 0.7 and 0.9."""
    outputs = logits(
        [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.3, 0.6, 0.1], [0.05, 0.9, 0.05], [0.1, 0.7, 0.2], [0.7, 0.2, 0.1]]
    )
    targets = torch.tensor([0, 0, 0, 1, 1, 1])
    score = scored(Classification(), (outputs[:2], targets[:2]), (outputs[2:], targets[2:]))
    assert score.metrics["accuracy"] == 4 / 6
    assert score.metrics["accuracy_top5"] is None
    assert score.metrics["worst_class_accuracy"] == 2 / 3
    assert score.metrics["macro_accuracy"] == pytest.approx(2 / 3)
    # 0.6 in (8/15, 9/15]: 2 of 3 right; 0.7 in (10/15, 11/15]: 1 of 2; 0.9 in (13/15, 14/15]: 1 of 1
    error = (abs(2 - 3 * 0.6) + abs(1 - 2 * 0.7) + abs(1 - 0.9)) / 6
    assert score.metrics["calibration_error"] == pytest.approx(error, abs=1e-12)
    assert [(c.number, c.images, c.value) for c in score.classes] == [(0, 3, 2 / 3), (1, 3, 2 / 3), (2, 0, None)]


def test_regression_by_hand():
    outputs = torch.tensor([[1.0, 5.0], [2.0, 5.0], [4.0, 7.0]])
    targets = torch.tensor([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]])
    score = scored(Regression(), (outputs[:1], targets[:1]), (outputs[1:], targets[1:]))
    assert score.loss == pytest.approx((0 + 0.5 + 2.5) / 3)
    assert score.metrics == {
        "mse": pytest.approx(6 / 6),
        "mae": pytest.approx(4 / 6),
        "r2": pytest.approx(1 - 2 / 8),  # the second number does not vary
    }
    constant = scored(Regression(), (outputs, torch.ones(3, 2)))
    assert constant.metrics["r2"] is None


@pytest.mark.parametrize("name", TRIALS)
def test_batches_add_up_to_the_whole_and_may_be_empty(name: str):
    """As portions of a batch that replicas share are."""
    task, dataset = tasks.create(tasks.choose(name, {})), data.load(TRIALS[name][0], "")
    images, targets = next(iter(dataset.evaluation_batches("train", batch_size=24)))
    model = models.build(TRIALS[name][1], dataset.shape, dataset.classes).eval()
    outputs = Network(model, TRAIN, torch.device("cpu"), task=task)(images).detach()
    whole = scored(task, (outputs, targets))
    parts = scored(task, *((outputs[a:b], targets[a:b]) for a, b in ((0, 7), (7, 7), (7, 24))))
    assert parts.metrics == pytest.approx(dict(whole.metrics))
    assert parts.loss == pytest.approx(whole.loss)
    mean = task.reduced(outputs, targets, "mean")
    assert torch.allclose(task.reduced(outputs, targets, "sum") / 24, mean)


def test_a_task_is_in_the_key_and_classification_is_in_none():
    usual = replace(trial("classification"), dataset=cases.TINY, model=cases.RESNET)
    assert "task" not in encode(usual)
    other = replace(usual, task=tasks.choose("regression", {}))
    assert other.key != usual.key
    assert decode_trial(encode(other)) == other
    assert IMP(retrain_epochs=2).stage(other).root.task == other.task


class NoMetrics(Task):
    """Nothing to compare by."""


class NotAMetric(Task):
    """A metric by its name only."""

    metrics = ("iou",)  # type: ignore[assignment]


class Upwards(Task):
    """A direction that is none."""

    metrics = (Metric("iou", "intersection over union", "up"),)


class NoSums(Task):
    """Metrics of nothing."""

    metrics = (Metric("iou", "intersection over union", "higher"),)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs


class OneLoss(Regression):
    """One loss for a whole batch."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean()


class Growing(Regression):
    """A sum that is as long as the batch."""

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"errors": (outputs - targets).abs().sum(1)}


class Forgetful(Regression):
    """A metric that is never measured."""

    metrics = (*Regression.metrics, Metric("worst", "largest error", "lower"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("regresion", "unknown task"),
        ("tests.workers.test_tasks:NoMetrics", "has no metrics: give `metrics = "),
        ("tests.workers.test_tasks:NotAMetric", "'iou' is no metric: write Metric"),
        ("tests.workers.test_tasks:Upwards", 'of its metric iou "up" is better: say higher or lower'),
        ("tests.workers.test_tasks:NoSums", "has no method `sums`"),
        ("tests.workers.test_tasks:trial", "is no task: a class derived from prunesweep.Task is wanted"),
    ],
)
def test_what_is_no_task_is_said(name: str, message: str):
    with pytest.raises(UserError, match=message):
        tasks.choose(name, {})


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("OneLoss", r"`losses` gives \[\] for 32 images: it should give one loss for each"),
        ("Growing", r"its sum errors has shape \[32\]"),
        ("Forgetful", "`measured` gives no worst, which is one of its metrics"),
    ],
)
def test_a_task_that_cannot_be_added_up_is_refused_before_it_trains(task: str, message: str, tmp_path: Path):
    own = replace(trial("regression"), task=tasks.choose(f"tests.workers.test_tasks:{task}", {}))
    with pytest.raises(StageFailed, match=message):
        contract.run(IMP(retrain_epochs=2).stage(own).root, Store(tmp_path))


def test_a_dataset_of_other_targets_is_refused_with_the_task_that_fits(tmp_path: Path):
    wrong = replace(trial("classification"), dataset=TRIALS["regression"][0])
    with pytest.raises(StageFailed, match=r"needs classes as targets, .* has vectors: say task: regression"):
        contract.run(IMP(retrain_epochs=2).stage(wrong).root, Store(tmp_path))


def test_outputs_of_another_shape_are_refused(tmp_path: Path):
    wrong = replace(trial("regression"), model=Choice.of("tests.workers.test_tasks:three_numbers"))
    with pytest.raises(StageFailed, match=r"gives outputs \[32, 3\] for targets \[32, 2\]"):
        contract.run(IMP(retrain_epochs=2).stage(wrong).root, Store(tmp_path))


def three_numbers(shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
