"""GPU hours, energy and cost of what is to run, worked out by hand from made-up stages of 54 s."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunesweep.workers.store import Store
from tests.orchestrator.conftest import Cli
from tests.orchestrator.finished import finish

TEXT = """\
dataset: digits
model: lenet300
seeds: 1
train: {epochs: 1}
resources: {gpus: 0.5}
trials: [{method: dense}]
"""


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """One seed is done, with 36 s of training and 18 s of all else; 200 more are asked for."""
    finish(TEXT, Store(tmp_path / "results"), tmp_path / "exp.yaml")
    return Cli(tmp_path)


def test_gpu_hours_energy_and_cost(cli: Cli):
    more = ["exp.yaml", "--set", "seeds=201"]
    assert "  gpus      1.5 GPU hours\n" in cli("plan", *more)
    printed = cli("plan", *more, "--watts", "300", "--price", "2.5")
    assert "  gpus      1.5 GPU hours, 0.45 kWh at 300 W each, 3.75 at 2.5 an hour\n" in printed
    figures = cli.json("plan", *more, "--watts", "300")
    assert figures["estimate"]["gpu_seconds"] == pytest.approx(200 * 54 * 0.5)
    bill = figures["bill"]
    assert bill == pytest.approx({"gpu_hours": 1.5, "watts": 300, "price": None, "kilowatt_hours": 0.45, "cost": None})


def test_a_sweep_without_gpus_has_no_line_of_them(cli: Cli):
    assert "  gpus " not in cli("plan", "exp.yaml", "--set", "seeds=3", "--set", "resources.gpus=0")
