"""What `small_dense` trained is exported as a network of its own width, which a plain model of that width loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnxruntime
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from prunesweep import build_model, load_results
from prunesweep.workers import data
from tests.orchestrator.conftest import Cli

SHAPE, CLASSES = (3, 16, 16), 4

OPTIONS = {"shape": SHAPE, "classes": CLASSES, "images": 150, "test_images": 100}

MINE = """\
from torch import nn


def mlp(shape, classes, *, width=16, slope=0.0):
    inputs = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.LeakyReLU(slope), nn.Linear(width, classes))
"""

SWEEP = """\
name: narrow
dataset: {name: synthetic, shape: [3, 16, 16], classes: 4, images: 150, test_images: 100}
train: {epochs: 1, batch_size: 32, lr: 0.01}
trials:
  - method: small_dense
    sparsity: 0.75
    model: [MODELS]
  - method: small_dense
    sparsity: 0.75
    scales: [width]
    model: {name: "mine:mlp", width: 32, slope: 0.1}
"""


def exported(folder: Path, models: str) -> tuple[Cli, pd.DataFrame]:
    """A run of the sweep, with its networks in the folder `plain`."""
    cli = Cli(folder)
    cli.write(MINE, "mine.py")
    cli.run_here(cli.write(SWEEP.replace("MODELS", models)))
    trials = load_results(cli.folder / "results/narrow").set_index("trial", drop=False)
    said = f"{len(trials)} networks in plain, each with the table's accuracy\n"
    assert cli("export", "network", "narrow", "--to", "plain") == said
    return cli, trials


def files(folder: Path) -> dict[str, Path]:
    return {file.stem.rpartition("-")[2]: file for file in folder.iterdir()}


def built(said: dict[str, str]) -> nn.Module:
    """The plain model, by what the file says alone."""
    options = json.loads(said["network_options"])
    if said["model"] != "mine:mlp":
        return build_model(said["model"], SHAPE, CLASSES, options).eval()
    assert options == {"width": 8, "slope": 0.1}, "768 w + 4 w weights, a quarter of those with a width of 32"
    space: dict[str, Any] = {}
    exec(MINE, space)
    made: nn.Module = space["mlp"](SHAPE, CLASSES, **options)
    return made.eval()


def accuracy(logits: torch.Tensor) -> float:
    return float((logits.argmax(1) == synthetic().targets).float().mean())


def synthetic() -> Any:
    return data.load(data.choose("synthetic", OPTIONS), "").test  # type: ignore[attr-defined]


def images(said: dict[str, str]) -> torch.Tensor:
    mean, std = (torch.tensor(json.loads(said[name])).view(-1, 1, 1) for name in ("mean", "std"))
    normalised: torch.Tensor = (synthetic().images.float() / 255 - mean) / std
    return normalised


def check_plain_models(folder: Path, trials: pd.DataFrame) -> None:
    networks = files(folder)
    assert networks.keys() == set(trials.index)
    for key, file in networks.items():
        with safe_open(file, "pt") as opened:
            said, row = opened.metadata(), trials.loc[key]
        model = built(said)
        state, tensors = model.state_dict(), load_file(file)
        assert state.keys() == tensors.keys()
        state.update(tensors)  # MNASNets ask for the version that theirs has
        model.load_state_dict(state)
        parameters = list(model.parameters())
        assert sum(p.numel() for p in parameters) < 0.4 * row.parameters, "it is the narrower network"
        assert sum(int((p != 0).sum()) for p in parameters) == row.nonzero_parameters
        with torch.no_grad():
            assert accuracy(model(images(said))) == pytest.approx(row.test_accuracy, abs=0.0101)


def test_a_plain_model_of_its_width_loads_the_file_and_has_the_accuracy_of_the_table(tmp_path: Path) -> None:
    cli, trials = exported(tmp_path, "{name: cifar_resnet, depth: 8, width: 8}")
    check_plain_models(tmp_path / "plain", trials)
    one = trials.index[trials.model == "mine:mlp"][0]
    cli("export", "onnx", "narrow", "--to", "onnx", "--trial", one)
    file = files(tmp_path / "onnx")[one]
    with safe_open(files(tmp_path / "plain")[one], "pt") as opened:
        inputs = images(opened.metadata())
    (logits,) = onnxruntime.InferenceSession(file).run(["logits"], {"images": inputs.numpy()})
    assert accuracy(torch.from_numpy(logits)) == pytest.approx(trials.loc[one].test_accuracy, abs=0.0101)


@pytest.mark.slow
@pytest.mark.parametrize(
    "models",
    [
        "{name: wide_resnet, depth: 10, width: 1}, {name: resnet18, stem: imagenet}, lenet300",
        "mobilenet_v2, mnasnet1_0, vit_b_16",
        "timm:resnet18, timm:vit_tiny_patch16_224",
    ],
)
def test_so_do_the_families_of_torchvision_and_timm(tmp_path: Path, models: str) -> None:
    cli, trials = exported(tmp_path, models)
    check_plain_models(tmp_path / "plain", trials)
    said = f"{len(trials)} networks in onnx, each with the table's accuracy\n"
    assert cli("export", "onnx", "narrow", "--to", "onnx") == said
