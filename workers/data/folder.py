"""Folders of images, a folder for each class: a user's own, Tiny ImageNet's, ImageNet's."""

from __future__ import annotations

import csv
import hashlib
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import imagenet as imagenet_archives
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset
from torchvision.datasets.utils import download_and_extract_archive

from prunesweep.workers.data.base import Dataset, split_indices
from prunesweep.workers.data.cache import Pixels, decoded
from prunesweep.workers.data.image_files import ImageFiles
from prunesweep.workers.data.images import centred, read
from prunesweep.workers.data.memory import InMemory, Split, channel_statistics
from prunesweep.workers.data.stream import Streamed
from prunesweep.workers.errors import UserError

ANNOTATIONS = "val_annotations.txt"
"""Tiny ImageNet's list of the classes of its held-out images."""

TINY_IMAGENET = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_IMAGENET_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"

CROPS = ("resized", "padded")

FEWEST = 10
"""Images that a folder must have, so that every split has one."""

STATISTICS_IMAGES = 10_000
"""At least so many training images give mean and deviation, or all that there are."""

log = logging.getLogger("prunesweep")


def image_folder(folder: str, *, path: str = ".", size: int = 224, crop: str = "resized") -> Dataset:
    """The images in the class folders of `path`, which is looked for below `folder`, or absolute.

    Either `<path>/<class>/...`, of which a tenth is the test set, or `<path>/train/<class>/...` with `<path>/test` or
    `<path>/val` as the test set; with both, `val` is the validation set. Else that is a tenth of what is trained on.

    `crop: resized` streams them from their files with ImageNet's recipe (see `Streamed`). `crop: padded` is for small
    pictures: each is brought to `size` x `size` once and kept decoded, and augmented as CIFAR is, with padding in
    proportion. Raises `UserError`.
    """
    return _dataset("image_folder", Path(folder), path, size, crop)


def tiny_imagenet(folder: str, *, path: str = "tiny-imagenet-200", size: int = 64, crop: str = "padded") -> Dataset:
    """200 classes of 500 images of 64x64, a tenth of them for validation; its 10,000 held-out images are the test set.

    As `tiny-imagenet-200.zip` unpacks.
    """
    return _dataset("tiny_imagenet", Path(folder), path, size, crop)


def imagenet(folder: str, *, path: str = "imagenet", size: int = 224) -> Dataset:
    """ILSVRC2012: 1,281,167 training images (a tenth of them for validation) and 50,000 test images in 1,000 classes.

    `train/` and `val/` with a folder for each class, as torchvision's `ImageNet` unpacks the archives.
    """
    return _dataset("imagenet", Path(folder), path, size, "resized")


def _dataset(name: str, folder: Path, path: str, size: int, crop: str) -> Dataset:
    if crop not in CROPS:
        raise UserError(f'crop: "{crop}" is not allowed: {" or ".join(CROPS)}')
    if size < 1:
        raise UserError(f"size: {size} is too small; at least 1 pixel")
    splits = find_splits(name, folder / Path(path).expanduser())
    if crop == "resized":
        return Streamed(name, splits.train, splits.validation, splits.test, splits.classes, size)
    return _in_memory(name, folder, splits, size)


_PLACES = {"image_folder": ".", "tiny_imagenet": "tiny-imagenet-200", "imagenet": "imagenet"}


# --- finding the files


@dataclass(frozen=True)
class Splits:
    """The image files of each split, and the number of classes, which are numbered in the order of their names."""

    train: ImageFiles
    validation: ImageFiles
    test: ImageFiles
    classes: int


def find_splits(name: str, root: Path) -> Splits:
    """The splits in a folder; raises `UserError` when it does not hold what `image_folder` asks for."""
    for folder in (root,) if name == "image_folder" else (root / "train", root / "val"):
        if not folder.is_dir():
            raise UserError(f"{name}: there is no folder {folder}; {_REMEDIES[name]}")
    known_folder = root / "train" if (root / "train").is_dir() else root
    classes = _classes(name, known_folder)
    known = _images(name, known_folder, classes)
    if len(known) < FEWEST:
        raise UserError(
            f"{name}: {known_folder} has {len(known)} images; at least {FEWEST} are needed for three splits"
        )
    held_out = [root / part for part in ("val", "test") if known_folder != root and _has_classes(root / part)]
    test = _images(name, held_out.pop(), classes) if held_out else None
    validation = _images(name, held_out.pop(), classes) if held_out else None
    if test is None:
        known, test = _drawn(known)
    if validation is None:
        known, validation = _drawn(known)
    return Splits(known, validation, test, len(classes))


