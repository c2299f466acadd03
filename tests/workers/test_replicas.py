"""Several processes that train one network: the numbers of one process, up to the order of sums."""

from __future__ import annotations

import gc
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from prunesweep.workers import data, models
from prunesweep.workers.data.base import Dataset
from prunesweep.workers.data.folder import image_folder
from prunesweep.workers.data.portions import Portion
from prunesweep.workers.data.synthetic import synthetic
from prunesweep.workers.encoding import encode
from prunesweep.workers.execution import Execution
from prunesweep.workers.fingerprints import fingerprinted
from prunesweep.workers.host import Where
from prunesweep.workers.methods.imp import IMP
from prunesweep.workers.replicas import ALONE, Replicas
from prunesweep.workers.run import run_stage
from prunesweep.workers.spec import Stage, path
from prunesweep.workers.store import CURVE, Store
from tests import team
from tests.cases import SETTINGS, TRAIN, last_stage, trial
from tests.contract import network, numbers
from tests.workers import test_tasks as of_tasks
from tests.workers.pictures import write_flowers

Batch = tuple[Tensor, Tensor]

SLOW = pytest.mark.slow

EXACT = replace(TRAIN, epochs=4, precision="float64")


def metrics(stage: Stage, store: Store) -> dict[str, float]:
    result = store.result(stage.key)
    assert result is not None
    return result["metrics"]


def curve(stage: Stage, store: Store) -> list[dict[str, float]]:
    return pq.read_table(io.BytesIO(store.read_published(stage.key, CURVE))).to_pylist()


def assert_alike(stage: Stage, one: Store, other: Store, tolerance: float = 1e-9) -> None:
    """Network, metrics and curve, of the stage and those before it."""
    for each in path(stage):
        ours, theirs = network(each, one), network(each, other)
        assert ours.keys() == theirs.keys()
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], rtol=tolerance, atol=tolerance, msg=name)
        rows = [metrics(each, one), *curve(each, one)], [metrics(each, other), *curve(each, other)]
        for row, expected in zip(*rows, strict=True):
            assert row == {n: v if v is None else pytest.approx(v, rel=tolerance) for n, v in expected.items()}


STAGES = {name: last_stage(trial(name, train=EXACT)) for name in SETTINGS}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Store]:
    """Every method, by one process and by two."""
    folder = tmp_path_factory.mktemp("replicas")
    team.run(ALONE, list(STAGES.values()), folder / "1")
    team.together(2, team.run, list(STAGES.values()), folder / "2")
    return {count: Store(folder / str(count)) for count in (1, 2)}


@pytest.mark.parametrize("method", SETTINGS)
def test_two_replicas_give_the_numbers_of_one(method: str, stores: dict[int, Store]) -> None:
    assert_alike(STAGES[method], stores[2], stores[1])


