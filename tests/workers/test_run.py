from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prunesweep.workers.encoding import encode
from prunesweep.workers.host import Where
from prunesweep.workers.run import StageFailed, run_stage
from prunesweep.workers.spec import label, path
from prunesweep.workers.store import State, Store
from tests import warm
from tests.cases import TRAIN, last_stage, trial


def test_a_finished_stage_is_not_run_again(store: Store):
    stage = last_stage(trial("dense"))
    assert len(list(run_stage(stage, store, Where()))) == stage.epochs
    assert list(run_stage(stage, store, Where())) == []
    assert len(store.attempts(stage.key)) == 1


def test_divergence_stops_the_stage_with_its_cause(store: Store):
    stage = last_stage(trial("dense", train=replace(TRAIN, lr=1e6)))
    with pytest.raises(StageFailed, match="lower learning rate"):
        list(run_stage(stage, store, Where()))
    attempt = store.attempts(stage.key)[-1]
    assert (attempt.cause, store.states([stage.key])[stage.key]) == ("diverged", State.FAILED)
    assert "Traceback" in attempt.traceback


def test_data_order_is_the_same_in_every_process_and_the_network_too(tmp_path):
    """Two processes, two stores, one spec: the same bits. `python -m prunesweep.workers.run` runs the parents first."""
    stage = last_stage(trial("imp"))
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(encode(stage)))
    command = [sys.executable, "-m", "prunesweep.workers.run", str(spec), "--store", str(tmp_path / "there")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    for step in path(stage):
        list(run_stage(step, here, Where()))
        assert label(step) in done.stdout
        assert here.result(step.key)["files"] == there.result(step.key)["files"]


def asked(folder: Path, *arguments: str) -> warm.Answer:
    """What `python -m prunesweep.workers.run` answers."""
    return warm.python(["-m", "prunesweep.workers.run", *arguments], folder, os.environ, 60)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"parent": 3}'])
def test_a_bad_spec_is_one_line(text: str, tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text(text)
    code, _, err = asked(tmp_path, str(spec))
    assert code == 2
    assert str(spec) in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--store", "nosuch://x"], 'cannot open "nosuch://x"'),
        (["--store", "{spec}"], "is not a folder; choose another with --store"),
        (["--device", "cuda"], "--device cuda: torch finds no GPU on this machine"),
        (["--threads", "0"], '"0" is not a whole number of 1 or more'),
    ],
)
def test_what_it_cannot_run_with_is_said_in_a_line(options: list[str], said: str, tmp_path):
    if torch.cuda.is_available() and "cuda" in options:
        pytest.skip("there is a GPU")
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(encode(last_stage(trial("gmp")))))
    code, _, err = asked(tmp_path, str(spec), *(text.format(spec=spec) for text in options))
    assert code == 2
    assert "error: " in err.splitlines()[-1]
    assert said in err
    assert "Traceback" not in err


def test_the_curve_begins_with_the_pruned_network(store: Store):
    import io

    import pyarrow.parquet as pq

    stage = last_stage(trial("random"))
    for each in path(stage):
        list(run_stage(each, store, Where()))
    rows = pq.read_table(io.BytesIO(store.read_published(stage.key, "curve.parquet"))).to_pylist()
    assert [row["epoch"] for row in rows] == [6, 7, 8]
    assert rows[0]["train_loss"] is None
    assert all(row["sparsity"] == pytest.approx(0.75, abs=1e-3) for row in rows)


def test_what_ran_before_in_the_same_process_does_not_matter(tmp_path):
    """Workers are reused: a stage must not inherit random state, thread counts or data from the one before."""
    stage = last_stage(trial("gmp"))
    fresh, used = Store(tmp_path / "fresh"), Store(tmp_path / "used")
    list(run_stage(stage, fresh, Where()))
    list(run_stage(last_stage(trial("dense", seed=5)), used, Where()))
    list(run_stage(stage, used, Where()))
    assert used.result(stage.key)["files"] == fresh.result(stage.key)["files"]
