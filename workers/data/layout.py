"""The files of a folder of images by split and class. Light to import: no torch."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prunesweep.workers.data.scan import COMMON, HIDDEN, hidden_files, loose_images, scan, subfolders
from prunesweep.workers.data.split_folders import ANNOTATIONS, refuse_masks_beside_images, split_places
from prunesweep.workers.errors import UserError


@dataclass(frozen=True)
class Labelled:
    """Image files below a folder, and the number of each one's class."""

    folder: Path
    names: list[str]
    targets: list[int]

    def only(self, indices: Sequence[int]) -> Labelled:
        """Those with these numbers."""
        return Labelled(self.folder, [self.names[i] for i in indices], [self.targets[i] for i in indices])

    def without(self, indices: Sequence[int]) -> Labelled:
        """All others."""
        left_out = set(indices)
        return self.only([index for index in range(len(self.names)) if index not in left_out])


@dataclass(frozen=True)
class Layout:
    """The files of a folder of images by the split that they are in; None where a split has no folder of its own.

    `notes` say in a sentence each what was recognised; `passed_over` counts the files that are not read, by reason.
    """

    classes: list[str]
    train: Labelled
    validation: Labelled | None = None
    test: Labelled | None = None
    passed_over: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def given(self) -> list[Labelled]:
        """The splits that have folders."""
        return [part for part in (self.train, self.validation, self.test) if part is not None]


def read_layout(name: str, root: Path) -> Layout:
    """The layout of a folder of one's own, as its names and its content say; raises `UserError` where they do not."""
    notes: list[str] = []
    return _layout(name, root, split_places(name, root, notes), notes, ask=True)


def all_classes(name: str, root: Path) -> Layout:
    """The layout in which each folder of `root` is a class, whatever it is called."""
    return _layout(name, root, {"train": root}, [], ask=False)


def published(name: str, root: Path) -> Layout:
    """The layout of ImageNet and Tiny ImageNet: `train/`, and `val/` as the test set."""
    return _layout(name, root, {"train": root / "train", "validation": root / "val"}, [], ask=False)


def _layout(name: str, root: Path, places: Mapping[str, Path], notes: list[str], *, ask: bool) -> Layout:
    classes = _classes(name, places["train"])
    passed_over: Counter[str] = Counter()
    parts = {role: _labelled(name, place, classes, passed_over, ask) for role, place in places.items()}
    if set(places) == {"train", "validation"}:  # what is held out is the test set
        parts["test"] = parts.pop("validation")
    loose = sum(loose_images(place) for place in {root, *places.values()} if not (place / ANNOTATIONS).exists())
    if loose:
        passed_over["in no class folder"] += loose
    if hidden := sum(map(hidden_files, {root, *places.values()})):
        passed_over[HIDDEN] += hidden
    return Layout(classes, parts["train"], parts.get("validation"), parts.get("test"), passed_over, notes)


def _classes(name: str, folder: Path) -> list[str]:
    classes = subfolders(folder)
    if len(classes) < 2:
        there = f"only the folder {classes[0]}" if classes else "no folder"
        raise UserError(f"{name}: {folder} has {there}; it needs a folder with images for each of two or more classes")
    return classes


def _labelled(name: str, folder: Path, classes: Sequence[str], passed_over: Counter[str], ask: bool) -> Labelled:
    numbers = {class_name: number for number, class_name in enumerate(classes)}
    if (folder / ANNOTATIONS).exists():
        return _annotated(name, folder, numbers)
    if unknown := set(subfolders(folder)) - numbers.keys():
        raise UserError(f"{name}: {folder} has the class {min(unknown)}, which is not in the training set")
    names: list[str] = []
    targets: list[int] = []
    for class_name, number in numbers.items():
        images = _images_of_class(name, folder / class_name, passed_over, ask)
        names += [f"{class_name}/{image}" for image in images]
        targets += [number] * len(images)
    return Labelled(folder, names, targets)


def _images_of_class(name: str, folder: Path, passed_over: Counter[str], ask: bool) -> list[str]:
    scanned = scan(folder) if folder.is_dir() else None
    if scanned is None or not scanned.images:
        raise UserError(f"{name}: no image in {folder}; put some there or remove the class (known: {COMMON}, ...)")
    passed_over.update(scanned.passed_over)
    if ask:
        refuse_masks_beside_images(name, folder, scanned.images)
    return scanned.images


def _annotated(name: str, folder: Path, numbers: Mapping[str, int]) -> Labelled:
    """Tiny ImageNet's held-out images: the first two columns are file and class."""
    listing = folder / ANNOTATIONS
    with listing.open(newline="") as file:
        rows = [row[:2] for row in csv.reader(file, delimiter="\t")]
    try:
        names, targets = [image for image, _ in rows], [numbers[class_name] for _, class_name in rows]
    except (KeyError, ValueError) as error:
        raise UserError(f"{name}: {listing} is damaged, or of other classes than `train`: {error}") from error
    return Labelled(folder / "images", names, targets)
