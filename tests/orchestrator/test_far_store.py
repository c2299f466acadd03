"""Trained weights and corrupted test sets in a store on S3: the numbers of a local one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load

from prunesweep import load_results
from prunesweep.workers.store import NETWORK, Store
from tests.in_process import run_here
from tests.s3 import bucket

TRAINED = """\
dataset: {name: synthetic, shape: [1, 8, 8], classes: 4, images: 200, test_images: 100}
model: {name: resnet8, width: 4}
train: {epochs: 1, batch_size: 64, lr: 0.1, schedule: linear}
trials:
  - {method: dense}
"""

STARTED = f"""\
{TRAINED.replace("dense", "imp, sparsity: 0.8, retrain_epochs: 1")}
init: {{path: net.pt}}
test_sets: [clean, {{corruption: gaussian_noise, severity: 3}}]
"""


@pytest.mark.slow
def test_a_sweep_from_weights_on_corrupted_images_is_the_same_far_away(tmp_path: Path):
    here = Store(tmp_path / "results")
    (tmp_path / "trained.yaml").write_text(TRAINED)
    (root,) = run_here(tmp_path / "trained.yaml", here).stages
    torch.save(load(here.read_published(root, NETWORK)), tmp_path / "net.pt")
    (tmp_path / "started.yaml").write_text(STARTED)
    run_here(tmp_path / "started.yaml", here)
    with bucket() as url:
        far = Store(f"{url}/x")
        plan = run_here(tmp_path / "started.yaml", far)
        assert plan.to_run == {}
        assert len(plan.stages) == 3, "loaded, pruned, evaluated"
        rows = load_results(far.url("started"))
        (tmp_path / "net.pt").unlink()
        assert run_here("started", far).to_run == {}, "of a sweep that is remembered the file is not needed"
        weights = [name for name in far.names("weights") if name.endswith(".safetensors")]
        assert len(weights) == 1
    expected = load_results(here.url("started"))
    measured = [name for name in rows.columns if name.startswith(("test_", "validation_", "reached_"))]
    assert "test_accuracy_corrupted" in measured
    pd.testing.assert_frame_equal(rows[measured], expected[measured], check_exact=True)
