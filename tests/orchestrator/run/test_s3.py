"""A sweep whose store is a bucket: killed and continued, read, cleaned up."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest

from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.results.parquet import load_curves, load_layers, load_results
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.store import CURVE, Store
from tests.orchestrator.conftest import Cli
from tests.orchestrator.run.test_driver import VARYING
from tests.s3 import bucket


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    with bucket() as url:
        yield f"{url}/results"


@pytest.mark.slow
def test_a_sweep_on_a_bucket_survives_a_kill_and_has_the_same_numbers(cli: Cli, place: str):
    sweep, store = cli.sweep(1), Store(place)
    process = cli.start("run", sweep, "--store", place)
    stages = make_plan(read_sweep(cli.folder / sweep), store).stages
    cli.wait_for(lambda: 2 <= len(store.done(stages)) < len(stages), process)
    process.kill()
    process.communicate()
    assert "7 of 7 trials done; tables in " + place in cli("run", sweep, "--store", place)
    local = Store(cli.folder / "local")
    for key, stage in stages.items():
        list(run_stage(stage, local, Where(device="cpu")))
        assert store.read_published(key, CURVE) == local.read_published(key, CURVE)
        assert store.result(key)["files"] == local.result(key)["files"]
    cli("run", sweep, "--store", str(local.location))
    for load in (load_results, load_curves, load_layers):
        ours, theirs = (
            load(folder).drop(columns=VARYING, errors="ignore")
            for folder in (f"{place}/small", f"{local.location}/small")
        )
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    assert cli("status", "--store", place) == "small: 7 trials: 7 done\n"
    assert "imp" in cli("results", "small", "--store", place)
    cli("gc", "--yes", "--store", place)  # of a stage that was killed between its result and its end
    assert cli("gc", "--store", place) == "nothing to remove\n"
    left = {name for key in stages for name in store.names("stages", key)}
    assert not [name for name in left if name.startswith(("claim", "checkpoint"))]


def test_a_bucket_that_is_not_there_or_does_not_answer_is_a_line(cli: Cli, place: str, monkeypatch: pytest.MonkeyPatch):
    answer = cli.ask("run", cli.sweep(1), "--store", "s3://no-such-bucket/x")
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert "no-such-bucket" in answer.err
    assert "Traceback" not in answer.err
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    answer = cli.ask("status", "--store", place)
    assert answer.code == 2
    assert "Traceback" not in answer.err
