"""Exported networks are the trials' own: plain models load them, and they have the tables' accuracy. A real run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prunesweep import load_results
from prunesweep.orchestrator.export import networks
from prunesweep.workers import data, models
from prunesweep.workers.errors import UserError
from prunesweep.workers.seal import sealed_json, unsealed_json
from tests.networks import prunable_weights
from tests.orchestrator.conftest import Cli

MINE = """\
from torch import nn


def mlp(shape, classes, *, width=16):
    inputs = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, classes))


class Moody(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layers = mlp(shape, classes)

    def forward(self, x):
        return self.layers(x if x.sum() > 0 else -x)
"""

SWEEP = """\
name: nets
dataset: {name: synthetic, shape: [3, 16, 16], classes: 4, images: 300, test_images: 100}
train: {epochs: 2, batch_size: 32, lr: 0.05}
trials:
  - method: imp
    sparsity: 0.9
    retrain_epochs: 1
    model:
      - {name: cifar_resnet, depth: 8, width: 4}
      - {name: resnet18, stem: imagenet}
      - {name: "mine:mlp", width: 32}
      - mine:Moody
  - method: gmp
    sparsity: 0.5
    pruning_interval: 1
    model: {name: cifar_resnet, depth: 8, width: 4}
    train: {precision: [bfloat16, float64]}
"""

SHAPE, CLASSES = (3, 16, 16), 4

OPTIONS = {"shape": SHAPE, "classes": CLASSES, "images": 300, "test_images": 100}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    cli = Cli(tmp_path_factory.mktemp("ran"))
    cli.write(MINE, "mine.py")
    cli.run_here(cli.write(SWEEP))
    assert cli("export", "network", "nets", "--to", "plain") == "6 networks in plain, each with the table's accuracy\n"
    return cli


@pytest.fixture(scope="module")
def trials(ran: Cli) -> pd.DataFrame:
    return load_results(ran.folder / "results/nets").set_index("trial", drop=False)


@pytest.fixture
def copied(ran: Cli, tmp_path: Path) -> Cli:
    """The same store, to damage."""
    shutil.copytree(ran.folder / "results", tmp_path / "results")
    shutil.copy(ran.folder / "mine.py", tmp_path)
    return Cli(tmp_path)


def exported(folder: Path, suffix: str) -> dict[str, Path]:
    """Files by the trial in their name."""
    return {file.stem.rpartition("-")[2]: file for file in folder.iterdir() if file.suffix == suffix}


def stored(ran: Cli, row: Any) -> Path:
    return ran.folder / "results/stages" / row.stage_keys[-1] / "network.safetensors"


def plain(row: Any) -> nn.Module:
    """The model as anyone builds it, who knows nothing of trials."""
    if row.model == "resnet18":
        return torchvision.models.resnet18(num_classes=CLASSES)
    choice = models.choose("cifar_resnet", {"depth": 8, "width": 4})
    if row.model != "cifar_resnet":
        space: dict[str, Any] = {}
        exec(MINE, space)
        options = {"width": 32} if row.model == "mine:mlp" else {}
        made: nn.Module = space[row.model.partition(":")[2]](SHAPE, CLASSES, **options)
        return made
    return models.build(choice, SHAPE, CLASSES)


def hits(compute: Callable[[Tensor], Tensor], said: dict[str, str]) -> int:
    """Correct images of the test set, normalised as a file says."""
    test = data.load(data.choose("synthetic", OPTIONS), "").test  # type: ignore[attr-defined]
    mean, std = (torch.tensor(json.loads(said[name])).view(-1, 1, 1) for name in ("mean", "std"))
    images = (test.images.float() / 255 - mean) / std
    return int((compute(images).argmax(1) == test.targets).sum())


def check_metadata(said: dict[str, str], row: Any) -> None:
    for name in ("dataset", "dataset_options", "model", "method", "trial", "torch_version"):
        assert said[name] == row[name]
    for name in ("target_sparsity", "reached_sparsity", "test_accuracy", "seed", "total_epochs"):
        assert json.loads(said[name]) == row[name]
    assert "pruning_interval" in said or row.method == "imp", "what a trial does not have is left out"
    assert json.loads(said["shape"]) == [*SHAPE]
    assert json.loads(said["classes"]) == CLASSES
    assert said["prunesweep_version"].count(".") == 2


# --- safetensors


def test_a_plain_model_loads_the_file_and_has_the_accuracy_of_the_table(ran: Cli, trials: pd.DataFrame):
    files = exported(ran.folder / "plain", ".safetensors")
    assert files.keys() == set(trials.index)
    for key, file in files.items():
        row, network = trials.loc[key], load_file(file)
        own = load_file(stored(ran, row))
        assert network.keys() == own.keys()
        assert all(torch.equal(network[name], own[name]) and network[name].dtype == own[name].dtype for name in own)
        model = plain(row)
        model.load_state_dict(network, strict=True)
        model.eval()
        with safe_open(file, "pt") as opened:
            said = opened.metadata()
        check_metadata(said, row)
        weights = [weight.detach() for weight in prunable_weights(model, SHAPE).values()]
        zeros, count = sum(int((w == 0).sum()) for w in weights), sum(w.numel() for w in weights)
        assert zeros / count == row.reached_sparsity
        with torch.no_grad():
            found = hits(model, said)
        # Other batches, threads and (for bfloat16) another precision than the stage's.
        assert abs(found - round(100 * row.test_accuracy)) <= (0 if row.precision == "float32" else 2)


def test_where_and_a_keys_beginning_choose_what_is_exported(ran: Cli, trials: pd.DataFrame):
    key = trials.index[0]
    ran("export", "network", "nets", "--to", "chosen", "--where", "model=resnet18", "--where", "method=imp")
    ran("export", "network", "results/nets", "--to", "chosen", "--trial", key[:9], "--no-check")
    (other,) = trials.index[trials.model == "resnet18"]
    assert exported(ran.folder / "chosen", ".safetensors").keys() == {key, other}


# --- ONNX


@pytest.fixture(scope="module")
def programs(ran: Cli) -> dict[str, Path]:
    printed = ran("export", "onnx", "nets", "--to", "onnx", code=1)
    head, said = printed.splitlines()
    assert head.startswith("5 networks in onnx, each with")
    assert said.startswith("error: trial ")
    assert ": mine:Moody cannot be written as ONNX: " in said
    return exported(ran.folder / "onnx", ".onnx")


def test_an_onnx_program_has_the_weights_bit_for_bit_and_takes_any_number_of_images(
    ran: Cli, trials: pd.DataFrame, programs: dict[str, Path]
):
    assert programs.keys() == set(trials.index[trials.model != "mine:Moody"])
    assert sorted(file.name for file in (ran.folder / "onnx").iterdir()) == sorted(f.name for f in programs.values())
    for key, file in programs.items():
        row, program = trials.loc[key], onnx.load(file)
        onnx.checker.check_model(program, full_check=True)
        tensors = {each.name: onnx.numpy_helper.to_array(each) for each in program.graph.initializer}
        own = load_file(stored(ran, row))
        model = plain(row)
        for name in prunable_weights(model, SHAPE):
            assert np.array_equal(tensors[name], own[name].float().numpy()), name
        said = {each.key: each.value for each in program.metadata_props}
        check_metadata(said, row)
        session = onnxruntime.InferenceSession(file)

        def compute(images: Tensor, session: Any = session) -> Tensor:
            parts = [session.run(["logits"], {"images": part.numpy()})[0] for part in images.split([1, 7, 92])]
            return torch.from_numpy(np.concatenate(parts))

        assert abs(hits(compute, said) - round(100 * row.test_accuracy)) <= 1


# --- what is not exported


def damage(network: Path) -> None:
    """Other weights, with a sum that fits them: as if a trial's code had changed."""
    tensors = load_file(network)
    save_file({name: -tensor if name == "fc.weight" else tensor for name, tensor in tensors.items()}, network)
    place = network.with_name("result.json")
    result = unsealed_json(place.read_bytes())
    files = {**result["files"], network.name: sha256(network.read_bytes()).hexdigest()}
    place.write_bytes(sealed_json({**result, "files": files}))


@pytest.mark.parametrize(
    ("verb", "suffix"), [("network", ".safetensors"), pytest.param("onnx", ".onnx", marks=pytest.mark.slow)]
)
def test_a_network_without_the_tables_accuracy_is_not_exported(
    copied: Cli, trials: pd.DataFrame, verb: str, suffix: str
):
    row = trials[(trials.model == "cifar_resnet") & (trials.method == "imp")].iloc[0]
    damage(stored(copied, row))
    printed = copied(
        "export", verb, "nets", "--to", "out", "--where", "model=cifar_resnet,mine:mlp", "--where", "method=imp", code=1
    )
    assert "1 network in out, each with" in printed
    assert f"error: trial {row.trial}: the exported network has a test accuracy of 0." in printed
    assert f"the table says {row.test_accuracy:.6f}: " in printed
    assert row.trial not in exported(copied.folder / "out", suffix)
    assert len(list((copied.folder / "out").iterdir())) == 1
    printed = copied("export", verb, "nets", "--to", "out", "--trial", row.trial, "--no-check")
    assert printed == "1 network in out, not checked\n"
    assert row.trial in exported(copied.folder / "out", suffix)


def test_a_damaged_network_and_a_missing_one_are_lines_with_the_command_that_computes_them_again(
    copied: Cli, trials: pd.DataFrame
):
    cut, gone = (stored(copied, row) for row in trials.iloc[:2].itertuples())
    cut.write_bytes(cut.read_bytes()[:-1])
    shutil.rmtree(gone.parent)
    printed = copied("export", "network", "nets", "--to", "out", code=1)
    assert printed.count("error: trial ") == 2
    assert printed.count("is missing or damaged; compute it again with: prunesweep resume nets\n") == 2
    assert exported(copied.folder / "out", ".safetensors").keys() == set(trials.index[2:])
    assert "4 done" in copied("status", "nets"), "resume would not compute it again"


@pytest.mark.slow
def test_a_network_whose_code_has_changed_is_a_line(copied: Cli):
    copied.write(MINE.replace("width)", "2 * width)").replace("(width,", "(2 * width,"), "mine.py")
    printed = copied("export", "network", "nets", "--to", "out", "--where", "model=mine:mlp", code=2)
    assert "error: model mine:mlp: mine.py, or what it imports, has changed since this trial was planned" in printed
    assert not (copied.folder / "out").exists()


@pytest.mark.parametrize(
    ("conditions", "prefix", "said"),
    [
        ([], "z", '--trial: "z" begins no key of the finished trials asked for'),
        ([], "", '--trial: "" begins the keys of 6 trials, give more of one: .*, [.]{3}$'),
        (["model=lenet5"], None, 'unknown model "lenet5"'),
        (["seed>0"], None, '"seed>0" leaves none of 6 rows: seed is from 0 to 0'),
    ],
)
def test_who_asks_for_no_trial_is_told(ran: Cli, conditions: list[str], prefix: str | None, said: str):
    with pytest.raises(UserError, match=said):
        networks.rows([str(ran.folder / "results/nets")], conditions, prefix)


@pytest.mark.slow
def test_a_device_that_is_not_here_is_a_line(ran: Cli):
    code, out, err = ran.ask("export", "network", "nets", "--to", "x", "--device", "cuda:99")
    assert (code, out) == (2, "")
    assert err.startswith('error: --device: "cuda:99" is not here: torch sees ')
    assert len(err.splitlines()) == 1
    assert not (ran.folder / "x").exists()


def test_without_the_extra_it_is_a_line(ran: Cli):
    code = "import sys; sys.modules['onnxscript'] = None; from prunesweep.orchestrator.cli.main import main\n"
    code += "sys.argv = ['prunesweep', 'export', 'onnx', 'nets', '--to', 'x']; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ran.folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: export onnx needs: pip install 'prunesweep[onnx]'\n"
