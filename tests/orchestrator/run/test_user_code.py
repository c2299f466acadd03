"""Networks of one's own that misbehave: each fails with a cause of its own, and the other trials are unharmed."""

from __future__ import annotations

import json

import pytest

from tests.orchestrator.conftest import Cli

MODELS = """
import ctypes
import os
import time

import torch


class Net(torch.nn.Module):
    def __init__(self, *, classes):
        super().__init__()
        self.hidden, self.last, self.batches = torch.nn.Linear(64, 16), torch.nn.Linear(16, classes), 0

    def forward(self, images):
        self.batches += self.training
        if self.batches == 3:
            self.misbehave()
        return self.last(self.hidden(images.flatten(1)).relu())

    def misbehave(self):
        pass


class Hangs(Net):
    def misbehave(self):
        time.sleep(3600)


class Holds(Net):
    def misbehave(self):
        ctypes.PyDLL(None).read(os.pipe()[0], ctypes.create_string_buffer(1), 1)


class Exits(Net):
    def misbehave(self):
        os._exit(3)


class Crashes(Net):
    def misbehave(self):
        ctypes.string_at(0)


class Forks(Net):
    def misbehave(self):
        if os.fork() == 0:
            time.sleep(2)
            os._exit(0)


class Prints(Net):
    def misbehave(self):
        for _ in range(300):
            print("x" * 2**20)


class Raises(Net):
    def misbehave(self):
        raise KeyError("a batch")
"""

SWEEP = """\
name: mine
dataset: digits
model: [{models}]
train: {{epochs: 3, batch_size: 64}}
trials: [{{method: dense}}]
"""


FEW = """
import torch


def few(*, shape):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
"""


def test_a_network_that_cannot_train_is_refused_before_anything_is_started(cli: Cli):
    cli.write(FEW, "mine.py")
    printed = cli("run", cli.write(SWEEP.format(models="resnet8, 'mine:few'")), code=2)
    assert "model mine:few gives 3 logits for 10 classes" in printed
    assert "starting Ray" not in printed
    assert not list((cli.folder / "results").rglob("*.json"))


@pytest.mark.slow
def test_each_has_its_own_cause_and_the_others_are_done(cli: Cli):
    cli.write(MODELS, "mine.py")
    names = ["Net", "Hangs", "Holds", "Exits", "Crashes", "Forks", "Prints", "Raises"]
    sweep = cli.write(SWEEP.format(models=", ".join(f"'mine:{name}'" for name in names)))
    answer = cli.ask("run", sweep, "--stall-limit", "0.5", seconds=580)
    assert answer.code == 1
    assert "3 of 8 trials done" in answer.out
    (status,) = json.loads(cli("status", "mine", "--json"))
    causes = {name: failure["cause"] for failure in status["failures"] for name in names if name in failure["label"]}
    stalled, killed = dict.fromkeys(["Hangs", "Holds"], "stalled"), dict.fromkeys(["Exits", "Crashes"], "killed")
    assert causes == {**stalled, **killed, "Raises": "user code"}
    for failure in (failure for failure in status["failures"] if failure["cause"] == "stalled"):
        assert failure["message"].startswith("it drew no batch for 3")
        assert failure["message"].endswith("in misbehave")
        assert "mine.py, line" in failure["message"]
    assert "mine.py" in cli("logs", "mine")
