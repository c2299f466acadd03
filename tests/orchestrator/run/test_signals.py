"""A signal to the whole process group, as `timeout`, `docker stop`, systemd, `scancel` and a terminal send it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
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

MOMENTS = 20

SECONDS_TO_LEAVE = 30.0


class Asked:
    """A sweep that is run in a process group of its own."""

    def __init__(self, folder: Path, sweep: str = SWEEP.format(name="small", seeds=2)) -> None:
        self.folder, self.family = folder, Family()
        (folder / "sweep.yaml").write_text(sweep)
        self.output = folder / "output"

    def start(self, *before: str) -> subprocess.Popen[bytes]:
        return self.family.start([*before, COMMAND, "run", "sweep.yaml"], self.folder, self.output)

    def results(self) -> int:
        return len(list((self.folder / "results/stages").glob("*/result.json")))

    def check_gone(self, process: subprocess.Popen[bytes], codes: set[int]) -> None:
        """It has left in time with one of these exit codes, has said nothing of an accident, and left nobody behind."""
        code = process.wait(timeout=SECONDS_TO_LEAVE + 10)
        left = self.family.end(grace=SECONDS_TO_LEAVE)
        printed = self.output.read_text(errors="replace")
        assert code in codes, printed
        assert not left
        assert "unexpectedly" not in printed
        assert "Traceback" not in printed


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_stages_finish_their_epoch_though_the_whole_group_is_asked(tmp_path: Path, number: signal.Signals):
    asked = Asked(tmp_path, SLOW)
    process = asked.start()
    while not list((tmp_path / "results/stages").glob("*/checkpoint*")):
        time.sleep(0.02)
        assert process.poll() is None, asked.output.read_text()
    os.killpg(process.pid, number)
    asked.check_gone(process, {130})
    assert "stopping after the next epoch of 1 running stage" in asked.output.read_text()
    assert not list((tmp_path / "results/stages").glob("*/claim.*"))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["timeout", "SIGTERM", "SIGINT"])
def test_at_twenty_moments(tmp_path: Path, way: str):
    """From the first second to the end; what is finished is kept, and the table is that of an unbroken run."""
    asked = Asked(tmp_path)
    for moment in range(MOMENTS):
        seconds = 0.7 * moment
        if way == "timeout":
            asked.check_gone(asked.start("timeout", "-s", "TERM", str(seconds + 0.1)), {0, 124})
            continue
        process = asked.start()
        while not heeds(process.pid, signal.SIGTERM):
            time.sleep(0.01)  # Python itself starts; there is no code of ours that could hear a signal
        time.sleep(seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.Signals[way])
        asked.check_gone(process, {0, 130})
    asked.check_gone(asked.start(), {0})
    frame = load_results(tmp_path / "results/small")
    assert len(frame) == 14
    unbroken = tmp_path / "unbroken"
    unbroken.mkdir()
    other = Asked(unbroken)
    other.check_gone(other.start(), {0})
    varying = ["train_images_per_second", "train_seconds", "peak_memory_bytes", "attempts", "finished_at"]
    pd.testing.assert_frame_equal(
        frame.drop(columns=varying), load_results(unbroken / "results/small").drop(columns=varying), check_exact=True
    )
