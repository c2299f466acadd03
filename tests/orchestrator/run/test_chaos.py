"""A short torture; `make chaos` is the long one."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.store import Store
from tests.family import Family
from tests.orchestrator.conftest import SWEEP
from tests.same_tables import assert_same, compare

OPTIONS = "--kills 3 --seed 1476 --without raylet gcs_server second file --keep"
"""Seed 1476 begins with a worker, the driver, and a worker."""


def compute(sweep: Path, store: Store) -> None:
    """All stages one after the other in this process, without Ray."""
    for stage in make_plan(read_sweep(sweep), store).stages.values():
        for _ in run_stage(stage, store, Where(device="cpu")):
            pass


@pytest.fixture(scope="module")
def tortured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stores of a small sweep: computed in one process, and after three kills."""
    folder = tmp_path_factory.mktemp("chaos")
    sweep = folder / "small.yaml"
    sweep.write_text(SWEEP.format(seeds=2, name="small"))
    compute(sweep, Store(folder / "undisturbed/results"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *OPTIONS.split(), "--folder", folder, "--sweep", sweep],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills     3\n" in done.stdout
    return folder


@pytest.mark.slow
def test_killed_three_times_a_sweep_ends_with_the_same_tables(tortured: Path):
    for found in sorted(tortured.glob("round-*/results/small")):
        assert_same(tortured / "undisturbed/results/small", found)


@pytest.mark.slow
def test_what_is_lost_doubled_or_different_is_noticed(tortured: Path, tmp_path: Path):
    expected, found = tortured / "undisturbed/results/small", tmp_path / "small"
    found.mkdir()
    frames = {name: pd.read_parquet(expected / f"{name}.parquet") for name in ("trials", "curves", "layers")}
    frames["trials"] = frames["trials"].iloc[1:]
    frames["curves"] = pd.concat([frames["curves"], frames["curves"].iloc[-2:]])
    frames["layers"].loc[3, "density"] = np.nextafter(frames["layers"].density[3], 1.0)
    for name, frame in frames.items():
        frame.to_parquet(found / f"{name}.parquet")
    rows = compare(expected, found)
    assert {name: each[1:] for name, each in rows.items()} == {
        **{"trials": (1, 0, 0), "curves": (0, 2, 0), "layers": (0, 0, 1)},
        "networks": (rows["networks"].compared, 0, 0),
    }
    assert rows["networks"].compared == 14 * 2 + 10, "network and curve of each stage, momentum of those that prune"
    (found / "layers.parquet").write_bytes(b"")
    assert compare(expected, found)["layers"].lost == len(frames["layers"])


def test_a_family_is_what_was_started_and_what_that_started(tmp_path: Path):
    """A child whose parent is gone belongs to it; a process that was started otherwise does not."""
    family, stranger = Family(), subprocess.Popen(["sleep", "60"])
    try:
        family.start(["sh", "-c", "sleep 60 & sleep 61 & exit"], tmp_path, tmp_path / "out.txt").wait(timeout=10)
        deadline = time.monotonic() + 10
        while len(family.members("sleep")) < 2:
            assert time.monotonic() < deadline
        assert stranger.pid not in family.members()
        assert len(family.end(grace=0.3)) == 2
        assert family.end(grace=5) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