_REMEDIES = {
    "image_folder": "set `path` to the folder with a folder for each class, and --data-dir to what it lies in",
    "tiny_imagenet": "fetch it with: prunesweep data fetch tiny_imagenet",
    "imagenet": "put ILSVRC2012's three archives beside it and unpack them with: prunesweep data fetch imagenet",
}


def _subfolders(folder: Path) -> list[str]:
    """The sorted names of the folders in a folder, without hidden ones, which belong to editors and to this program."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _classes(name: str, folder: Path) -> list[str]:
    classes = _subfolders(folder)
    if len(classes) < 2:
        there = f"only the folder {classes[0]}" if classes else "no folder"
        raise UserError(f"{name}: {folder} has {there}; it needs a folder with images for each of two or more classes")
    return classes


def _has_classes(folder: Path) -> bool:
    """Tiny ImageNet's `test/` has no classes, only `images/`."""
    return folder.is_dir() and ((folder / ANNOTATIONS).exists() or _subfolders(folder) not in ([], ["images"]))


def _images(name: str, folder: Path, classes: list[str]) -> ImageFiles:
    numbers = {class_name: number for number, class_name in enumerate(classes)}
    if (folder / ANNOTATIONS).exists():
        return _annotated(name, folder, numbers)
    if unknown := set(_subfolders(folder)) - numbers.keys():
        raise UserError(f"{name}: {folder} has the class {min(unknown)}, which is not in {folder.with_name('train')}")
    images = make_dataset(folder, numbers, is_valid_file=_is_image, allow_empty=True)
    if empty := set(numbers.values()) - {number for _, number in images}:
        lacking = folder / classes[min(empty)]
        raise UserError(f"{name}: no image in {lacking}; put some there or remove the class (known: {_ENDINGS})")
    return ImageFiles(folder, [os.path.relpath(file, folder) for file, _ in images], [number for _, number in images])


_ENDINGS = ", ".join(sorted(IMG_EXTENSIONS))


def _is_image(path: str) -> bool:
    """By its ending; a Mac leaves hidden `._` files beside images on other disks."""
    file = os.path.basename(path)  # noqa: PTH119 (for a million files)
    return file.lower().endswith(IMG_EXTENSIONS) and not file.startswith(".")


def _annotated(name: str, folder: Path, numbers: dict[str, int]) -> ImageFiles:
    """Tiny ImageNet's held-out images: the first two columns are file and class."""
    listing = folder / ANNOTATIONS
    with listing.open(newline="") as file:
        rows = [row[:2] for row in csv.reader(file, delimiter="\t")]
    try:
        return ImageFiles(
            folder / "images", [image for image, _ in rows], [numbers[class_name] for _, class_name in rows]
        )
    except (KeyError, ValueError) as error:
        raise UserError(f"{name}: {listing} is damaged, or of other classes than `train`: {error}") from error


def _drawn(files: ImageFiles) -> tuple[ImageFiles, ImageFiles]:
    """The files without a tenth of them, and that tenth."""
    rest, tenth = split_indices(len(files))
    return files.subset(rest), files.subset(tenth)


# --- small pictures, decoded once


def _in_memory(name: str, folder: Path, splits: Splits, size: int) -> InMemory:
    """All splits in one array, so that each of them is a part of the mapped file and no copy."""
    parts = (splits.train, splits.validation, splits.test)
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
    return InMemory(name, train, validation, test, splits.classes, mean, std, padding=size // 8, flip=True)


def _key(splits: tuple[ImageFiles, ...], size: int) -> str:
    """A name for the decoded images, which changes when a file is added, changed or moved to another split."""
    digest = hashlib.sha256(str(size).encode())
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
    paths = [path for files in (splits.train, splits.validation, splits.test) for path in files.paths()]
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
        partial = root / f"{split}.part"
        shutil.rmtree(partial, ignore_errors=True)
        unpack[split](root, folder=partial.name)
        partial.rename(root / split)
