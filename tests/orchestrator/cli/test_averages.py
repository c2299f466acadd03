"""A plan says where an average of weights is mostly what it began with."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunesweep import plan
from prunesweep.orchestrator.cli.averages import fitting, short_averages
from prunesweep.workers.store import Store

SWEEP = """\
dataset: {name: synthetic, shape: [1, 8, 8], classes: 4, images: 400}
model: lenet300
train: {epochs: 60, batch_size: 45, ema: EMA}
trials:
  - {method: imp, sparsity: [0.5, 0.8], retrain_epochs: 5}
"""


@pytest.mark.parametrize(
    ("ema", "said"),
    [
        ("0.9", []),
        ("0.99", ["ema 0.99 in a retraining of 40 iterations leaves 67% of the network just pruned in what is"]),
        ("0.99, publish_ema: false", []),
        ("[0.9, 0.999]", ["ema 0.999 in a retraining of 40 iterations leaves 96% of the network just pruned in"]),
    ],
)
def test_the_average_that_is_too_long_is_named(ema: str, said: list[str], tmp_path: Path):
    """Of 360 images in batches of 45 a retraining has 40 iterations: 0.99^40 = 0.669, 0.9^40 = 0.015."""
    (tmp_path / "x.yaml").write_text(SWEEP.replace("EMA", ema))
    lines = list(short_averages(plan(tmp_path / "x.yaml", Store(tmp_path / "store").location), str(tmp_path)))
    assert [line[: len(start)] for line, start in zip(lines, said, strict=True)] == said
    assert all(line.endswith(": take 0.94 or less") for line in lines)


@pytest.mark.parametrize(("iterations", "decay"), [(1, 0.1), (40, 0.94), (1000, 0.997), (230_000, 0.99998)])
def test_the_decay_that_fits_leaves_a_tenth_at_most(iterations: int, decay: float):
    """0.1^(1/40) = 0.9441, 0.1^(1/1000) = 0.99770, 0.1^(1/230000) = 0.9999900."""
    assert fitting(iterations) == decay
    assert decay**iterations <= 0.1 + 1e-9
