"""`status` while a sweep runs: who runs what, where and how fast, from the store alone; and who does not any more."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.records import remember
from prunesweep.orchestrator.status.nodes import lines, now
from prunesweep.orchestrator.status.status import RUNNING, SILENT, Unfinished, look, unfinished
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.activity import Activity
from prunesweep.workers.claims import Claim, newest
from prunesweep.workers.host import processor
from prunesweep.workers.seal import sealed_json
from prunesweep.workers.store import Attempt, Store
from tests.orchestrator.conftest import Cli

LONG = """\
name: long
dataset: digits
model: resnet8
seeds: 2
train: {epochs: 400}
trials:
  - {method: imp, sparsity: [0.5, 0.9], retrain_epochs: 10}
"""
EPOCHS = 2 * (400 + 2 * 10)

ROOT = Path(__file__).parents[3]

Running = Callable[[Cli], AbstractContextManager[list[subprocess.Popen[str]]]]


@contextmanager
def under_ray(cli: Cli) -> Iterator[list[subprocess.Popen[str]]]:
    with killed_at_the_end([cli.start("run", cli.write(LONG, "long.yaml"))]) as processes:
        yield processes


@contextmanager
def by_hand(cli: Cli) -> Iterator[list[subprocess.Popen[str]]]:
    """The same two dense stages, by a process each that knows only one of them."""
    remember(read_sweep(cli.folder / cli.write(LONG, "long.yaml")), Store(cli.folder / "results"))
    ones = [LONG.replace("long", f"one{seed}").replace("seeds: 2", f"seeds: [{seed}]") for seed in range(2)]
    files = [cli.write(text, f"one{seed}.yaml") for seed, text in enumerate(ones)]
    command = [sys.executable, "-m", "tests.in_process"]
    places = [(str(cli.folder / file), str(cli.folder / "results")) for file in files]
    started = [subprocess.Popen([*command, *place], cwd=ROOT, text=True, start_new_session=True) for place in places]
    with killed_at_the_end(started) as processes:
        yield processes


@contextmanager
def killed_at_the_end(processes: list[subprocess.Popen[str]]) -> Iterator[list[subprocess.Popen[str]]]:
    """They and all that they have started."""
    try:
        yield processes
    finally:
        for process in processes:
            kill(process)
            process.communicate()


def kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def has_rates(cli: Cli, count: int) -> bool:
    store = Store(cli.folder / "results")
    claims = [newest(store, key)[1] for key in store.names("stages")]
    return sum(bool(claim and claim.doing and claim.doing.epochs_per_second) for claim in claims) >= count


@pytest.mark.parametrize("running", [by_hand, pytest.param(under_ray, marks=pytest.mark.slow)])
def test_what_runs_here_is_shown_by_node_and_device_and_after_a_kill_it_is_interrupted(running: Running, cli: Cli):
    with running(cli) as processes:
        at_once = min(os.cpu_count() or 1, 2) if running is under_ray else 2
        cli.wait_for(lambda: has_rates(cli, at_once), processes[0])
        printed = cli("status", "long").splitlines()
        (status,) = cli.json("status", "long")
        stage = status["now"]["devices"][0]["stages"][0]
        assert cli("logs", "long", stage).splitlines()[1].endswith(": still running, as far as is known")
        for process in processes:
            kill(process)
    assert printed[1].startswith(f"running: {at_once} stage")
    assert " on 1 node, " in printed[1]
    assert "ETA -" not in printed[1]
    assert printed[2].startswith(f"  {socket.gethostname()}  cpu ({processor()}): utilisation ")
    assert printed[3].split() == ["epoch", "epochs/s", "images/s", "stage"]
    assert printed[4].endswith("  train dense resnet8 digits 400 epochs seed 0")

    said = status["now"]
    (device,) = said["devices"]
    assert (device["node"], device["device"], device["name"]) == (socket.gethostname(), "cpu", processor())
    assert 5 < device["utilisation"] <= 100 * (os.cpu_count() or 1) * 1.1
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert device["memory_total"] == physical
    assert at_once * 10**8 < device["memory_used"] < physical
    stages = {each["stage"]: each for each in status["unfinished_stages"]}
    assert device["stages"] == [key for key, each in stages.items() if each["state"] == "running"]
    doing = [stages[key]["doing"] for key in device["stages"]]
    assert said["epochs_per_second"] == pytest.approx(sum(each["epochs_per_second"] for each in doing))
    for each in doing:
        assert 0 < each["epoch"] < 400
        assert each["images_per_second"] == pytest.approx(each["epochs_per_second"] * 1257, rel=0.01)
        assert each["gpu_percent"] is None
    assert said["epochs_left"] == EPOCHS - sum(each["epoch"] for each in doing)
    assert said["seconds_left"] == pytest.approx(said["epochs_left"] / said["epochs_per_second"])

    deadline = time.monotonic() + 20  # Ray's workers notice that their driver is gone
    while "running" in (after := cli("status", "long")):
        assert time.monotonic() < deadline, after
        time.sleep(0.5)
    assert f"unfinished: {at_once} interrupted" in after
    assert "cut off: its run was stopped or killed" in cli("logs", "long", stage)
    assert after.endswith("run what is missing with: prunesweep resume long\n")
    (status,) = cli.json("status", "long")
    assert (status["now"]["devices"], status["now"]["epochs_per_second"], status["now"]["seconds_left"]) == (
        [],
        None,
        None,
    )


# --- other machines


@pytest.fixture
def planned(cli: Cli) -> tuple[Plan, Store]:
    sweep, store = read_sweep(cli.folder / cli.write(LONG, "long.yaml")), Store(cli.folder / "results")
    remember(sweep, store)
    return make_plan(sweep, store), store


class Elsewhere:
    """A process on another machine, which has claimed a stage and renews its claim, or not."""

    def __init__(self, store: Store, plan: Plan, key: str, doing: Activity | None, machine: str | None) -> None:
        self.store, self.key = store, key
        self.claim = Claim("0001-them", "their run", machine, 1, "1", doing=doing)
        store.begin(plan.stages[key], Attempt("0001-them", "2026-01-01T00:00:00+00:00", "far", 1))
        self.write()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)

    def write(self) -> None:
        self.store.write(sealed_json(asdict(self.claim)), "stages", self.key, "claim.1.json")

    def _beat(self) -> None:
        while not self.ended.wait(2.0):
            self.claim = replace(self.claim, beats=self.claim.beats + 1)
            self.write()

    def __enter__(self) -> Elsewhere:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()


GPU = Activity(
    "far", "cuda:0", "NVIDIA H100", "GPU-1", 100, 2.0, 2514.0, 90.0, 10**9, 10**11, 75.0, 3 * 10**9, 80 * 10**9, 10**9
)


def test_the_claim_of_another_machine_is_watched_for_a_renewal(cli: Cli, planned: tuple[Plan, Store]):
    """And so is one of a machine that cannot tell itself from others."""
    plan, store = planned
    first, second = [key for key, stage in plan.stages.items() if stage.parent is None]
    with Elsewhere(store, plan, first, GPU, "another machine") as alive:
        Elsewhere(store, plan, second, replace(GPU, device_id="GPU-2"), None)
        begun = time.monotonic()
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(cli.json, "status", "long")
            answer = cli.ask("status", "long")
            assert time.monotonic() - begun > 4, "it was looked for twice more"
            (status,) = asked.result()
        assert answer.err == ""
    assert alive.claim.beats >= 2
    printed = answer.out.splitlines()
    # 840 epochs less 100; of the stage that gives no sign of life there is no checkpoint.
    assert printed[1] == "running: 1 stage on 1 node, 2 epochs/s, 740 epochs left, ETA 6 min"
    assert printed[2] == "  far  cuda:0 (NVIDIA H100): utilisation 75%, memory 3 GB of 80 GB"
    assert printed[4].split()[:3] == ["100/400", "2", "2,514"]
    assert printed[5] == "unfinished: 1 no sign of life"
    assert [each["state"] for each in status["unfinished_stages"]] == ["running", "no sign of life"]
    assert [each["stages"] for each in status["now"]["devices"]] == [[first]]
    assert status["unfinished_stages"][0]["doing"] == {**asdict(GPU), "stack": list(GPU.stack), "curve": []}
    assert status["unfinished_stages"][1]["doing"] is None


def test_a_stage_that_ends_while_it_is_watched_is_not_interrupted(planned: tuple[Plan, Store]):
    plan, store = planned
    first, second = [key for key, stage in plan.stages.items() if stage.parent is None]
    Elsewhere(store, plan, first, GPU, "another machine")
    plan = plan.refreshed(store)

    def finish() -> None:
        time.sleep(1)
        store.publish(plan.stages[first], {}, {"metrics": {}})
        store.remove("stages", first, "claim.1.json")
        Elsewhere(store, plan, second, replace(GPU, epoch=1), "another machine")

    thread = threading.Thread(target=finish)
    thread.start()
    (after,), seen = look([plan], store)
    thread.join()
    (found,) = unfinished(after, store, seen)
    assert (found.stage, found.state, found.epochs_left) == (second, RUNNING, 399)


def test_many_claims_are_watched_together(cli: Cli):
    sweep = read_sweep(cli.folder / cli.write(LONG.replace("seeds: 2", "seeds: 40"), "long.yaml"))
    store = Store(cli.folder / "results")
    plan = make_plan(sweep, store)
    for key, stage in plan.stages.items():
        if stage.parent is None:
            Elsewhere(store, plan, key, None, "another machine")
    (plan,), seen = look([plan.refreshed(store)], store)
    assert [each.state for each in unfinished(plan, store, seen)] == [SILENT] * 40


# --- by device


def running(stage: str, doing: Activity | None) -> Unfinished:
    return Unfinished(stage, f"train [bold] {stage}", RUNNING, None, None, 3, 400, doing)


def test_stages_are_grouped_by_the_gpu_itself(planned: tuple[Plan, Store]):
    """Under Ray two processes may each call their GPU cuda:0, and share it or not."""
    plan, _ = planned
    slow = replace(GPU, epochs_per_second=None, images_per_second=None, epoch=None, gpu_percent=None)
    keys = list(plan.stages)
    begun = [
        running(keys[0], GPU),
        running(keys[1], replace(GPU, device_id="GPU-2", device="cuda:0")),
        running(keys[2], slow),
        running(keys[3], replace(GPU, host="near")),
        running(keys[4], None),
    ]
    found = now(plan, begun)
    assert [(each.node, [stage.stage for stage in each.stages]) for each in found.devices] == [
        ("far", [keys[0], keys[2]]),
        ("far", [keys[1]]),
        ("near", [keys[3]]),
    ]
    assert found.epochs_per_second == 6.0
    assert found.seconds_left == pytest.approx(found.epochs_left / 10), "two of five do not say how fast they are"
    said = list(lines(found))
    assert said[0].startswith("[green]running[/]: 5 stages on 2 nodes, 6 epochs/s, ")
    assert sum("  [bold]" in line for line in said) == 4, "and one of an earlier version"
    assert any("-/400" in line and r"\[bold]" in line for line in said)


def test_processors_are_shared_by_all_that_runs_on_a_node(planned: tuple[Plan, Store]):
    plan, _ = planned
    keys = list(plan.stages)
    cpu = Activity("near", "cpu", "Xeon", None, 10, 0.5, 600.0, 99.0, 10**9, 10**10)
    (device,) = now(plan, [running(keys[0], cpu), running(keys[1], replace(cpu, cpu_percent=51.0))]).devices
    assert (device.utilisation, device.memory_used, device.memory_total) == (150.0, 2 * 10**9, 10**10)
    unknown = [running(keys[0], cpu), running(keys[1], replace(cpu, cpu_percent=None, resident=None))]
    (device,) = now(plan, unknown).devices
    assert (device.utilisation, device.memory_used) == (None, None), "half of a sum is not said"
