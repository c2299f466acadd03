"""The verbs `data fetch` and `data check`, and a dataset of one's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.orchestrator.conftest import Cli
from tests.vision_files import some, write

OWN = Path(__file__).parents[3] / "docs" / "examples" / "shapes_dataset.py"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server can be reached, wherever the tests run."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("no_proxy", raising=False)


def write_mnist(folder: Path) -> None:
    """Files that are whole as far as their headers say: they have no archives beside them."""
    write("mnist", folder, some("mnist", 50, 1), some("mnist", 20, 2))
    for archive in folder.rglob("*.gz"):
        archive.unlink()


def test_check_shows_what_a_dataset_has(cli: Cli):
    write_mnist(cli.folder / "data")
    assert cli("data", "check", "mnist") == (
        "mnist in data: ready\n"
        "  images   45 train, 5 validation, 20 test\n"
        "  shape    1x28x28, 10 classes\n"
        "  files    4, all whole, 55 kB\n"
    )
    assert cli.json("data", "check", "mnist", "--data-dir", "data") == {
        "name": "mnist",
        "folder": "data",
        "shape": [1, 28, 28],
        "classes": 10,
        "images": {"train": 45, "validation": 5, "test": 20},
        "files": 4,
        "bytes": 70 * 784 + 2 * 16 + 70 + 2 * 8,
    }


def test_the_folder_may_be_set_for_all_commands(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    write_mnist(cli.folder / "elsewhere")
    monkeypatch.setenv("PRUNESWEEP_DATA", "elsewhere")
    assert cli.json("data", "check", "mnist")["folder"] == "elsewhere"


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_a_dataset_without_files_is_always_there(name: str, cli: Cli):
    assert cli("data", "check", name).startswith(f"{name}: ready\n")
    assert cli("data", "fetch", name) == f"{name} has nothing to fetch\n"
    assert list(cli.folder.iterdir()) == []


def test_a_truncated_file_is_named(cli: Cli):
    write_mnist(cli.folder / "data")
    file = cli.folder / "data/MNIST/raw/t10k-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    code, out, err = cli.ask("data", "check", "mnist")
    assert (code, out) == (2, "")
    assert err == (
        "error: dataset mnist: MNIST/raw/t10k-labels-idx1-ubyte in folder data is damaged; "
        "fetch it with: prunesweep data fetch mnist --data-dir data\n"
    )


@pytest.mark.parametrize("name", ["cifar10", "stl10"])
def test_what_is_absent_is_one_line_with_the_command_that_fetches_it(name: str, cli: Cli):
    code, out, err = cli.ask("data", "check", name, "--data-dir", "my data", "--json")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert f"dataset {name}: " in err
    assert "in folder my data is missing" in err
    assert err.endswith(f"fetch it with: prunesweep data fetch {name} --data-dir 'my data'\n")


@pytest.mark.usefixtures("offline")
def test_fetching_without_a_network_is_an_error_of_one_line(cli: Cli):
    code, out, err = cli.ask("data", "fetch", "cifar10")
    assert (code, out) == (2, "")
    assert err.startswith("error: dataset cifar10 cannot be fetched: ")
    assert err.endswith("; try again, or copy its folder to here\n")
    assert err.count("\n") == 1


@pytest.mark.usefixtures("offline")
def test_what_is_there_is_not_fetched_again(cli: Cli):
    write_mnist(cli.folder / "data")
    assert cli("data", "fetch", "mnist") == "mnist is already in data\n"


def test_an_unknown_dataset_is_refused(cli: Cli):
    for verb in ("check", "fetch"):
        code, out, err = cli.ask("data", verb, "cifar")
        assert (code, out) == (2, "")
        assert 'unknown dataset "cifar": allowed are ' in err


def test_a_dataset_of_ones_own_is_checked(cli: Cli):
    """From a file in the folder where the command is run: the documented example."""
    (cli.folder / OWN.name).write_text(OWN.read_text())
    assert cli("data", "check", "shapes_dataset:shapes").splitlines()[1:] == [
        "  images   360 train, 40 validation, 100 test",
        "  shape    1x16x16, 2 classes",
    ]
    assert cli("data", "fetch", "shapes_dataset:shapes") == "shapes_dataset:shapes has nothing to fetch\n"
    (cli.folder / "sweep.yaml").write_text(OWN.with_suffix(".yaml").read_text())
    assert cli("validate", "sweep.yaml") == "sweep.yaml: valid, 4 trials\n"


def test_a_dataset_of_ones_own_may_bring_its_files(cli: Cli):
    """Functions `fetch` and `check` beside it, by their names."""
    files = """
