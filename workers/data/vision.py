"""The small image sets of the pruning literature, read from the files that torchvision fetches.

Means and deviations are the published ones, of images in [0, 1].
"""

from __future__ import annotations

import shlex
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from math import prod
from pathlib import Path
from struct import unpack
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import check_integrity, download_and_extract_archive

from prunesweep.workers.data.memory import InMemory, Split, split_validation
from prunesweep.workers.data.splits import ValidationSplit
from prunesweep.workers.errors import UserError


class _Labelled(datasets.STL10):  # type: ignore[misc]
    """Without the 2.7 GB of images that have no label: to check their sum would take longer than to read the others."""

    train_list = datasets.STL10.train_list[:2]


@dataclass(frozen=True)
class Source:
    """torchvision's class, which knows the files and their sums, and how its images are normalised and augmented."""

    files: type[datasets.VisionDataset]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int
    flip: bool = False
    rotation: float = 0.0
    classes: int = 10


SOURCES = {
    "mnist": Source(datasets.MNIST, (0.1307,), (0.3081,), padding=2),
    "fashion_mnist": Source(datasets.FashionMNIST, (0.2860,), (0.3530,), padding=2, flip=True),
    "cifar10": Source(datasets.CIFAR10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), padding=4, flip=True),
    "cifar100": Source(
        datasets.CIFAR100,
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
        padding=4,
        flip=True,
        rotation=15.0,
        classes=100,
    ),
    "svhn": Source(datasets.SVHN, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), padding=4),
    "stl10": Source(_Labelled, (0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713), padding=12, flip=True),
}


def mnist(
    folder: str, *, validation_fraction: float = 0.1, validation_seed: int = 0, stratify: bool = False
) -> InMemory:
    """MNIST (LeCun et al. 1998): 60,000 and 10,000 images of 1x28x28. Crops with padding 2; a digit is not mirrored."""
    return _read("mnist", folder, ValidationSplit(validation_fraction, validation_seed, stratify))


def fashion_mnist(
    folder: str, *, validation_fraction: float = 0.1, validation_seed: int = 0, stratify: bool = False
) -> InMemory:
    """Fashion-MNIST (Xiao et al. 2017): 60,000 and 10,000 images of 1x28x28. Crops with padding 2, mirror images."""
    return _read("fashion_mnist", folder, ValidationSplit(validation_fraction, validation_seed, stratify))


def cifar10(
    folder: str, *, validation_fraction: float = 0.1, validation_seed: int = 0, stratify: bool = False
) -> InMemory:
    """CIFAR-10 (Krizhevsky 2009): 50,000 and 10,000 images of 3x32x32. Crops with padding 4, mirror images."""
    return _read("cifar10", folder, ValidationSplit(validation_fraction, validation_seed, stratify))


def cifar100(
    folder: str, *, validation_fraction: float = 0.1, validation_seed: int = 0, stratify: bool = False
) -> InMemory:
    """CIFAR-100: as `cifar10`, in 100 classes, and with rotations by up to 15 degrees."""
    return _read("cifar100", folder, ValidationSplit(validation_fraction, validation_seed, stratify))


def svhn(
    folder: str, *, validation_fraction: float = 0.1, validation_seed: int = 0, stratify: bool = False
) -> InMemory:
    """SVHN (Netzer et al. 2011): 73,257 and 26,032 images of 3x32x32, the extra ones left out. Crops with padding 4."""
    return _read("svhn", folder, ValidationSplit(validation_fraction, validation_seed, stratify))


def stl10(
    folder: str, *, validation_fraction: float = 0.1, validation_seed: int = 0, stratify: bool = False
) -> InMemory:
    """STL-10 (Coates et al. 2011): 5,000 and 8,000 labelled images of 3x96x96. Crops with padding 12, mirror images."""
    return _read("stl10", folder, ValidationSplit(validation_fraction, validation_seed, stratify))


def check(name: str, folder: str) -> list[Path]:
    """The dataset's files, all whole; raises `UserError` with the first that is missing or damaged."""
    files = _files(SOURCES[name].files, folder)
    for path, md5 in files:
        fault = _fault(path, md5)
        if fault:
            command = f"prunesweep data fetch {name} --data-dir {shlex.quote(folder)}"
            place = path.relative_to(_root(folder))
            raise UserError(f"dataset {name}: {place} in folder {folder} is {fault}; fetch it with: {command}")
    return [path for path, _ in files]


