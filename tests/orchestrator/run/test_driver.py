"""A sweep from file to table, and what happens on a real Ray when things go wrong on the way.

The tables with which those of disturbed runs are compared bit for bit come of a run without Ray and without trouble.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from prunesweep import load_results
from prunesweep.orchestrator.results.parquet import load_curves, load_layers
from prunesweep.workers.store import Store
from tests.family import heeds
from tests.orchestrator.conftest import Cli, descendants
from tests.small_disk import small_disk

VARYING = [
    *("train_images_per_second", "train_seconds", "peak_memory_bytes", "attempts", "finished_at", "commit", "sweep"),
]
"""Columns that are times or counts of attempts, or say where a row came from."""

STAGES = 14


def table(folder: Path) -> pd.DataFrame:
    return load_results(folder / "results" / "small").drop(columns=VARYING)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """A sweep of two seeds that ran without trouble."""
    cli = Cli(tmp_path_factory.mktemp("undisturbed"))
    cli.run_here(cli.sweep())
    return cli.folder


def test_every_trial_is_a_row_and_every_number_is_there(undisturbed: Path):
    frame = load_results(undisturbed / "results" / "small")
    assert len(frame) == frame.trial.nunique() == 14
    assert frame.groupby("method").size().to_dict() == {"gmp": 2, "imp": 12}
    filled = ["test_accuracy", "validation_accuracy", "train_accuracy", "reached_sparsity", "theoretical_speedup"]
    assert frame[filled].notna().all().all()
    assert (frame.reached_sparsity - frame.target_sparsity).abs().max() < 1e-4
    assert frame.target_sparsity.round(6).tolist()[:12:2] == [0.5, 0.5, 0.9, 0.9, 0.5, 0.75]
    imp = frame[frame.method == "imp"]
    assert (imp.pretrain_epochs == 6).all()
    assert imp[["dense_test_accuracy", "pruned_test_accuracy", "relative_norm_drop"]].notna().all().all()
    assert (imp.total_epochs == imp.pretrain_epochs + imp.retrain_epochs).all()
    instability = (imp.dense_test_accuracy - imp.pruned_test_accuracy) / imp.dense_test_accuracy
    one_shot = imp.phases == 1
    pd.testing.assert_series_equal(imp.pruning_instability[one_shot], instability[one_shot], check_names=False)


def test_curves_and_layers_belong_to_the_trials(undisturbed: Path):
    folder = undisturbed / "results" / "small"
    frame, curves, layers = load_results(folder), load_curves(folder), load_layers(folder)
    assert set(curves.trial) == set(layers.trial) == set(frame.trial)
    # A row per epoch, and one for the network just pruned at the start of every pruning stage.
    rows = curves.groupby("trial").size()
    expected = frame.set_index("trial").total_epochs + frame.set_index("trial").phases.fillna(0)
    assert rows.sort_index().tolist() == expected.sort_index().tolist()
    nonzero = layers.groupby("trial").nonzero.sum() / layers.groupby("trial").weights.sum()
    reached = frame.set_index("trial").reached_sparsity
    assert (1 - nonzero).sort_index().tolist() == pytest.approx(reached.sort_index().tolist())


def test_the_dense_networks_were_trained_once_a_seed(undisturbed: Path):
    stages = [json.loads(path.read_text()) for path in (undisturbed / "results/stages").glob("*/result.json")]
    assert len(stages) == STAGES
    assert sum(stage["label"].startswith("train dense") for stage in stages) == 2


def test_running_again_does_nothing_and_does_not_start_ray(undisturbed: Path):
    before = {path: path.stat().st_mtime_ns for path in (undisturbed / "results/stages").rglob("*")}
    code = "import sys; from prunesweep.orchestrator.cli.main import app; app(standalone_mode=False);"
    code += "print('ray' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "sweep.yaml"], cwd=undisturbed, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert "14 of 14 trials done" in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in (undisturbed / "results/stages").rglob("*")}


def test_one_more_seed_runs_exactly_the_new_stages(undisturbed: Path):
    cli = Cli(undisturbed)
    old = {path.name for path in (undisturbed / "results/stages").iterdir()}
    text = cli.sweep(3)
    counts = json.loads(cli("plan", text, "--json"))
    assert (counts["new"], counts["done"], counts["stages_to_run"]) == (7, 14, STAGES // 2)
    cli.run_here(text)
    new = {path.name for path in (undisturbed / "results/stages").iterdir()} - old
    assert len(new) == STAGES // 2
    assert len(load_results(undisturbed / "results/small")) == 21
    estimate = json.loads(cli("plan", cli.sweep(4), "--json"))["estimate"]
    assert 0.1 < estimate["seconds"] < 100
    cli("run", cli.sweep(2), ray=False)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [2, 9])
def test_a_killed_driver_loses_nothing(stop: int, cli: Cli, undisturbed: Path):
    process = cli.start("run", cli.sweep())
    cli.wait_for(lambda: cli.results() >= stop, process)
    process.kill()
    process.communicate()
    again = cli("run", "sweep.yaml")
    assert "14 of 14 trials done" in again
    pd.testing.assert_frame_equal(table(cli.folder), table(undisturbed), check_exact=True)


def begun(cli: Cli) -> int:
    return len(list((cli.folder / "results/stages").glob("*/spec.json")))


@pytest.mark.slow
def test_a_killed_worker_is_replaced(cli: Cli, undisturbed: Path):
    process = cli.start("run", cli.sweep())
    cli.wait_for(lambda: cli.results() >= 1 and begun(cli) > cli.results(), process)
    for victim in descendants(process.pid, "ray::Resource"):
        os.kill(victim, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    pd.testing.assert_frame_equal(table(cli.folder), table(undisturbed), check_exact=True)
    tries = [len(list(path.iterdir())) for path in (cli.folder / "results/stages").glob("*/attempts")]
    assert sorted(set(tries)) == [1, 2], "the stage that was killed, often a dense one, was begun twice"


@pytest.mark.slow
def test_two_drivers_at_once_share_the_work(cli: Cli, undisturbed: Path):
    drivers = [cli.start("run", cli.sweep()) for _ in range(2)]
    for driver in drivers:
        out, err = driver.communicate(timeout=180)
        assert driver.returncode == 0, out + err
        assert "14 of 14 trials done" in out
    pd.testing.assert_frame_equal(table(cli.folder), table(undisturbed), check_exact=True)
    tries = [len(list(path.iterdir())) for path in (cli.folder / "results/stages").glob("*/attempts")]
    assert tries == [1] * STAGES, "no stage was begun twice"
    assert not list((cli.folder / "results/stages").glob("*/claim.*"))


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["raylet", pytest.param("gcs_server", marks=pytest.mark.slow)])
def test_a_ray_that_is_killed_is_started_again_or_says_so(victim: str, cli: Cli, undisturbed: Path):
    process = cli.start("run", cli.sweep())
    cli.wait_for(lambda: begun(cli) > cli.results() >= 1, process)
    (pid,) = descendants(process.pid, victim)
    os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=180)
    assert "Traceback" not in out + err
    if process.returncode:
        assert victim == "gcs_server", "what it holds up cannot be reached"
        assert process.returncode == 1
        assert "error: Ray's gcs_server ended unexpectedly; what is finished is kept, and the same" in err
        cli("run", "sweep.yaml")
    else:
        assert f"Ray's {victim} ended unexpectedly: starting Ray again" in out
        store = Store(cli.folder / "results")
        tries = [attempt for key in store.names("stages") for attempt in store.attempts(key)]
        lost = [(attempt.cause, attempt.message) for attempt in tries if attempt.cause]
        assert {*lost} == {("killed", f"Ray's {victim} ended unexpectedly")}
        assert len(tries) == STAGES + len(lost), "every try that came to nothing has its cause"
    pd.testing.assert_frame_equal(table(cli.folder), table(undisturbed), check_exact=True)


@pytest.mark.slow
def test_a_raylet_that_needs_longer_than_ray_would_wait_is_waited_for(cli: Cli):
    """As where others use all cores; Ray's own limit is 30 s."""
    process = cli.start("run", cli.sweep())
    cli.wait_for(lambda: len(descendants(process.pid, "raylet")) == 1, process)
    (pid,) = descendants(process.pid, "raylet")
    os.kill(pid, signal.SIGSTOP)
    time.sleep(35)
    os.kill(pid, signal.SIGCONT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert "14 of 14 trials done" in out
    assert "starting Ray again" not in out


@pytest.mark.slow
def test_a_store_that_goes_away_and_comes_back(cli: Cli, undisturbed: Path):
    """As when a network filesystem is unmounted: its mount point stays."""
    process = cli.start("run", cli.sweep())
    store, away = cli.folder / "results", cli.folder / "away"
    cli.wait_for(lambda: begun(cli) > cli.results() >= 1, process)
    store.rename(away)
    store.mkdir()
    time.sleep(5)
    assert list(store.iterdir()) == []
    store.rmdir()
    away.rename(store)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert f"waiting for the store: the store {store} is gone; was it on a disk that is not mounted any more?" in out
    assert "the store is there again" in out
    pd.testing.assert_frame_equal(table(cli.folder), table(undisturbed), check_exact=True)


@pytest.mark.slow
def test_a_store_that_becomes_read_only_is_waited_for_and_nothing_is_lost(cli: Cli, undisturbed: Path):
    with small_disk(cli.folder / "results", megabytes=50) as disk:
        process = cli.start("run", cli.sweep())
        cli.wait_for(lambda: begun(cli) > cli.results() >= 1, process)
        disk.remount("ro")
        time.sleep(8)
        assert process.poll() is None
        refused = cli.ask("run", "sweep.yaml")
        assert refused.code == 2
        assert "is not writable" in refused.err
        assert "Read-only file system" in refused.err
        assert "14 trials" in cli("status", "small")
        disk.remount("rw")
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        assert "waiting for the store" in out
        pd.testing.assert_frame_equal(table(cli.folder), table(undisturbed), check_exact=True)


@pytest.mark.slow
def test_after_a_workers_death_another_comes_up_though_stages_are_short(cli: Cli):
    """Tune would give the worker that is left to each stage whose own is starting, and end that one."""
    process = cli.start("run", cli.sweep(10))
    cli.wait_for(lambda: begun(cli) > cli.results() >= 2, process)
    os.kill(descendants(process.pid, "ray::Resource")[0], signal.SIGKILL)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, out + err
    notes = (cli.folder / "results/stages").glob("*/attempts/*.json")
    assert len({json.loads(note.read_text())["process"] for note in notes}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_asked_to_stop_running_stages_finish_their_epoch(cli: Cli, undisturbed: Path, number: signal.Signals):
    process = cli.start("run", cli.sweep())
    cli.wait_for(lambda: cli.results() >= 5, process)
    busy = descendants(process.pid, "ray::Resource")
    assert busy
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "stopping after the next epoch of " in out
    assert "SIGTERM received" not in out + err, "of Ray, with a stack"
    assert "interrupted" in out
    assert "Traceback" not in out + err
    assert len(load_results(cli.folder / "results/small")) >= 2
    assert not list((cli.folder / "results/stages").glob("*/claim.*"))
    assert not [pid for pid in busy if Path(f"/proc/{pid}").exists()]
    assert "14 of 14" in cli("resume", "small")
    pd.testing.assert_frame_equal(table(cli.folder), table(undisturbed), check_exact=True)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_asked_to_stop_while_ray_starts(cli: Cli, number: signal.Signals):
    process = cli.start("run", cli.sweep())
    cli.wait_for(lambda: bool(descendants(process.pid, "gcs_server")), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "stopping as soon as Ray has started" in err
    assert "interrupted: what is finished is kept" in out + err
    assert "Traceback" not in out + err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_asked_to_stop_before_anything_has_begun(cli: Cli, number: signal.Signals):
    """While Python imports, and while the plan is made; earlier there is no code of ours that could hear it."""
    for seconds in (0.3, 0.6):
        process = cli.start("plan", cli.sweep(50))
        cli.wait_for(lambda pid=process.pid: heeds(pid, number), process)
        time.sleep(seconds)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        if "estimate" in out:  # it has said all, and Python, which ends, hears no signals any more
            assert (process.returncode, err) in [(0, ""), (-number, "")]
        else:
            assert (process.returncode, err) == (130, f"interrupted by {number.name}: the same command begins again\n")


@pytest.mark.slow
def test_asked_twice_it_stops_now_whatever_an_epoch_takes(cli: Cli):
    """The epochs are of a minute or more; what comes after the second Ctrl-C changes nothing."""
    slow = "dataset: {name: synthetic, images: 20000}\nmodel: resnet56\ntrain: {epochs: 2}\ntrials: [{method: dense}]\n"
    process = cli.start("run", cli.write(slow, "slow.yaml"))
    cli.wait_for(lambda: list((cli.folder / "results/stages").glob("*/attempts/*")), process)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None, "it waits for the end of an epoch"
    for _ in range(2):
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert not list((cli.folder / "results/stages").glob("*/checkpoint*")), "no epoch had ended"
    assert "Traceback" not in out + err


@pytest.mark.slow
def test_too_many_failures_stop_a_sweep(cli: Cli):
    text = """\
dataset: digits
model: lenet300
train: {epochs: 2, batch_size: 64, lr: 1.0e+30}
seeds: 40
trials: [{method: dense}]
"""
    printed = cli("run", cli.write(text, "wrong.yaml"), "--max-failures", "3", code=1)
    assert "stopping: more than 3 failed stages (--max-failures)" in printed
    figures = json.loads(cli("plan", "wrong.yaml", "--json"))
    assert 4 <= figures["failed"] < 20


def test_a_failed_stage_blocks_its_children_and_nothing_else(cli: Cli):
    """Seed by seed the same; with the absurd learning rate the dense network diverges, and what needs it cannot run."""
    text = """\
dataset: digits
model: resnet8
train: {epochs: 2, lr: [0.1, 1.0e+30]}
trials:
  - {method: imp, sparsity: [0.5, 0.9], retrain_epochs: 1}
"""
    sweep = cli.write(text, "diverging.yaml")
    cli.run_here(sweep, code=1)
    status = cli("status", "diverging")
    assert "1 diverged" in status
    assert "blocks 2 stages" in status
    assert "lower learning rate" in status
    assert "2 done" in status
    assert "2 blocked" in status
    figures = json.loads(cli("status", "diverging", "--json"))[0]
    assert figures["failures"][0]["cause"] == "diverged"
    assert "epoch" in figures["failures"][0]["message"]
    assert len(figures["blocked_stages"]) == 2
    counts = json.loads(cli("plan", sweep, "--json"))
    assert (counts["done"], counts["blocked"], counts["stages_to_run"]) == (2, 2, 3)
    cli.run_here("diverging", code=1)
    stage = figures["failures"][0]["stage"]
    assert len(list((cli.folder / "results/stages" / stage / "attempts").iterdir())) == 2, "it was tried again"


def test_resources_that_no_node_has(cli: Cli):
    sweep = cli.write(cli.folder.joinpath(cli.sweep()).read_text() + "resources: {cpus: 1000, gpus: 0.25}\n")
    error = cli("run", sweep, "--loaders", "2", code=2)
    assert "no node can hold a trial with cpus: 1000, gpus: 0.25 and --loaders 2; the cluster has" in error
    assert "CPUs and 0 GPUs" in error
    assert "Lower `resources` in the sweep file or --loaders" in error


def test_equal_stages_are_shared_between_sweeps(undisturbed: Path):
    cli = Cli(undisturbed)
    text = cli.folder.joinpath(cli.sweep(1, "other")).read_text()
    other = cli.write(text, "other.yaml")
    counts = json.loads(cli("plan", other, "--json"))
    assert (counts["done"], counts["new"]) == (7, 0)
    cli("run", other, ray=False)
    cli.sweep()
    assert len(load_results(undisturbed / "results/other")) == 7


def test_a_damaged_record_of_a_sweep_is_named(cli: Cli):
    record = cli.folder / "results" / "small" / "sweep.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"name": "small"')
    error = cli("status", "small", code=2)
    assert str(record) in error
    assert "run the sweep's file again" in error


HOG = """
import time

import torch


def net(shape, classes):
    hoard = torch.ones(3 * 2**28)  # 3 GB
    time.sleep(20)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))
"""


@pytest.mark.slow
def test_a_worker_that_ray_ends_for_want_of_memory_is_a_failure_with_a_cause(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """Ray's own monitor, told to look early; Tune alone would end the whole run with a traceback."""
    memory = dict(re.findall(r"(\w+): +(\d+) kB", Path("/proc/meminfo").read_text()))
    total, free = (int(memory[name]) / 2**20 for name in ("MemTotal", "MemAvailable"))
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{(total - free + 2) / total:.3f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    cli.write(HOG, "mine.py")
    text = "dataset: digits\nmodel: [lenet300, 'mine:net']\ntrain: {epochs: 1}\ntrials: [{method: dense}]\n"
    printed = cli("run", cli.write(text), code=1)
    assert "1 of 2 trials done" in printed
    assert "out of host memory" in printed
    assert "Ray ended it because the machine ran out of memory" in printed
