"""A run in the terminal on a cluster that others have started: real nodes, which see other folders, and end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prunesweep.workers.store import Store
from tests.head import TOKEN, Head, JobsCli
from tests.orchestrator.conftest import descendants

NO_NODE = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
AUTOSCALING = {
    "cluster_name": "test",
    "max_workers": 2,
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 5,
    "provider": {"type": "fake_multinode", "disable_node_updaters": True},
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": NO_NODE,
        "small": {**NO_NODE, "resources": {"CPU": 1}, "max_workers": 2},
    },
    "auth": {},
    "file_mounts": {},
    **{key: [] for key in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
    **{f"{when}_commands": [] for when in ("setup", "initialization")},
    **{f"{node}_{what}_commands": [] for node in ("head", "worker") for what in ("setup", "start_ray")},
}

HIDE = """\
mount -t tmpfs tmpfs "$0" && exec "$@"
"""


@pytest.fixture
def head() -> Iterator[Head]:
    with Head() as head:
        yield head


@pytest.fixture
def cli(head: Head, tmp_path: Path) -> JobsCli:
    return head.cli(tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)


@pytest.mark.slow
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
def test_a_node_that_joins_and_does_not_see_the_store_uses_up_no_stage(cli: JobsCli, head: Head):
    store = cli.folder / "results"
    store.mkdir()
    hidden = ["unshare", "--mount", "sh", "-c", HIDE, str(store)]
    if subprocess.run([*hidden, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    process = cli.start("run", cli.sweep(3), "--address", f"127.0.0.1:{head.gcs}")
    cli.wait_for(lambda: cli.results() >= 1, process)
    with head.second_node(within=hidden) as node:
        cli.wait_for(lambda: bool(descendants(node.pid, "ray::Resource")), process)
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    assert "21 of 21 trials done" in out
    assert not list((store / "stages").glob("*/damaged*"))


@pytest.mark.slow
def test_a_node_that_joins_late_is_used(cli: JobsCli, head: Head):
    process = cli.start("run", cli.sweep(16), "--address", f"127.0.0.1:{head.gcs}")
    cli.wait_for(lambda: cli.results() >= 1, process, 500)
    workers: set[int] = set()
    with head.second_node() as node:

        def is_done() -> bool:
            workers.update(descendants(node.pid, "ray::Resource"))
            return process.poll() is not None

        cli.until(is_done, 900)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert "112 of 112 trials done" in out
    store = Store(cli.folder / "results")
    there = [key for key in store.names("stages") if store.attempts(key)[-1].process in workers]
    assert len(there) >= 5, "the second node got few of the stages that were left"


@pytest.mark.slow
def test_an_autoscaler_brings_the_nodes_that_a_sweep_waits_for(tmp_path: Path):
    """Ray's own autoscaler, whose nodes on this machine look for the head at Ray's usual port."""
    try:
        socket.create_server(("", 6379)).close()
    except OSError:
        pytest.skip("port 6379 is taken")
    (tmp_path / "cluster.json").write_text(json.dumps(AUTOSCALING))
    fake = ["env", "RAY_FAKE_CLUSTER=1", "AUTOSCALER_UPDATE_INTERVAL_S=1"]
    scaled = f"--autoscaling-config={tmp_path / 'cluster.json'}"
    with Head("--num-cpus", 0, scaled, port=6379, within=fake) as head:
        cli = head.cli(tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
        there = "--address", "127.0.0.1:6379"
        said = cli("run", cli.sweep(1), *there, code=2)
        assert "the cluster has 0 CPUs and 0 GPUs on a node" in said
        assert "where nodes come on demand, run with --autoscaling" in said
        assert "7 of 7 trials done" in cli("run", "sweep.yaml", *there, "--autoscaling")


@pytest.mark.slow
def test_a_head_that_is_lost_ends_the_run_with_a_sentence(cli: JobsCli, head: Head):
    process = cli.start("run", cli.sweep(3), "--address", f"127.0.0.1:{head.gcs}")
    cli.wait_for(lambda: cli.results() >= 1, process)
    (gcs,) = descendants(head.process.pid, "gcs_server")
    os.kill(gcs, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    assert "does not answer any more" in err
    assert err.endswith("what is finished is kept, and the same command continues from there\n")
    assert "21 of 21 trials done" in cli("run", "sweep.yaml")


@pytest.mark.slow
def test_a_cluster_of_another_version_is_refused_with_both_versions(cli: JobsCli, head: Head):
    other = "import ray; ray.__version__ = '2.1.0'; from prunesweep.orchestrator.cli.start import main; main()"
    program = [sys.executable, "-c", other, "run", cli.sweep(1), "--address", f"127.0.0.1:{head.gcs}"]
    done = subprocess.run(
        program, cwd=cli.folder, env={**os.environ, **cli.environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith(f"error: the Ray cluster at 127.0.0.1:{head.gcs} can't be used from here: Version mismatch")
    assert "2.1.0" in said
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_accepts_connections_and_never_answers_is_not_waited_for(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        cli = JobsCli(tmp_path, {})
        said = cli("run", cli.sweep(1), "--address", address, code=2)
    assert f"--address {address}: something else than the head of a Ray cluster listens there" in said


def test_the_address_of_a_dashboard_is_not_that_of_a_cluster(tmp_path: Path):
    cli = JobsCli(tmp_path, {})
    said = cli("run", cli.sweep(1), "--address", "http://127.0.0.1:8265", code=2)
    assert "is a dashboard, which `prunesweep submit` takes: `run` wants HOST:6379" in said
