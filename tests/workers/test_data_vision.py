"""The image sets that torchvision fetches, from small files in their own formats."""

from __future__ import annotations

import gzip
import shutil
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchvision import datasets

from prunesweep.workers import data
from prunesweep.workers.data import vision
from prunesweep.workers.data.memory import InMemory
from prunesweep.workers.errors import UserError
from prunesweep.workers.registry import load
from tests.vision_files import SHAPES, Images, some, write

NAMES = list(vision.SOURCES)
TRAINING, TEST = 50, 20


@dataclass
class Small:
    """A set's files in a folder."""

    name: str
    folder: Path
    train: Images
    test: Images

    def read(self) -> InMemory:
        dataset = load(data.DATASETS[self.name].target)(str(self.folder))
        assert isinstance(dataset, InMemory)
        return dataset

    def files(self) -> list[Path]:
        return vision.check(self.name, str(self.folder))

    def error(self) -> str:
        with pytest.raises(UserError) as caught:
            self.read()
        with pytest.raises(UserError) as checked:
            self.files()
        assert str(caught.value) == str(checked.value)
        return str(caught.value)


@pytest.fixture(params=NAMES)
def small(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    name: str = request.param
    train, test = some(name, TRAINING, 1), some(name, TEST, 2)
    files = write(name, tmp_path / "the data", train, test)
    monkeypatch.setitem(vision.SOURCES, name, replace(vision.SOURCES[name], files=files))
    return Small(name, tmp_path / "the data", train, test)


def test_images_and_classes_are_those_of_the_files(small: Small) -> None:
    given = small.read()
    assert given.shape == SHAPES.get(small.name, (3, 32, 32))
    assert [given.count(split) for split in ("train", "validation", "test")] == [45, 5, TEST]
    assert given.test.images.tolist() == small.test.images.tolist()
    assert given.test.targets.tolist() == small.test.targets.tolist()
    for split in (given.train, given.validation, given.test):
        assert (split.images.dtype, split.targets.dtype) == (torch.uint8, torch.int64)
    known = {image.tobytes(): target for image, target in zip(*small.train, strict=True)}
    read = [*zip(given.train.images, given.train.targets, strict=True)]
    read += zip(given.validation.images, given.validation.targets, strict=True)
    assert {image.numpy().tobytes(): target for image, target in read} == known


def test_recipes() -> None:
    recipes = {name: (s.padding, s.flip, s.rotation, s.classes, len(s.mean)) for name, s in vision.SOURCES.items()}
    assert recipes == {
        "mnist": (2, False, 0, 10, 1),
        "fashion_mnist": (2, True, 0, 10, 1),
        "cifar10": (4, True, 0, 10, 3),
        "cifar100": (4, True, 15, 100, 3),
        "svhn": (4, False, 0, 10, 3),
        "stl10": (12, True, 0, 10, 3),
    }


def test_recipe_and_statistics_reach_the_dataset(small: Small) -> None:
    given, source = small.read(), vision.SOURCES[small.name]
    assert (given.padding, given.flip, given.rotation) == (source.padding, source.flip, source.rotation)
    assert given.mean.tolist() == pytest.approx([255 * m for m in source.mean])
    assert given.std.tolist() == pytest.approx([255 * s for s in source.std])
    assert (given.name, given.classes) == (small.name, source.classes)
    images, _ = next(given.train_batches(seed=0, epoch=0, batch_size=8, augment=True))
    assert images.shape == (8, *given.shape)


def test_a_file_that_is_missing_or_damaged_is_named_with_the_remedy(small: Small) -> None:
    remedy = f"prunesweep data fetch {small.name} --data-dir '{small.folder}'"
    for file in small.files():
        place, content = file.relative_to(small.folder), file.read_bytes()
        for state, broken in (("damaged", content[:-1] + b"\xff"), ("damaged", content[:-1]), ("damaged", b"")):
            file.write_bytes(broken)
            assert small.error() == (
                f"dataset {small.name}: {place} in folder {small.folder} is {state}; fetch it with: {remedy}"
            )
        file.unlink()
        assert small.error() == (
            f"dataset {small.name}: {place} in folder {small.folder} is missing; fetch it with: {remedy}"
        )
        file.write_bytes(content)
    small.read()


@pytest.mark.parametrize("small", ["mnist"], indirect=True)
def test_mnist_without_its_archives_is_known_by_the_length_of_its_files(small: Small) -> None:
    for archive in small.folder.rglob("*.gz"):
        archive.unlink()
    small.read()
    for file in small.files():
        content = file.read_bytes()
        for broken in (content[:-1], content + b"0", content[:10], content[:2]):
            file.write_bytes(broken)
            assert f"{file.name} in folder {small.folder} is damaged" in small.error()
        file.write_bytes(content)


@pytest.mark.parametrize("small", ["svhn"], indirect=True)
def test_svhn_says_that_it_needs_scipy(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(UserError, match=r"^dataset svhn needs scipy; install it with: pip install scipy$"):
        small.read()


# --- fetching


@pytest.fixture
def server(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """Has the set's files as the set's own server has them; the folder is empty."""
    served = tmp_path / "served"
    served.mkdir()
    source = vision.SOURCES[small.name].files
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    if issubclass(source, datasets.MNIST):
        for archive in small.folder.rglob("*.gz"):
            shutil.copy(archive, served)
        address = {"mirrors": [url]}
    elif issubclass(source, datasets.SVHN):
        shutil.copytree(small.folder, served, dirs_exist_ok=True)
        address = {
            "split_list": {split: [url + file, file, md5] for split, (_, file, md5) in source.split_list.items()}
        }
    else:
        with tarfile.open(served / source.filename, "w:gz") as tar:
            tar.add(small.folder / source.base_folder, source.base_folder)
        address = {"url": url + source.filename, "tgz_md5": None}
    local = type(source.__name__, (source,), address)
    monkeypatch.setitem(vision.SOURCES, small.name, replace(vision.SOURCES[small.name], files=local))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    shutil.rmtree(small.folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("server")
def test_a_set_is_fetched_and_repaired(small: Small) -> None:
    vision.fetch(small.name, str(small.folder))
    assert len(small.read().test) == TEST
    for file in small.files():
        content = file.read_bytes()
        file.write_bytes(content[:-1])
        vision.fetch(small.name, str(small.folder))
        assert file.read_bytes() == content


def test_what_cannot_be_fetched_is_one_line(small: Small, server: ThreadingHTTPServer) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(
        UserError, match=f"^dataset {small.name} cannot be fetched: [^\\n]*[Cc]onnection refused[^\\n]*$"
    ):
        vision.fetch(small.name, str(small.folder))


@pytest.mark.parametrize("small", ["mnist"], indirect=True)
def test_mnist_is_repaired_from_its_archives(small: Small) -> None:
    file = small.files()[1]
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"\xff")
    vision.fetch(small.name, str(small.folder))
    assert file.read_bytes() == content == gzip.decompress(file.with_name(f"{file.name}.gz").read_bytes())
