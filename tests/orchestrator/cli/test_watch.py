"""`watch`: the status of a store, again and again; from files alone, whoever writes them."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import pytest

from prunesweep.workers.store import Store
from tests.orchestrator.conftest import COMMAND, Cli
from tests.orchestrator.finished import finish

TEXT = """\
dataset: digits
model: lenet300
train: {epochs: 2}
trials:
  - {method: dense}
  - {method: imp, sparsity: [0.8, 0.9], retrain_epochs: 1}
"""


@pytest.fixture
def unfinished(tmp_path: Path) -> Cli:
    """Of three trials one is done, and the others were never started."""
    finish(TEXT, Store(tmp_path / "results"), tmp_path / "exp.yaml", lambda stage: "left" if stage.sparsity else None)
    return Cli(tmp_path)


def test_it_ends_when_nothing_is_left_to_run(unfinished: Cli):
    finish(TEXT, Store(unfinished.folder / "results"), unfinished.folder / "exp.yaml")
    assert unfinished("watch", "exp").splitlines() == ["exp: 3 trials: 3 done"]
    assert unfinished("watch").splitlines() == ["exp: 3 trials: 3 done"]


def test_on_a_terminal_it_draws_anew_until_another_process_has_finished_the_sweep(unfinished: Cli):
    ours, theirs = pty.openpty()
    command = [str(COMMAND), "watch", "exp", "--every", "0.1"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    watching = subprocess.Popen(command, cwd=unfinished.folder, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    drawn = read_until("1 done, 2 new", ours)
    finish(TEXT, Store(unfinished.folder / "results"), unfinished.folder / "exp.yaml")
    drawn += read_until("3 done", ours)
    assert watching.wait(timeout=60) == 0
    assert max(map(len, re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", drawn).splitlines())) <= 80


def read_until(text: str, terminal: int) -> str:
    drawn = ""
    while text not in re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", drawn):
        drawn += os.read(terminal, 4096).decode()
    return drawn


def test_ctrl_c_ends_it(unfinished: Cli):
    watching = unfinished.start("watch", "exp")
    assert watching.stdout is not None
    assert watching.stdout.readline() == "exp: 3 trials: 1 done, 2 new\n"
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=60)
    assert (watching.returncode, err) == (130, "")
