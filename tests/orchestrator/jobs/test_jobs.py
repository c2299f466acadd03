"""Sweeps as jobs on a real Ray cluster, with nodes, ports and a token of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pandas as pd
import pytest
import ray

from prunesweep import load_results
from prunesweep.orchestrator.jobs import dashboard, snapshot
from prunesweep.orchestrator.jobs.jobs import weights_beside
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location
from prunesweep.workers.store import Store
from tests.head import TOKEN, Head, JobsCli, free_ports
from tests.orchestrator.conftest import SWEEP, Cli, descendants
from tests.orchestrator.hook import SECRET, Hook
from tests.orchestrator.run.test_driver import VARYING
from tests.s3 import bucket

MINE = """\
from torch import nn


def net(shape, classes):
    wide = [nn.Conv2d(shape[0], 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    deep = [nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*wide, *deep, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes))
"""
STAGES, SEEDS = 7, 6
"""Of `SWEEP` for each seed; with six seeds there is time to stop it."""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with Head() as head:
        yield head


@pytest.fixture
def laptop(head: Head, tmp_path: Path) -> JobsCli:
    """A project with a model of its own at its top, where commands are run, and sweeps below."""
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "mine.py").write_text(MINE)
    cli = head.cli(tmp_path)
    cli.write(SWEEP.format(name="small", seeds=SEEDS).replace("resnet8", "mine:net"), "sweeps/small.yaml")
    return cli


def embedded(laptop: JobsCli, text: str) -> Path:
    """The folder of a run of its own without that cluster."""
    here = Cli(laptop.folder / "here")
    here.folder.mkdir()
    shutil.copy(laptop.folder / "mine.py", here.folder)
    here("run", here.write(text, "small.yaml"))
    return here.folder


def table(folder: Path, name: str) -> pd.DataFrame:
    """What the first seed gave."""
    frame = load_results(folder / "results" / name).drop(columns=VARYING)
    return frame[frame.seed == 0].reset_index(drop=True)


def test_a_sweep_is_submitted_looked_at_and_cancelled(laptop: JobsCli):
    """Its web hook, which is a secret, hears of the end, and is printed nowhere."""
    with Hook() as hook:
        laptop.environment["PRUNESWEEP_NOTIFY"] = hook.url
        said = submitted_and_cancelled(laptop)
    assert SECRET not in said + laptop("jobs") + laptop("jobs", "--json")
    assert [each["outcome"] for each in hook.heard] == ["interrupted"]


def submitted_and_cancelled(laptop: JobsCli) -> str:
    """All that is printed meanwhile."""
    printed = laptop.submit("sweeps/small.yaml")
    assert f"{laptop.folder}: 2 files, " in printed
    assert "prunesweep-small-1 is submitted" in printed
    assert "ing already; nothing more is submitted" in laptop.submit("sweeps/small.yaml")
    refused = laptop("submit", "sweeps/small.yaml", "--store", "/elsewhere", code=2)
    assert "another sweep file, store or options" in refused

    watching = laptop.start("logs", "small", "--follow")
    laptop.until(lambda: laptop.results() >= 2)
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=10)
    assert (watching.returncode, err) == (130, "")
    assert "42 trials (7 with each of 6 seeds) in 42 stages" in out
    assert "prunesweep-small-1 goes on; look in again with" in out

    assert "prunesweep-small-1  stopped" in laptop("cancel", "small")
    log = laptop("logs", "small")
    assert "stopping after the next epoch of " in log
    assert "interrupted: what is finished is kept" in log
    assert "Traceback" not in log
    assert 2 <= laptop.results() < STAGES * SEEDS
    assert not list((laptop.folder / "results/stages").glob("*/claim.*"))
    return printed + refused + out + log


@pytest.mark.slow
def test_a_store_s_credentials_are_in_the_environment_of_a_job_alone(laptop: JobsCli, head: Head):
    keys = "AKIANOBODY:a-s3cret"
    laptop.write(SWEEP.format(name="far", seeds=1), "sweeps/far.yaml")
    with bucket() as url:
        end = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
        place = f"s3://{keys}@{url.removeprefix('s3://')}/x?endpoint_override={end}&scheme=http&region=us-east-1"
        printed = laptop("submit", "sweeps/far.yaml", "--store", place, "--follow")
        again = laptop("results", "far", "--store", place)
    assert "7 of 7 trials done" in printed
    assert "a-s3cret" not in printed + again + laptop("jobs") + laptop("jobs", "--json") + laptop("logs", "far")
    request = Request(f"{head.url}/api/jobs/", headers={"Authorization": f"Bearer {TOKEN}"})
    (job,) = [job for job in json.load(urlopen(request)) if job["submission_id"] == "prunesweep-far-1"]
    assert job["runtime_env"].pop("env_vars")["PRUNESWEEP_STORE"] == place
    assert "a-s3cret" not in json.dumps(job)
    assert job["metadata"]["store"].startswith("s3://bucket-")


@pytest.mark.slow
def test_submitted_again_a_cancelled_sweep_goes_on_and_gives_the_same(laptop: JobsCli):
    text = SWEEP.format(name="again", seeds=SEEDS).replace("resnet8", "mine:net")
    laptop.write(text, "sweeps/again.yaml")
    laptop.submit("sweeps/again.yaml")
    laptop.until(lambda: laptop.results() >= 2)
    for _ in range(2):
        assert "prunesweep-again-1  stopped" in laptop("cancel", "again"), "the second time there is nothing to do"
    kept = {path: path.stat().st_mtime_ns for path in (laptop.folder / "results/stages").glob("*/result.json")}
    printed = laptop.submit("sweeps/again.yaml", "--follow")
    assert "prunesweep-again-2 is submitted" in printed
    assert "42 of 42 trials done" in printed
    assert "prunesweep-again-2  succeeded" in printed
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    listed = [job for job in json.loads(laptop("jobs", "--json")) if job["sweep"] == "again"]
    assert [(job["attempt"], job["state"], job["exit_code"]) for job in listed] == [
        (1, "stopped", None),
        (2, "succeeded", 0),
    ]
    pd.testing.assert_frame_equal(
        table(laptop.folder, "again"), table(embedded(laptop, text), "again"), check_exact=True
    )


@pytest.mark.parametrize(
    "environment", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "x" * 64}, {"RAY_AUTH_TOKEN": ""}]
)
def test_a_token_that_is_missing_or_wrong(environment: dict[str, str], head: Head, tmp_path: Path):
    code, out, err = head.cli(tmp_path, **environment).ask("jobs")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: the cluster at {head.url} wants a")
    assert (
        "put it into RAY_AUTH_TOKEN, or into a file that RAY_AUTH_TOKEN_PATH names, and set RAY_AUTH_MODE=token" in err
    )
    assert err.count("\n") == 1


def test_the_token_may_be_in_a_file(head: Head, tmp_path: Path):
    (tmp_path / "token").write_text(TOKEN)
    head.cli(tmp_path, RAY_AUTH_TOKEN="", RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))("jobs")


def test_what_a_job_could_not_see_and_jobs_that_do_not_exist(laptop: JobsCli):
    file = "sweeps/small.yaml"
    error = laptop("submit", file, "--store", "results", code=2)
    assert "--store results is relative, and a job runs on other machines" in error
    error = laptop("submit", file, "--store", "/x", "--data-dir", "my/data", code=2)
    assert "--data-dir my/data is relative" in error
    large = laptop.write((laptop.folder / file).read_text() + "resources: {cpus: 1, gpus: 1}\n", "large.yaml")
    error = laptop.submit(large, code=2)
    assert "no node can hold a trial with cpus: 1, gpus: 1; the cluster has 2 CPUs and 0 GPUs on a node" in error
    error = laptop("logs", "smal", code=2)
    assert 'has no job of a sweep "smal"' in error
    assert laptop.ask("submit", file).code == 2


@pytest.fixture
def addresses() -> Iterator[dict[str, str]]:
    """Where nothing listens, where nobody answers, and where something else does."""
    (closed,) = free_ports(1)
    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield {
            "refused": f"http://127.0.0.1:{closed}",
            "timed out": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "what answers there is no dashboard of Ray": f"127.0.0.1:{server.server_port}",
            "not known": "http://no.such.host.invalid:8265",
        }
    server.shutdown()
    server.server_close()


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Welcome</html>")

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_an_address_where_no_dashboard_answers(addresses: dict[str, str], tmp_path: Path):
    cli = JobsCli(tmp_path, {})
    for reason, address in addresses.items():
        code, out, err = cli.ask("jobs", "--address", address)
        assert (code, out) == (2, "")
        assert "no Ray dashboard answers at http://" in err
        assert f"({reason}): the address begins with http://, its port is 8265" in err
        assert err.count("\n") == 1
    assert '"ray://head:10001" is not allowed' in cli("jobs", "--address", "ray://head:10001", code=2)


class Odd(BaseHTTPRequestHandler):
    """Takes itself for a dashboard, and says `said` whatever it is asked for; without it, it sends a byte a second."""

    said: Any = None

    def do_GET(self) -> None:
        if self.said is None:
            with suppress(OSError):
                for _ in range(60):
                    self.wfile.write(b"HTTP/1.1 200 OK\r\n"[:1])
                    time.sleep(1)
            return
        version = {"version": "1", "ray_version": ray.__version__, "ray_commit": "", "session_name": ""}
        body = json.dumps(version if "version" in self.path else self.said).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


KNOWN = {"submission_id": "prunesweep-small-1", "type": "SUBMISSION", "status": "RUNNING", "entrypoint": "x"}

ODD: dict[str, Any] = {
    "a number": 5,
    "jobs that are texts": ["a"],
    "jobs without what they need": [{"submission_id": "prunesweep-small-1"}],
    "a time far away": [{**KNOWN, "start_time": 10**30}],
    "nodes of words": {"data": {"summary": [{"raylet": {"state": "ALIVE", "resourcesTotal": {"CPU": "many"}}}]}},
}


@pytest.fixture
def odd() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("said", ODD)
def test_what_answers_in_another_way_than_a_dashboard_is_none(said: str, odd: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Odd, "said", ODD[said])
    cluster = dashboard.connect(Location(odd))
    calls = (partial(dashboard.jobs, cluster), partial(cluster.get_job_logs, "a"), partial(cluster.stop_job, "a"))
    for call in (partial(dashboard.nodes, cluster),) if said == "nodes of words" else calls:
        with pytest.raises(UserError, match="what answers there is no dashboard of Ray"):
            call()


def test_what_sends_a_byte_a_second_is_not_waited_for(odd: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dashboard, "ANSWER_SECONDS", 2.0)
    monkeypatch.setattr(dashboard, "CONNECT_SECONDS", 1.0)
    with pytest.raises(dashboard.Unreachable, match="timed out"):
        dashboard.connect(Location(odd))


# --- snapshots


def packed(folder: Path, monkeypatch: pytest.MonkeyPatch, sweep: str) -> list[str]:
    monkeypatch.chdir(folder)
    archive = folder.parent / "snapshot.zip"
    count = snapshot.pack(*snapshot.place(Path(sweep)), archive)
    names = zipfile.ZipFile(archive).namelist()
    assert len(names) == count
    return names


def test_a_snapshot_holds_code_and_no_stores_data_or_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    project = tmp_path / "project"
    code = ["mine.py", "package/data/loader.py", "sweeps/x.yaml"]
    other = [
        "data/x.bin",
        "results/a",
        ".env",
        ".git/HEAD",
        "env/pyvenv.cfg",
        "env/lib/x.py",
        "store/.prunesweep",
        "store/a",
    ]
    for name in (*code, *other, "package/__pycache__/x.pyc"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    assert packed(project, monkeypatch, "sweeps/x.yaml") == code
    first = (tmp_path / "snapshot.zip").read_bytes()
    os.utime(project / "mine.py", (0, 0))
    assert packed(project, monkeypatch, "sweeps/x.yaml") == code
    assert (tmp_path / "snapshot.zip").read_bytes() == first, "equal files are sent once"
    assert packed(project / "package", monkeypatch, "../sweeps/x.yaml") == ["x.yaml"], "of a file elsewhere its folder"


def test_a_snapshot_leaves_out_what_git_ignores_but_never_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    project = tmp_path / "project"
    project.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    for name, text in {".gitignore": "runs\n*.yaml\n", "mine.py": "", "runs": "", "x.yaml": "", "é.py": ""}.items():
        (project / name).write_text(text)
    assert packed(project, monkeypatch, "x.yaml") == ["mine.py", "x.yaml", "é.py"]


def test_a_snapshot_follows_links_that_stay_in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What git ignores stays out by either name; a link out of the project, or around in a circle, is not followed."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for file in (project / "code/net.py", project / "code/notes.log", project / "x.yaml", elsewhere / "large.bin"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    (project / ".gitignore").write_text("*.log\n")
    (project / "package").mkdir()
    (project / "package/__init__.py").write_text("")
    (project / "package/code").symlink_to("../code")
    (project / "package/top").symlink_to("..")
    (project / "code/back").symlink_to("../package")
    (project / "elsewhere").symlink_to(elsewhere)
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    assert packed(project, monkeypatch, "x.yaml") == [
        "code/back/__init__.py",
        "code/net.py",
        "package/__init__.py",
        "package/code/net.py",
        "x.yaml",
    ]


@pytest.mark.slow
def test_a_snapshot_that_is_too_large_names_the_largest_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    project = tmp_path / "project"
    project.mkdir()
    (project / "x.yaml").write_text("")
    (project / "weights.bin").write_bytes(os.urandom(snapshot.LIMIT))
    with pytest.raises(UserError, match=r"the most that Ray takes; its largest file is weights\.bin \(105 MB\)"):
        packed(project, monkeypatch, "x.yaml")
    archive, weights = tmp_path / "snapshot.zip", [project / "weights.bin"]
    with pytest.raises(UserError, match=r"weights that init names: put them where all nodes see them, such as beside"):
        snapshot.pack(*snapshot.place(project / "x.yaml"), archive, weights)


INIT = """\
dataset: digits
model: resnet8
init: {path: PATH}
trials:
  - {method: dense}
"""


@pytest.mark.parametrize(
    ("path", "goes"),
    [("net.pt", True), ("data/net.pt", False), ("../net.pt", False), ("ignored.pt", False), ("/nfs/net.pt", True)],
)
def test_weights_that_a_job_would_not_find_are_refused_before_anything_is_sent(path: str, goes: bool, tmp_path: Path):
    """They lie behind a whole path, or in the folder that the job takes along."""
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    for name in ("net.pt", "data/net.pt", "../net.pt", "ignored.pt"):
        (project / name).write_bytes(b"weights")
    subprocess.run(["git", "init", "-q", project], check=True)
    (project / ".gitignore").write_text("ignored.pt\n")
    (project / "x.yaml").write_text(INIT.replace("PATH", path))
    weights = weights_beside(read_sweep(project / "x.yaml"))
    if goes:
        assert snapshot.pack(project, Path("x.yaml"), tmp_path / "snapshot.zip", weights) == 2
        return
    with pytest.raises(UserError, match=r"pt is not among what a job takes along.* whole path$"):
        snapshot.pack(project, Path("x.yaml"), tmp_path / "snapshot.zip", weights)


# --- longer ones


@pytest.mark.slow
def test_a_cancelled_job_has_the_time_to_finish_an_epoch(laptop: JobsCli):
    """Ray would kill it after 3 seconds; its epochs take longer."""
    text = "dataset: {name: synthetic, images: 6000, test_images: 100}\nmodel: resnet20\ntrain: {epochs: 4}\n"
    laptop.write(text + "trials: [{method: dense}]\n", "long.yaml")
    laptop.submit("long.yaml")
    store = Store(str(laptop.folder / "results"))
    stages = laptop.folder / "results/stages"
    laptop.until(lambda: bool(list(stages.glob("*/checkpoint.safetensors"))))
    (key,) = [path.name for path in stages.iterdir()]
    before = store.checkpointed_epochs(key)
    begun = time.monotonic()
    assert "prunesweep-long-1  stopped" in laptop("cancel", "long")
    assert time.monotonic() - begun > 3.5
    assert store.checkpointed_epochs(key) == before + 1
    assert "interrupted: what is finished is kept" in laptop("logs", "long")


@pytest.mark.slow
def test_a_followed_job_ends_as_its_run(laptop: JobsCli):
    text = (laptop.folder / "sweeps/small.yaml").read_text()
    laptop.write(text.replace("name: small", "name: wrong").replace("lr: 0.1", "lr: 1.0e+30"), "wrong.yaml")
    printed = laptop.submit("wrong.yaml", "--max-failures", "0", "--follow", code=1)
    assert "prunesweep-wrong-1  failed" in printed


@pytest.mark.slow
def test_the_life_of_a_sweep_on_a_cluster(laptop: JobsCli, head: Head):
    """Nodes join, and one is killed; who looks on is cut off; it is cancelled, goes on, and gives the same table."""
    text = SWEEP.format(name="life", seeds=SEEDS).replace("epochs: 6", "epochs: 12")
    file = laptop.write(text, "sweeps/life.yaml")
    here = JobsCli(laptop.folder / "elsewhere", laptop.environment)
    here.folder.mkdir()
    store = str(laptop.folder / "results")
    here("submit", f"../{file}", "--store", store)
    watching = here.start("logs", "life", "--follow")
    with head.second_node(name="n1") as node:
        here.until(lambda: bool(descendants(node.pid, "ray::Resource")))
        here.until(lambda: laptop.results() >= 2)
        watching.kill()
        watching.communicate()
        for pid in (*descendants(node.pid, "raylet"), *descendants(node.pid, "")):
            os.kill(pid, signal.SIGKILL)
    done = laptop.results()
    here.until(lambda: laptop.results() > done)
    assert "life: " in here("status", "life", "--store", store)
    assert "prunesweep-life-1  stopped" in here("cancel", "life")
    assert laptop.results() < STAGES * SEEDS
    with head.second_node(name="n2"):
        printed = here("submit", f"../{file}", "--store", store, "--follow")
    assert "prunesweep-life-2  succeeded" in printed
    assert "42 of 42 trials done" in printed
    assert "imp" in here("results", "life", "--store", store)
    pd.testing.assert_frame_equal(table(laptop.folder, "life"), table(embedded(laptop, text), "life"), check_exact=True)


@pytest.mark.slow
def test_a_node_that_is_lost_costs_an_epoch(laptop: JobsCli, head: Head):
    """Four stages on four cores of two nodes, one of which goes."""
    text = (
        "dataset: {name: synthetic, images: 400, test_images: 100}\nmodel: resnet20\ntrain: {epochs: 10}\n"
        "trials: [{method: dense}]\n"
    )
    file = laptop.write(text + "seeds: 4\n", "small.yaml")
    stages = laptop.folder / "results/stages"
    with head.second_node() as node:
        laptop.submit(file)
        laptop.until(lambda: len(list(stages.glob("*/attempts/*"))) == 4)
        assert len(descendants(node.pid, "ray::Resource")) == 2
        family = descendants(node.pid, "")
        for pid in (*descendants(node.pid, "raylet"), *family):
            os.kill(pid, signal.SIGKILL)
        printed = laptop("logs", "small", "--follow")
    # Ray may notice first that the processes are gone, which here are on a machine that still answers.
    assert printed.count("node lost: ") + printed.count("killed: ") == 2, printed
    assert "4 of 4 trials done" in printed
    assert sorted(len(list(path.iterdir())) for path in stages.glob("*/attempts")) == [1, 1, 2, 2]
    pd.testing.assert_frame_equal(
        table(laptop.folder, "small"), table(embedded(laptop, text), "small"), check_exact=True
    )
