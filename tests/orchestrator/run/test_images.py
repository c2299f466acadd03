"""A sweep on folders of one's own images, from the files to the table."""

from __future__ import annotations

import json

import pytest

from prunesweep import load_results
from tests.orchestrator.conftest import Cli
from tests.workers.pictures import write_flowers

SWEEP = """\
dataset:
  - {name: image_folder, path: flowers, size: 16, crop: padded}
  - {name: image_folder, path: flowers, size: 32}
  - {name: image_folder, path: damaged, size: 32}
model: resnet8
train: {epochs: 3, batch_size: 32, lr: 0.05}
trials:
  - {method: imp, sparsity: 0.8, retrain_epochs: 1}
"""


@pytest.mark.slow
def test_a_sweep_on_folders_of_images(cli: Cli):
    """Kept in memory, and streamed; with one damaged file, that trial fails and says which."""
    write_flowers(cli.folder / "data" / "flowers", 70, ("jpg", "JPEG", "png"))
    damaged = write_flowers(cli.folder / "data" / "damaged", 20) / "rose" / "004.jpg"
    damaged.write_bytes(damaged.read_bytes()[:300])
    assert "2 of 3 trials done" in cli("run", cli.write(SWEEP, "flowers.yaml"), "--loaders", "1", code=1)
    frame = load_results(cli.folder / "results" / "flowers")
    assert len(frame) == 2
    assert frame.dense_test_accuracy.min() > 0.6, "the classes differ in colour"
    assert frame.reached_sparsity.tolist() == pytest.approx([0.8, 0.8], abs=1e-4)
    (failure,) = json.loads(cli("status", "flowers", "--json"))[0]["failures"]
    assert failure["cause"] == "bad request"
    assert f"{damaged} is no readable image (Image is incomplete or truncated); replace it" in failure["message"]
