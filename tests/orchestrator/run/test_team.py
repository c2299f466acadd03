"""Trials that are larger than one device, through Ray."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from prunesweep import load_results
from prunesweep.workers.store import Store
from tests.head import Head
from tests.orchestrator.conftest import Cli, descendants
from tests.orchestrator.run.test_driver import VARYING

TEXT = """\
name: small
dataset: digits
model: resnet8
train: {epochs: 3, batch_size: 64, lr: 0.1, warmup_epochs: 1, precision: float64}
trials:
  - method: imp
    sparsity: 0.9
    retrain_epochs: 1
"""
PAIRS = "resources: {replicas: 2}\n"


def table(folder: Path) -> pd.DataFrame:
    return load_results(folder / "results" / "small").drop(columns=[*VARYING, "device"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cli = Cli(tmp_path_factory.mktemp("alone"))
    cli("run", cli.write(TEXT))
    return cli.folder


@pytest.mark.slow
def test_a_sweep_with_replicas_gives_the_same_table(cli: Cli, alone: Path) -> None:
    cli("run", cli.write(TEXT + PAIRS))
    pd.testing.assert_frame_equal(table(cli.folder), table(alone), rtol=1e-9)
    assert set(load_results(cli.folder / "results" / "small").device.str[:4]) == {"2 x "}
    assert not descendants(os.getpid(), "ray::")


def test_replicas_that_the_cluster_has_no_room_for(cli: Cli) -> None:
    error = cli("run", cli.write(TEXT + "resources: {cpus: 1, replicas: 1000}\n"), code=2)
    assert "replicas of a trial with cpus: 1, gpus: 0, replicas: 1000; the cluster has" in error
    assert "Lower `resources` in the sweep file" in error


LONG = TEXT.replace("epochs: 3", "epochs: 40")


def checkpointed(cli: Cli) -> list[Path]:
    return list((cli.folder / "results/stages").glob("*/checkpoint.safetensors"))


@pytest.mark.slow
def test_a_killed_replica_costs_an_epoch_and_a_stopped_run_leaves_none_behind(cli: Cli) -> None:
    """Tune ends the leading process with it, since the room of the other may be gone."""
    process = cli.start("run", cli.write(LONG + PAIRS))
    cli.wait_for(lambda: bool(checkpointed(cli)), process)
    (member,) = descendants(process.pid, "ray::Member")
    os.kill(member, signal.SIGKILL)
    (stage,) = (cli.folder / "results/stages").iterdir()
    cli.wait_for(lambda: len(list((stage / "attempts").iterdir())) == 2, process)
    cli.wait_for(lambda: bool(descendants(process.pid, "ray::Member.run")), process)
    time.sleep(2)
    family = descendants(process.pid, "ray::")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "killed" in out
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in family):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    first, second = Store(cli.folder / "results").attempts(stage.name)
    assert (first.cause, second.cause) == ("killed", None)
    assert Store(cli.folder / "results").checkpointed_epochs(stage.name) is not None


@pytest.mark.slow
def test_what_a_replica_cannot_do_is_said_in_its_words(cli: Cli) -> None:
    """The model of the second one has no room; that of the first, which leads, waits for it."""
    (cli.folder / "mine.py").write_text(MINE)
    text = TEXT.replace("resnet8", "mine:net").replace("imp\n    sparsity: 0.9\n    retrain_epochs: 1", "dense")
    printed = cli("run", cli.write(text + PAIRS), code=1)
    assert "ValueError: this one does not fit" in printed
    assert "gloo" not in printed


MINE = """\
import torch
from torch import nn


class Wrong(nn.Linear):
    def forward(self, inputs):
        if self.training and torch.distributed.get_rank() == 1:
            raise ValueError("this one does not fit")
        return super().forward(inputs)


def net(shape, classes):
    return nn.Sequential(nn.Flatten(), Wrong(64, classes))
"""


@pytest.mark.slow
def test_replicas_on_two_nodes_give_the_same_table(tmp_path: Path, alone: Path) -> None:
    """Of one CPU each, so that neither has room for both."""
    with Head(cpus=1) as head:
        laptop = head.cli(tmp_path)
        file = laptop.write(TEXT + PAIRS)
        said = laptop.submit(file, code=2)
        assert "there is room for 1 replicas of a trial with cpus: 1, gpus: 0, replicas: 2" in said
        with head.second_node():
            assert "1 of 1 trial done" in laptop.submit(file, "--follow")
    pd.testing.assert_frame_equal(table(tmp_path), table(alone), rtol=1e-9)
