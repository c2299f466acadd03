"""The documented example: torchvision's ResNet-18 out of a file, pruned on a folder of images."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image

from prunesweep import load_results, plan
from prunesweep.workers.store import Store
from tests.in_process import run_here

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs/examples/pretrained.yaml"


def test_the_example_is_the_documents():
    text = EXAMPLE.read_text().partition("\n")[2]
    assert f"# pretrained.yaml\n{text}" in (ROOT / "docs/models.md").read_text()
    assert len(EXAMPLE.read_text().splitlines()) < 20


NORMALISED = """\
dataset: {name: synthetic, shape: [3, 64, 64]}
model: shufflenet_v2_x0_5
init: {torchvision: IMAGENET1K_V1, head: new}
train_from_init: {epochs: 1, lr: 0.1}
trials:
  - {method: dense}
"""


def test_weights_that_know_images_of_another_mean_are_named_in_the_plan(tmp_path: Path):
    """torchvision says of its weights 0.485 and 0.229; synthetic images are normalised by their own."""
    weights = torchvision.models.get_model_weights("shufflenet_v2_x0_5")["IMAGENET1K_V1"]
    model = torchvision.models.shufflenet_v2_x0_5()
    torch.save(model.state_dict(), tmp_path / weights.url.rpartition("/")[2])
    (tmp_path / "x.yaml").write_text(NORMALISED)
    head, normalised = plan(tmp_path / "x.yaml", tmp_path / "results", data_dir=tmp_path).sweep.starts
    assert head.endswith("starts with random fc.bias, fc.weight")
    start = "IMAGENET1K_V1 knows images normalised by mean 0.485, 0.456, 0.406 and deviation 0.229, 0.224, 0.225; "
    assert normalised.startswith(f"{start}synthetic has mean ")
    assert "has mean 0.478, 0.51, 0.504 and deviation" in normalised


@pytest.mark.slow
def test_three_methods_at_three_sparsities_from_torchvisions_weights(tmp_path: Path):
    shutil.copy(EXAMPLE, tmp_path)
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    for number, flower in enumerate(("daisy", "rose", "tulip")):
        (tmp_path / "flowers" / flower).mkdir(parents=True)
        for index in range(10):
            colour = (80 * number, 20 * index, 255 - 80 * number)
            Image.new("RGB", (40, 40), colour).save(tmp_path / "flowers" / flower / f"{index}.png")
    plan = run_here(tmp_path / "pretrained.yaml", Store(tmp_path / "results"), tmp_path)
    (line,) = plan.sweep.starts
    assert line.endswith(": resnet18 starts with random fc.bias, fc.weight")
    rows = load_results(tmp_path / "results/pretrained")
    assert rows.groupby("method").size().to_dict() == {"dense": 1, "imp": 3, "gmp": 3, "gsm": 3}
    assert set(rows.total_epochs) == {4}
    assert (rows.reached_sparsity - rows.target_sparsity.fillna(0)).abs().max() < 1e-6
    assert rows.init.str.fullmatch(r"resnet18\.pth \w{6}, new head").all()