def by_one_and(count: int, stage: Stage, folder: Path, **where: object) -> tuple[Store, Store]:
    """The stage, computed by so many replicas and by one."""
    team.together(count, partial(team.run, **where), [stage], folder / "many")
    team.run(ALONE, [stage], folder / "one", **where)
    return Store(folder / "many"), Store(folder / "one")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"retrain_epochs": 2, "criterion": "fisher"}, {"rewind_epoch": 2, "retrain_schedule": "LRW"}]
)
def test_scores_of_trained_weights_and_tickets(settings: dict[str, Any], tmp_path: Path) -> None:
    method = IMP(**settings)
    stage = method.stage(replace(trial("imp", train=EXACT), method=method.choice("imp")))
    assert_alike(stage, *by_one_and(2, stage, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segmentation", "language_modelling", "regression"])
def test_tasks(task: str, tmp_path: Path) -> None:
    """Sums of what is measured, over images that are divided."""
    stage = last_stage(of_tasks.trial(task, replace(of_tasks.TRAIN, precision="float64")))
    assert_alike(stage, *by_one_and(2, stage, tmp_path))


@pytest.mark.parametrize("batch_size", [pytest.param(32, marks=SLOW), 89])
def test_three_replicas_of_batches_that_do_not_divide(batch_size: int, tmp_path: Path) -> None:
    """180 images: the last batches have 20, and 2, of which one replica has none."""
    clipped = replace(EXACT, batch_size=batch_size, clip_norm=0.5, label_smoothing=0.1)
    stage = last_stage(trial("gmp", train=clipped))
    assert_alike(stage, *by_one_and(3, stage, tmp_path))


@pytest.mark.parametrize(("precision", "tolerance"), [pytest.param("float32", 0.02, marks=SLOW), ("bfloat16", 0.2)])
def test_in_single_precision_sums_in_another_order_are_all_that_differs(
    precision: str, tolerance: float, tmp_path: Path
) -> None:
    stage = last_stage(trial("dense", train=replace(TRAIN, epochs=2, precision=precision)))
    many, one = by_one_and(2, stage, tmp_path)
    assert metrics(stage, many)["train_loss"] == pytest.approx(metrics(stage, one)["train_loss"], rel=tolerance)


@SLOW
def test_adamw_with_an_average_of_the_weights(tmp_path: Path) -> None:
    averaged = replace(EXACT, lr=2e-3, optimizer="adamw", momentum=None, nesterov=None, weight_decay=0.05, ema=0.9)
    stage = last_stage(trial("gmp", train=averaged))
    assert_alike(stage, *by_one_and(2, stage, tmp_path))


def test_every_kind_of_batch_norm_and_parameters_without_gradients(tmp_path: Path) -> None:
    asked = replace(trial("cs", train=EXACT), model=models.choose("tests.team:odd", {}))
    stage = last_stage(fingerprinted([asked], "data", {})[0])
    assert_alike(stage, *by_one_and(2, stage, tmp_path))


@pytest.mark.slow
def test_a_compiled_network(tmp_path: Path) -> None:
    stage = last_stage(trial("gmp", train=replace(EXACT, compile=True)))
    assert_alike(stage, *by_one_and(2, stage, tmp_path))


def test_a_network_that_cannot_train_is_refused_by_all_replicas_with_a_sentence(tmp_path: Path) -> None:
    few = replace(trial("dense", train=EXACT), model=models.choose("tests.team:too_few_outputs", {}))
    stage = last_stage(fingerprinted([few], "data", {})[0])
    with team.Team(2, team.run, [stage], tmp_path) as members:
        assert None not in members.ended()
    (failure,) = Store(tmp_path).attempts(stage.key)
    assert "gives 3 logits for 4 classes" in failure.message


# --- data


def test_image_files_are_decoded_by_the_replica_that_needs_them(tmp_path: Path) -> None:
    """In batches of 8, of which the last one is smaller; each replica's portions, put together, are the batches."""
    whole = image_folder(str(write_flowers(tmp_path / "flowers", 17)), size=32)
    parts = [whole.portioned(Portion(index, 3)) for index in range(3)]
    for split, options in {"train": {"seed": 1, "epoch": 2, "augment": True}, "test": {}}.items():

        def batches(dataset: Dataset, split: str = split, options: dict[str, int] = options) -> list[Batch]:
            made = dataset.train_batches if split == "train" else partial(dataset.evaluation_batches, split)
            return list(made(batch_size=8, **options))

        portions = zip(*(batches(part) for part in parts), strict=True)
        for expected, found in zip(batches(whole), portions, strict=True):
            for one, several in zip(expected, zip(*found, strict=True), strict=True):
                assert torch.equal(one, torch.cat(several))


@pytest.mark.parametrize("kind", ["memory", "other"])
@pytest.mark.parametrize(("batch_size", "count"), [(7, 2), (32, 3), (4, 5), (100, 4)])
def test_portions_of_batches_are_the_batches(kind: str, batch_size: int, count: int) -> None:
    """Augmented and rotated, of a dataset that makes its portions and of one that does not know of any."""
    whole = replace(synthetic("", shape=(3, 8, 8), images=50, test_images=13), rotation=15.0)
    portions = [Portion(index, count) for index in range(count)]
    parts = [whole.portioned(each) if kind == "memory" else Dataset.portioned(whole, each) for each in portions]
    options = {"seed": 0, "epoch": 3, "batch_size": batch_size, "augment": True}
    together = zip(*(part.train_batches(**options) for part in parts), strict=True)
    for (images, targets), found in zip(whole.train_batches(**options), together, strict=True):
        assert torch.equal(images, torch.cat([part for part, _ in found]))
        assert torch.equal(targets, torch.cat([part for _, part in found]))
        lengths = [len(part) for _, part in found]
        assert lengths == sorted(lengths, reverse=True)
        assert lengths[0] - lengths[-1] <= 1
    tests = [torch.cat([images for images, _ in part.evaluation_batches("test", batch_size=4)]) for part in parts]
    assert sum(map(len, tests)) == 13


def test_a_trial_on_image_files(tmp_path: Path) -> None:
    flowers = write_flowers(tmp_path / "flowers", 17)
    pictures = data.choose("image_folder", {"path": str(flowers), "size": 32})
    asked = replace(trial("dense", train=replace(EXACT, epochs=2, batch_size=8)), dataset=pictures)
    stage = last_stage(fingerprinted([asked], "data", {})[0])
    assert_alike(stage, *by_one_and(2, stage, tmp_path / "stores"))


# --- resumed


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_continued_by_as_many_it_is_the_same_bit_for_bit(count: int, tmp_path: Path) -> None:
    """Three sum in another order, were the buckets of gradients other ones after a stage was resumed."""
    stage = last_stage(trial("dpf"))
    team.together(count, team.run, [stage], tmp_path / "unbroken")
    team.together(count, team.run_until, stage, tmp_path / "broken", 2)
    assert Store(tmp_path / "broken").checkpointed_epochs(stage.key) == 2
    team.together(count, team.run, [stage], tmp_path / "broken")
    assert numbers(stage, Store(tmp_path / "broken")) == numbers(stage, Store(tmp_path / "unbroken"))


@pytest.mark.parametrize(("before", "after"), [pytest.param(1, 2, marks=SLOW), (2, 1), pytest.param(2, 3, marks=SLOW)])
def test_continued_by_another_number(before: int, after: int, tmp_path: Path) -> None:
    stage = last_stage(trial("gsm", train=EXACT))
    team.together(before, team.run_until, stage, tmp_path / "broken", 2)
    team.together(after, team.run, [stage], tmp_path / "broken")
    team.run(ALONE, [stage], tmp_path / "one")
    assert_alike(stage, Store(tmp_path / "broken"), Store(tmp_path / "one"))


def test_a_damaged_checkpoint_is_damaged_for_all(tmp_path: Path) -> None:
    stage = last_stage(trial("dense"))
    team.together(2, team.run_until, stage, tmp_path / "broken", 3)
    newest = tmp_path / "broken" / "stages" / stage.key / "checkpoint.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100] + bytes(100))
    team.together(2, team.run, [stage], tmp_path / "broken")
    team.together(2, team.run, [stage], tmp_path / "whole")
    assert numbers(stage, Store(tmp_path / "broken")) == numbers(stage, Store(tmp_path / "whole"))
    assert list(newest.parent.glob("damaged-*"))


# --- failures

LONG = last_stage(trial("gmp", train=replace(TRAIN, epochs=500)))


def test_a_killed_replica_ends_the_stage_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """And the next try continues from the checkpoint."""
    store, reached = Store(tmp_path), 0
    for victim in (1, 2):
        with team.Team(3, team.run, [LONG], tmp_path) as members:
            wait_for(lambda: (store.checkpointed_epochs(LONG.key) or 0) > reached)  # noqa: B023
            reached = store.checkpointed_epochs(LONG.key)
            members.members[victim].kill()
            assert None not in members.ended(20)
        attempt = store.attempts(LONG.key)[-1]
        assert (attempt.cause, attempt.message) == (
            "killed",
            "ReplicaLost: one of 3 replicas was killed, or crashed",
        )
        assert not list(tmp_path.glob("stages/*/claim.*"))


def test_when_the_leading_replica_is_killed_the_others_end(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with team.Team(2, team.run, [LONG], tmp_path) as members:
        wait_for(lambda: store.checkpointed_epochs(LONG.key) is not None)
        members.members[0].kill()
        assert None not in members.ended(20)


def test_a_replica_that_fails_says_why(tmp_path: Path) -> None:
    """Not the connection that is closed then."""
    with team.Team(3, out_of_memory, LONG, tmp_path) as members:
        assert None not in members.ended(30)
    attempt = Store(tmp_path).attempts(LONG.key)[-1]
    assert (attempt.cause, attempt.message) == ("out of host memory", "MemoryError: no room on the second replica")
    assert "in out_of_memory" not in attempt.traceback
    assert "MemoryError" in attempt.traceback


def out_of_memory(replicas: Replicas, stage: Stage, folder: Path) -> None:
    """In the middle of the second epoch of the second replica."""
    if replicas.rank == 1:

        def fail(module: nn.Module, _: object) -> None:
            if type(module) is nn.Linear and next(steps) == 8:
                raise MemoryError("no room on the second replica")

        steps = count()
        nn.modules.module.register_module_forward_pre_hook(fail)
    team.run(replicas, [stage], folder)


def test_replicas_that_differ_are_noticed(tmp_path: Path) -> None:
    with team.Team(2, astray, LONG, tmp_path) as members:
        assert None not in members.ended(30)
    attempt = Store(tmp_path).attempts(LONG.key)[-1]
    assert attempt.message == "RuntimeError: the networks of 1 of 2 replicas differ from the first one's"


def astray(replicas: Replicas, stage: Stage, folder: Path) -> None:
    """One bit of one weight."""
    steps = run_stage(stage, Store(folder), Where(), replicas)
    next(steps)
    if replicas.rank == 1:
        execution = next(each for each in gc.get_objects() if isinstance(each, Execution))
        weight = next(execution.model.parameters()).data.view(-1)
        weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))
    list(steps)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


# --- torchrun


TORCHRUN = [
    *(
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "prunesweep.workers.run",
    ),
]


@pytest.mark.slow
def test_torchrun(tmp_path: Path) -> None:
    stage = last_stage(trial("imp", train=EXACT))
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(encode(stage)))
    command = [*TORCHRUN, str(spec), "--store", str(tmp_path / "many")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(stage.key) == 1
    assert json.loads(done.stdout[done.stdout.index("{") :])["reached_sparsity"] == pytest.approx(0.75, abs=1e-3)
    team.run(ALONE, [stage], tmp_path / "one")
    assert_alike(stage, Store(tmp_path / "many"), Store(tmp_path / "one"))
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert len(Store(tmp_path / "many").attempts(stage.key)) == 1


@pytest.mark.slow
def test_under_torchrun_a_replica_that_fails_says_why(tmp_path: Path) -> None:
    """Before torchrun ends the others."""
    stage = last_stage(replace(trial("dense"), model=models.choose("tests.team:wrong", {})))
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(encode(stage)))
    command = [*TORCHRUN, str(spec), "--store", str(tmp_path), "--allow", "tests.team"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    attempt = Store(tmp_path).attempts(stage.key)[-1]
    assert attempt.cause == "bad request"
    assert attempt.message.endswith("this one does not fit")
    assert done.stderr.count("this one does not fit") == 2
