"""Whatever ends with a lost Ray: its processes at once, and each try with its cause."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prunesweep.orchestrator.run.sessions import end_sessions, start_in_session
from prunesweep.workers.store import RESULT, Attempt, Store
from tests.family import Family
from tests.orchestrator.conftest import COMMAND, SWEEP

DENSE = """\
name: dense
dataset: digits
model: resnet8
train: {epochs: 6}
trials: [{method: dense}]
"""


class Killed:
    """A run whose processes are stopped and killed one by one."""

    def __init__(self, folder: Path, sweep: str) -> None:
        (folder / "sweep.yaml").write_text(sweep)
        self.folder, self.family, self.output = folder, Family(), folder / "output"
        self.store = folder / "results/stages"
        self.process = self.family.start([COMMAND, "run", "sweep.yaml"], folder, self.output)

    def printed(self) -> str:
        return self.output.read_text(errors="replace")

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for it; the run must not have ended by then."""
        deadline = time.monotonic() + 300
        while not condition():
            assert self.process.poll() is None, self.printed()
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.01)

    def signal(self, program: str, number: signal.Signals) -> int:
        pid, *_ = self.family.members(program)
        os.kill(pid, number)
        return pid

    def begun(self) -> int:
        return len(list(self.store.glob("*/attempts/*")))

    def unexplained(self) -> list[Attempt]:
        """Tries that came to nothing, and nobody knows why: a stage that is done has one without a cause."""
        store = Store(self.folder / "results")
        tries = {key: [try_ for try_ in store.attempts(key) if try_.cause is None] for key in store.names("stages")}
        return [try_ for key, open_ in tries.items() for try_ in open_[(RESULT in store.contents(key)) :]]


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Killed]:
    killed = Killed(tmp_path, request.param)
    yield killed
    killed.family.end(grace=0)


def test_what_has_a_process_group_of_its_own_is_ended_too():
    """As Ray's workers have, who work on for seconds when their raylet is gone."""
    code = "import subprocess; print(subprocess.Popen(['sleep', '60'], process_group=0).pid, flush=True)"
    leader = start_in_session([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert leader.stdout is not None
    member = int(leader.stdout.readline())
    leader.wait()
    assert os.getpgid(member) == member
    end_sessions()
    assert has_ended(member)


def has_ended(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="a worker looks for its raylet itself")
def test_a_worker_ends_when_its_parent_is_killed():
    """As a raylet is: its workers must not hold their claims, nor a GPU, until they look for it."""
    worker = (
        "import os, time; from prunesweep.orchestrator.run.sessions import end_with_parent; end_with_parent();"
        "print(os.getpid(), flush=True); time.sleep(600)"
    )
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {worker!r}]); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as raylet:
        assert raylet.stdout is not None
        member = int(raylet.stdout.readline())
        assert not has_ended(member)
        raylet.kill()
    deadline = time.monotonic() + 60
    while not has_ended(member) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert has_ended(member)


@pytest.mark.slow
@pytest.mark.parametrize("run", [DENSE], indirect=True)
def test_no_worker_begins_a_try_after_its_ray_was_lost(run: Killed):
    """It has its stage, and goes on for seconds when its raylet is gone; stopped, it would do so later."""
    run.until(lambda: run.family.members("ray::ResourceTrainable.train"))
    raylet = run.signal("raylet", signal.SIGKILL)
    run.until(lambda: raylet not in run.family.members("raylet"))
    worker = run.signal("ray::ResourceTrainable.train", signal.SIGSTOP)
    assert run.begun() == 0
    run.until(lambda: "starting Ray again" in run.printed())
    assert worker not in run.family.members()
    assert run.process.wait(timeout=300) == 0, run.printed()
    assert run.begun() == 2
    assert not run.unexplained()


@pytest.mark.slow
@pytest.mark.parametrize("run", [SWEEP.format(name="small", seeds=1)], indirect=True)
def test_a_run_that_ends_because_ray_does_not_answer_leaves_the_causes(run: Killed):
    """Its main thread asks the GCS for a second worker when the dense stage is done, and is not heard of again."""
    run.until(lambda: run.begun() == 1)
    run.signal("gcs_server", signal.SIGSTOP)
    run.until(lambda: run.begun() == 2)
    run.signal("ray::ResourceTrainable", signal.SIGKILL)
    time.sleep(1)
    run.signal("gcs_server", signal.SIGKILL)
    assert run.process.wait(timeout=300) == 1, run.printed()
    assert "error: Ray's gcs_server ended unexpectedly" in run.printed()
    assert not run.family.end(grace=5)
    assert not run.unexplained()
