"""A run in the terminal on a cluster that others have started: real nodes, which see other folders, and end."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.orchestrator.conftest import descendants
from tests.orchestrator.test_jobs import TOKEN, Head, JobsCli, stop

HIDE = """\
mount -t tmpfs tmpfs "$0" && exec "$@"
"""


@pytest.fixture
def head() -> Iterator[Head]:
    head = Head()
    try:
        yield head
    finally:
        stop(head.process)


@pytest.fixture
def cli(head: Head, tmp_path: Path) -> JobsCli:
    cli = head.cli(tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    cli.until(lambda: cli.ask("jobs").code == 0)
    return cli


def test_a_store_that_another_node_does_not_see_is_refused_before_the_first_trial(cli: JobsCli, head: Head):
    """In that node's own space of mounts another disk lies over the store's place."""
    store = cli.folder / "results"
    store.mkdir()
    hidden = ["unshare", "--mount", "sh", "-c", HIDE, str(store)]
    if subprocess.run([*hidden, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    with head.second_node(within=hidden):
        said = cli("run", cli.sweep(1), "--address", f"127.0.0.1:{head.gcs}", code=2)
    assert "of the cluster sees another folder there (1 of 1 other nodes have trouble with the store" in said
    assert "choose a --store that all nodes share" in said
    assert not (store / "stages").exists()
    assert not list(store.glob(".seen*"))


@pytest.mark.slow
def test_a_head_that_is_lost_ends_the_run_with_a_sentence(cli: JobsCli, head: Head):
    process = cli.start("run", cli.sweep(3), "--address", f"127.0.0.1:{head.gcs}")
    cli.wait_for(lambda: cli.results() >= 1, process)
    (gcs,) = descendants(head.process.pid, "gcs_server")
    os.kill(gcs, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    assert "does not answer any more" in err
    assert err.endswith("what is finished is kept: run the same command again\n")
    assert "21 of 21 trials done" in cli("run", "sweep.yaml")


def test_the_address_of_a_dashboard_is_not_that_of_a_cluster(tmp_path: Path):
    cli = JobsCli(tmp_path, {})
    said = cli("run", cli.sweep(1), "--address", "http://127.0.0.1:8265", code=2)
    assert "is a dashboard, which `prunesweep submit` takes: `run` wants HOST:6379" in said
