"""Folders of images, a folder for each class: a user's own, Tiny ImageNet's, ImageNet's."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import imagenet as imagenet_archives
from torchvision.datasets.utils import download_and_extract_archive

from prunesweep.workers.appearing import appearing
from prunesweep.workers.data.base import Dataset, SplitName, split_indices
from prunesweep.workers.data.cache import Pixels, decoded
from prunesweep.workers.data.image_files import ImageFiles
from prunesweep.workers.data.images import centred, read
from prunesweep.workers.data.layout import Labelled, Layout, all_classes, published, read_layout
from prunesweep.workers.data.memory import InMemory, Split, channel_statistics
from prunesweep.workers.data.splits import A_TENTH, ValidationSplit, held_out
from prunesweep.workers.data.stream import Streamed
from prunesweep.workers.errors import UserError

TINY_IMAGENET = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_IMAGENET_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"

CROPS = ("resized", "padded")

LAYOUTS = ("auto", "classes")

DECODING = 2
"""Raised when `read` gives other pixels of the same file."""

STATISTICS_IMAGES = 10_000
"""At least so many training images give mean and deviation, or all that there are."""

log = logging.getLogger("prunesweep")


def image_folder(
    folder: str,
    *,
    path: str = ".",
    size: int = 224,
    crop: str = "resized",
    layout: str = "auto",
    validation_fraction: float = 0.1,
    validation_seed: int = 0,
    stratify: bool = False,
) -> Dataset:
    """The images in the class folders of `path`, which is looked for below `folder`, or absolute.

    Either `<path>/<class>/...`, of which a tenth is the test set, or `<path>/train/<class>/...` with `<path>/test` or
    `<path>/val` as the test set; with both, `val` is the validation set. Else that is a tenth of the training images.
    What is held out is a function of each file's name (see `held_out`). `layout: auto` recognises folders of splits;
    with `layout: classes` every folder is a class.

    `crop: resized` streams them from their files with ImageNet's recipe (see `Streamed`). `crop: padded` is for small
    pictures: each is brought to `size` x `size` once and kept decoded, and augmented as CIFAR is, with padding in
    proportion. Raises `UserError`.
    """
    split = ValidationSplit(validation_fraction, validation_seed, stratify)
    return _dataset("image_folder", Path(folder), path, size, crop, split, layout)


def tiny_imagenet(
    folder: str,
    *,
    path: str = "tiny-imagenet-200",
    size: int = 64,
    crop: str = "padded",
    validation_fraction: float = 0.1,
    validation_seed: int = 0,
    stratify: bool = False,
) -> Dataset:
    """200 classes of 500 images of 64x64, a tenth of them for validation; its 10,000 held-out images are the test set.

    As `tiny-imagenet-200.zip` unpacks.
    """
    split = ValidationSplit(validation_fraction, validation_seed, stratify)
    return _dataset("tiny_imagenet", Path(folder), path, size, crop, split)


def imagenet(
    folder: str,
    *,
    path: str = "imagenet",
    size: int = 224,
    validation_fraction: float = 0.1,
    validation_seed: int = 0,
    stratify: bool = False,
) -> Dataset:
    """ILSVRC2012: 1,281,167 training images (a tenth of them for validation) and 50,000 test images in 1,000 classes.

    `train/` and `val/` with a folder for each class, as torchvision's `ImageNet` unpacks the archives.
    """
    split = ValidationSplit(validation_fraction, validation_seed, stratify)
    return _dataset("imagenet", Path(folder), path, size, "resized", split)


def _dataset(
    name: str, folder: Path, path: str, size: int, crop: str, split: ValidationSplit, layout: str = "auto"
) -> Dataset:
    _check_option("crop", crop, CROPS)
    _check_option("layout", layout, LAYOUTS)
    if size < 1:
        raise UserError(f"size: {size} is too small; at least 1 pixel")
    splits = find_splits(name, folder / Path(path).expanduser(), layout, split)
    if crop == "resized":
        return Streamed(name, splits.train, splits.validation, splits.test, len(splits.classes), size)
    return _in_memory(name, folder, splits, size)


def _check_option(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f'{option}: "{value}" is not allowed: {" or ".join(allowed)}')


_PLACES = {"image_folder": ".", "tiny_imagenet": "tiny-imagenet-200", "imagenet": "imagenet"}


# --- finding the files


@dataclass(frozen=True)
class Splits:
    """The image files of each split; `moved` is how many of them small classes had to give to a split, or kept."""

    train: ImageFiles
    validation: ImageFiles
    test: ImageFiles
    classes: list[str]
    layout: Layout
    moved: int = 0

    @property
    def parts(self) -> dict[SplitName, ImageFiles]:
        """The splits by their names."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def find_splits(name: str, root: Path, layout: str = "auto", split: ValidationSplit = A_TENTH) -> Splits:
    """The splits in a folder; raises `UserError` when it does not hold what the dataset `name` asks for."""
    for folder in (root,) if name == "image_folder" else (root / "train", root / "val"):
        if not folder.is_dir():
            raise UserError(f"{name}: there is no folder {folder}; {_REMEDIES[name]}")
    if name != "image_folder":
        known = published(name, root)
        return _published_splits(known, split) if root.name == _PLACES[name] else _own_splits(name, known, split)
    return _own_splits(name, read_layout(name, root) if layout == "auto" else all_classes(name, root), split)