from pathlib import Path
from prunesweep.workers.errors import UserError

def fetch(name, folder):
    Path(folder).mkdir()
    (Path(folder) / "shapes.txt").write_text(name)

def check(name, folder):
    file = Path(folder) / "shapes.txt"
    if not file.exists():
        raise UserError(f"{file} is missing")
    return [file]
"""
    (cli.folder / OWN.name).write_text(OWN.read_text() + files)
    assert cli("data", "check", "shapes_dataset:shapes", code=2) == "error: data/shapes.txt is missing\n"
    assert cli("data", "fetch", "shapes_dataset:shapes") == "shapes_dataset:shapes is fetched into data\n"
    assert "  files    1, all whole, 21 B\n" in cli("data", "check", "shapes_dataset:shapes")


def write_shapes(cli: Cli) -> None:
    """Two classes of 20 pictures in folders of splits, one picture in both, one of a single colour, one text."""
    draw = np.random.RandomState(0)
    for split, count in {"Training": 20, "Testing": 5}.items():
        for name in ("cat", "dog"):
            folder = cli.folder / "data" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                Image.fromarray(draw.randint(0, 256, (10, 12, 3)).astype(np.uint8)).save(folder / f"{index}.png")
    shutil.copy(cli.folder / "data/Training/cat/3.png", cli.folder / "data/Testing/cat/copy.png")
    Image.new("L", (30, 40), 7).save(cli.folder / "data/Training/dog/flat.png")
    (cli.folder / "data/Training/dog/notes.txt").touch()


def test_check_of_a_folder_says_what_is_in_it(cli: Cli):
    write_shapes(cli)
    checked = cli.json("data", "check", "image_folder")
    assert checked["files"] == 41 + 11
    assert checked["images"]["test"] == 11
    assert checked["by_class"]["cat"]["test"] == 6
    assert sum(checked["by_class"]["dog"][split] for split in ("train", "validation")) == 21
    assert (checked["modes"], checked["sizes"]) == ({"RGB": 51, "L": 1}, {"12x10": 51, "30x40": 1})
    assert checked["passed_over"] == {".txt": 1}
    assert checked["across_splits"] in (
        [["Training/cat/3.png", "Testing/cat/copy.png"]],
        [["Testing/cat/copy.png", "Training/cat/3.png"]],
    )
    shown = cli("data", "check", "image_folder")
    assert "  passed over: 1 .txt\n" in shown
    assert "  note     folders are splits: Testing is the test set, Training is the train set\n" in shown
    assert "pictures that are in more than one split: 1, such as Training/cat/3.png = Testing/cat/copy.png" in shown
    assert "pictures of a single value: 1, such as " in shown


def test_check_of_a_sweep_file_is_of_its_datasets_with_their_options(cli: Cli):
    write_shapes(cli)
    (cli.folder / "data").rename(cli.folder / "shapes")
    text = "dataset: [digits, {name: image_folder, path: shapes, size: 8, crop: padded}]\nmodel: lenet300\n"
    file = cli.write(f"{text}trials: [{{method: dense}}]\n")
    shown = cli("data", "check", file, "--data-dir", ".")
    assert "digits: ready\n" in shown
    assert "  shape    3x8x8, 2 classes\n" in shown