def fetch(name: str, folder: str) -> None:
    """Download and unpack what is missing or damaged; raises `UserError` when that fails."""
    source = SOURCES[name].files
    for path, md5 in _files(source, folder):
        if _fault(path, md5) == "damaged":
            path.unlink()  # torchvision would keep MNIST's files for their names
    try:
        _download(source, folder)
    except (OSError, HTTPException, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"dataset {name} cannot be fetched: {reason}; try again, or copy its folder to here") from error
    check(name, folder)


def _read(name: str, folder: str, split: ValidationSplit) -> InMemory:
    source = SOURCES[name]
    if issubclass(source.files, datasets.MNIST):
        check(name, folder)  # torchvision looks at the names only
    try:
        known, test = (_tensors(_open(source.files, folder, train)) for train in (True, False))
    except ModuleNotFoundError as error:  # SVHN's files are Matlab's
        raise UserError(f"dataset {name} needs {error.name}; install it with: pip install {error.name}") from error
    except RuntimeError:
        check(name, folder)
        raise
    train, validation = split_validation(*known, fraction=split.fraction, seed=split.seed, stratify=split.stratify)
    return InMemory(
        name,
        train,
        validation,
        Split(*test),
        source.classes,
        mean=255 * torch.tensor(source.mean),
        std=255 * torch.tensor(source.std),
        padding=source.padding,
        flip=source.flip,
        rotation=source.rotation,
    )


def _download(source: type[datasets.VisionDataset], folder: str) -> None:
    if issubclass(source, (datasets.CIFAR10, datasets.STL10)):
        # Not by the class: it looks at some of the files only, and would leave others damaged.
        download_and_extract_archive(source.url, folder, filename=source.filename, md5=source.tgz_md5)
        return
    for train in (True, False):
        _open(source, folder, train, download=True)


def _open(source: type[datasets.VisionDataset], folder: str, train: bool, download: bool = False) -> Any:
    if issubclass(source, (datasets.SVHN, datasets.STL10)):
        return source(folder, split="train" if train else "test", download=download)
    return source(folder, train=train, download=download)


def _tensors(opened: Any) -> tuple[Tensor, Tensor]:
    """Images uint8 [N, C, H, W] and classes int64 [N], in whichever layout torchvision has them."""
    images = torch.from_numpy(np.ascontiguousarray(opened.data))
    if isinstance(opened, datasets.MNIST):
        images = images.unsqueeze(1)
    elif isinstance(opened, datasets.CIFAR10):
        images = images.permute(0, 3, 1, 2)
    targets = opened.labels if hasattr(opened, "labels") else opened.targets
    return images, torch.as_tensor(targets).long()


def _root(folder: str) -> Path:
    return Path(folder).expanduser()


def _files(source: type[datasets.VisionDataset], folder: str) -> list[tuple[Path, str]]:
    """Every file that is read, with torchvision's checksum: of the file, or for MNIST of the archive it comes in."""
    root = _root(folder)
    if issubclass(source, datasets.MNIST):
        raw = root / source.__name__ / "raw"
        return [(raw / archive.removesuffix(".gz"), md5) for archive, md5 in source.resources]
    if issubclass(source, datasets.SVHN):
        return [(root / file, md5) for _, file, md5 in (source.split_list["train"], source.split_list["test"])]
    listed = [*source.train_list, *source.test_list]
    if issubclass(source, datasets.CIFAR10):
        listed.append([source.meta["filename"], source.meta["md5"]])
    return [(root / source.base_folder / file, md5) for file, md5 in listed]


def _fault(path: Path, md5: str) -> Literal["missing", "damaged"] | None:
    if not path.is_file():
        return "missing"
    whole = _idx_is_whole(path, md5) if path.name.endswith("-ubyte") else check_integrity(path, md5)
    return None if whole else "damaged"


def _idx_is_whole(path: Path, md5: str) -> bool:
    """By the sum at the end of the archive that it was taken out of; without the archive, by the size in its header."""
    content, archive = path.read_bytes(), path.with_name(f"{path.name}.gz")
    if check_integrity(archive, md5):
        return archive.read_bytes()[-8:-4] == zlib.crc32(content).to_bytes(4, "little")
    head = 4 + 4 * int.from_bytes(content[3:4], "big")
    return len(content) >= head and len(content) == head + prod(unpack(f">{head // 4 - 1}I", content[4:head]))