_REMEDIES = {
    "image_folder": "set `path` to the folder with a folder for each class, and --data-dir to what it lies in",
    "tiny_imagenet": "fetch it with: prunesweep data fetch tiny_imagenet",
    "imagenet": "put ILSVRC2012's three archives beside it and unpack them with: prunesweep data fetch imagenet",
}


def _own_splits(name: str, layout: Layout, drawn: ValidationSplit) -> Splits:
    """Splits that have no folder are drawn by the files' names, so that a file that is added moves no other."""
    known, moved = layout.train, 0
    if layout.validation is not None and drawn != A_TENTH:
        raise UserError(
            f"{name}: validation: its validation images are those of {layout.validation.folder}, so that none are "
            "drawn; leave out validation, or move that folder away"
        )
    held = {"test": layout.test, "validation": layout.validation}
    for split in [split for split, given in held.items() if given is None]:
        keep = 2 if split == "test" and layout.validation is None else 1
        how = drawn if split == "validation" else A_TENTH
        chosen, forced = held_out(name, layout.classes, known.names, known.targets, split, keep, how)
        known, held[split] = known.without(chosen), known.only(chosen)
        moved += forced
    validation, test = held["validation"], held["test"]
    assert validation is not None
    assert test is not None
    train, validation_files, test_files = map(_image_files, (known, validation, test))
    return Splits(train, validation_files, test_files, layout.classes, layout, moved)


def _published_splits(layout: Layout, drawn: ValidationSplit) -> Splits:
    """The files of these datasets are known and complete: the validation images are drawn by their number."""
    assert layout.test is not None
    known = _image_files(layout.train)
    train, validation = split_indices(known.targets, drawn)
    return Splits(known.subset(train), known.subset(validation), _image_files(layout.test), layout.classes, layout)


def _image_files(labelled: Labelled) -> ImageFiles:
    return ImageFiles(labelled.folder, labelled.names, labelled.targets)


# --- small pictures, decoded once


def _in_memory(name: str, folder: Path, splits: Splits, size: int) -> InMemory:
    """All splits in one array, so that each of them is a part of the mapped file and no copy."""
    parts = tuple(splits.parts.values())
    ends = torch.tensor([len(files) for files in parts]).cumsum(0).tolist()

    def fill(pixels: Pixels) -> None:
        log.info("decoding %d images of %s", ends[-1], name)
        paths = (path for files in parts for path in files.paths())
        for row, path in enumerate(paths):
            pixels[row] = centred(read(path), size, size).permute(1, 2, 0).numpy()

    pixels = decoded(folder, f"{name}-{_key(parts, size)}", (ends[-1], size, size, 3), fill)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    train, validation, test = (
        Split(part, files.targets) for part, files in zip(images.tensor_split(ends[:-1]), parts, strict=True)
    )
    mean, std = _statistics(train.images)
    return InMemory(name, train, validation, test, len(splits.classes), mean, std, padding=size // 8, flip=True)


def _key(splits: tuple[ImageFiles, ...], size: int) -> str:
    """A name for the decoded images, which changes when a file is added, changed or moved to another split."""
    digest = hashlib.sha256(f"{DECODING} {size}".encode())
    for path in (path for files in splits for path in files.paths()):
        known = os.stat(path)  # noqa: PTH116 (for a million files)
        digest.update(f"{path} {known.st_size} {known.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    return channel_statistics(images[:: max(1, len(images) // STATISTICS_IMAGES)])


# --- checking and fetching


def check(name: str, folder: str) -> list[Path]:
    """The dataset's files, every one of them decoded; raises `UserError` with the first that cannot be.

    Of `image_folder` that is `folder` itself.
    """
    splits = find_splits(name, Path(folder) / _PLACES[name])
    paths = [path for files in splits.parts.values() for path in files.paths()]
    faults = [fault for fault in map(_fault, paths) if fault]
    if faults:
        more = f"; {len(faults) - 1} more of the {len(paths)} files are damaged" if len(faults) > 1 else ""
        raise UserError(f"{name}: {faults[0]}{more}")
    return [Path(path) for path in paths]


def present(name: str, folder: str) -> None:
    """Raise `UserError` unless the folders and their files are there; they are not opened."""
    find_splits(name, Path(folder) / _PLACES[name])


def fetch(name: str, folder: str) -> None:
    """Download Tiny ImageNet, or unpack ImageNet's archives; raises `UserError` with what the user has to do."""
    root = Path(folder) / _PLACES[name]
    if name == "image_folder":
        raise UserError(f"image_folder is a folder of your own images, which nothing fetches: put them into {root}")
    try:
        if name == "imagenet":
            _unpack_imagenet(root)
        else:
            download_and_extract_archive(TINY_IMAGENET, folder, md5=TINY_IMAGENET_MD5)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{name} cannot be fetched: {str(error).partition(chr(10))[0]}") from error


def _fault(path: str) -> str | None:
    try:
        read(path)
    except UserError as error:
        return str(error)
    return None


def _unpack_imagenet(root: Path) -> None:
    """Unpack each archive beside its place and rename it there: half an archive must not look like a whole one."""
    if not (root / imagenet_archives.META_FILE).exists():
        imagenet_archives.parse_devkit_archive(root)
    unpack = {"train": imagenet_archives.parse_train_archive, "val": imagenet_archives.parse_val_archive}
    for split in (split for split in unpack if not (root / split).exists()):
        with appearing(root / split, temporary=root / f"{split}.part") as partial:
            unpack[split](root, folder=partial.name)
