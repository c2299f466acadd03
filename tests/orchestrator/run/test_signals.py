"""A signal to the whole process group, as `timeout`, `docker stop`, systemd, `scancel` and a terminal send it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pexpect
import pytest

from prunesweep import load_results
from tests.family import Family, heeds
from tests.orchestrator.conftest import COMMAND, SWEEP

SLOW = """\
name: slow
dataset: {name: synthetic, images: 400}
model: resnet20
train: {epochs: 60}
trials: [{method: dense}]
"""
"""One stage, whose epochs take seconds."""

MOMENTS = [14 * (step / 20) ** 2 for step in range(20)]
"""In seconds after the first handler is there: close together at first, where one thing after the other is imported."""

SECONDS_TO_LEAVE = 30.0
WHOLE_RUN = 900.0
"""On a machine that many want; about a minute on a quiet one."""


class Asked:
    """A sweep that is run in a process group of its own."""

    def __init__(self, folder: Path, sweep: str = SWEEP.format(name="small", seeds=2)) -> None:
        self.folder, self.family = folder, Family()
        (folder / "sweep.yaml").write_text(sweep)
        self.output = folder / "output"

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        self.family.end(grace=0)

    def start(self, *before: str) -> subprocess.Popen[bytes]:
        return self.family.start([*before, COMMAND, "run", "sweep.yaml"], self.folder, self.output)

    def results(self) -> int:
        return len(list((self.folder / "results/stages").glob("*/result.json")))

    def check_gone(self, process: subprocess.Popen[bytes], codes: set[int], seconds: float = 0.0) -> None:
        """It has left in time with one of these exit codes, has said nothing of an accident, and left nobody behind.

        In `seconds` it is asked to.
        """
        self.check_left(process.wait(timeout=seconds + SECONDS_TO_LEAVE + 10), codes)

    def check_left(self, code: int | None, codes: set[int]) -> None:
        left = self.family.end(grace=SECONDS_TO_LEAVE)
        printed = self.output.read_text(errors="replace")
        assert code in codes, printed
        assert code != 130 or re.search("interrupted|stopping", printed), printed
        assert not left
        assert "unexpectedly" not in printed
        assert "Traceback" not in printed

    def interrupt_in_terminal(self, seconds: float) -> None:
        """Ctrl-C, pressed so long after a handler is there, in the terminal whose foreground this run is."""
        environment = {**os.environ, self.family.name: self.family.value}
        with self.output.open("wb") as printed:
            terminal = pexpect.spawn(
                str(COMMAND), ["run", "sweep.yaml"], cwd=str(self.folder), env=environment, logfile=printed
            )
            await_handler(terminal.pid)
            if terminal.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=seconds) == 1:
                terminal.sendintr()
                terminal.expect(pexpect.EOF, timeout=SECONDS_TO_LEAVE + 10)
            terminal.close()
        self.check_left(terminal.exitstatus, {0, 130})


def await_handler(pid: int) -> None:
    """Before it Python itself starts; there is no code of ours that could hear a signal."""
    while not heeds(pid, signal.SIGTERM):
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_stages_finish_their_epoch_though_the_whole_group_is_asked(tmp_path: Path, number: signal.Signals):
    with Asked(tmp_path, SLOW) as asked:
        process = asked.start()
        while not list((tmp_path / "results/stages").glob("*/checkpoint*")):
            time.sleep(0.02)
            assert process.poll() is None, asked.output.read_text()
        assert asked.family.listening() == {"127.0.0.1"}, "nobody else can reach Ray"
        os.killpg(process.pid, number)
        asked.check_gone(process, {130})
    assert "stopping after the next epoch of 1 running stage" in asked.output.read_text()
    assert not list((tmp_path / "results/stages").glob("*/claim.*"))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["timeout", "Ctrl-C", "SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2"])
def test_at_twenty_moments(tmp_path: Path, way: str):
    """From the first second to the end; what is finished is kept, and the table is that of an unbroken run."""
    with Asked(tmp_path) as asked:
        for seconds in MOMENTS:
            ask_at(seconds, way, asked)
        asked.check_gone(asked.start(), {0}, WHOLE_RUN)
    frame = load_results(tmp_path / "results/small")
    assert len(frame) == 14
    unbroken = tmp_path / "unbroken"
    unbroken.mkdir()
    with Asked(unbroken) as other:
        other.check_gone(other.start(), {0}, WHOLE_RUN)
    varying = ["train_images_per_second", "train_seconds", "peak_memory_bytes", "attempts", "finished_at"]
    pd.testing.assert_frame_equal(
        frame.drop(columns=varying), load_results(unbroken / "results/small").drop(columns=varying), check_exact=True
    )


def ask_at(seconds: float, way: str, asked: Asked) -> None:
    """Start a run, ask it to stop so long after its first handler is there, and see that it leaves well."""
    if way == "timeout":
        asked.check_gone(asked.start("timeout", "-s", "TERM", str(seconds + 0.1)), {0, 124}, seconds)
        return
    if way == "Ctrl-C":
        asked.interrupt_in_terminal(seconds)
        return
    process = asked.start()
    await_handler(process.pid)
    time.sleep(seconds)
    if process.poll() is None:
        os.killpg(process.pid, signal.Signals[way])
    asked.check_gone(process, {0, 130})
