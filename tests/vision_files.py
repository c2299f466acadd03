"""Small files in the formats of the image sets that torchvision reads, and its classes with their checksums."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.io
from numpy.typing import NDArray
from torchvision import datasets

from prunesweep.workers.data import vision

Array = NDArray[np.uint8]
Source = type[datasets.VisionDataset]

SHAPES = {"mnist": (1, 28, 28), "fashion_mnist": (1, 28, 28), "stl10": (3, 96, 96)}
"""Others are 3x32x32."""


class Images(NamedTuple):
    """Images [N, C, H, W] and their classes [N]."""

    images: Array
    targets: Array


def some(name: str, count: int, seed: int) -> Images:
    """Random images of a set's shape, with every digit as their class."""
    shape = (count, *SHAPES.get(name, (3, 32, 32)))
    images = np.random.RandomState(seed).randint(256, size=shape, dtype=np.uint8)
    return Images(images, (np.arange(count) % 10).astype(np.uint8))


def write(name: str, folder: Path, train: Images, test: Images) -> Source:
    """The set's files below `folder`; returns torchvision's class that expects these and no others."""
    source = vision.SOURCES[name].files
    if issubclass(source, datasets.MNIST):
        return write_mnist(folder, source, train, test)
    writer = {"svhn": write_svhn, "stl10": write_stl10}.get(name, write_cifar)
    return writer(folder, source, train, test)


def write_mnist(folder: Path, source: Any, train: Images, test: Images) -> Source:
    """Each file beside the archive that it is taken out of, as torchvision leaves them."""
    raw = folder / source.__name__ / "raw"
    sums = []
    for (archive, _), content in zip(source.resources, (*train, *test), strict=True):
        values = content.squeeze(1) if content.ndim == 4 else content
        header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
        _write(raw / archive.removesuffix(".gz"), header + values.tobytes())
        sums.append((archive, _write(raw / archive, gzip.compress(header + values.tobytes(), mtime=0))))
    return _with(source, resources=sums)


def write_cifar(folder: Path, source: Any, train: Images, test: Images) -> Source:
    """Training images in as many files as the set has."""
    label = "fine_labels" if source is datasets.CIFAR100 else "labels"
    place = folder / source.base_folder

    def lists(files: Any, whole: Images) -> list[tuple[str, str]]:
        parts = zip(*(np.array_split(each, len(files)) for each in whole), strict=True)
        batches = [{"data": images.reshape(len(images), -1), label: targets.tolist()} for images, targets in parts]
        return [(file, _pickle(place / file, batch)) for (file, _), batch in zip(files, batches, strict=True)]

    meta = {**source.meta, "md5": _pickle(place / source.meta["filename"], {source.meta["key"]: ["a"] * 10})}
    return _with(source, train_list=lists(source.train_list, train), test_list=lists(source.test_list, test), meta=meta)


def write_svhn(folder: Path, source: Any, train: Images, test: Images) -> Source:
    """Matlab's files; the digit 0 is class 10."""
    folder.mkdir()
    splits = {}
    for split, (images, targets) in (("train", train), ("test", test)):
        url, file, _ = source.split_list[split]
        labels = np.where(targets == 0, 10, targets)[:, None].astype(np.uint8)
        scipy.io.savemat(folder / file, {"X": images.transpose(2, 3, 1, 0), "y": labels}, do_compression=True)
        splits[split] = [url, file, _sum(folder / file)]
    return _with(source, split_list=splits)


def write_stl10(folder: Path, source: Any, train: Images, test: Images) -> Source:
    """Images column by column; classes count from 1."""
    place = folder / source.base_folder

    def lists(files: Any, whole: Images) -> list[list[str]]:
        contents = (whole.images.transpose(0, 1, 3, 2).tobytes(), (whole.targets + 1).tobytes())
        return [[file, _write(place / file, c)] for (file, _), c in zip(files, contents, strict=True)]

    return _with(source, train_list=lists(source.train_list, train), test_list=lists(source.test_list, test))


def _with(source: Source, **attributes: object) -> Source:
    return type(source.__name__, (source,), attributes)


def _pickle(path: Path, content: object) -> str:
    return _write(path, pickle.dumps(content, protocol=2))


def _write(path: Path, content: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return _sum(path)


def _sum(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()
