"""The files of datasets of one's own that are no folders of classes: which belong to them. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prunesweep.workers.errors import UserError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

TOKENIZER = "tokenizer.json"


class Pair(NamedTuple):
    """An image and its mask."""

    image: Path
    mask: Path


def root_of(name: str, path: str, folder: str, option: str = "path") -> Path:
    """Where a dataset's files are that an option names; raises `UserError` where nothing is."""
    root = Path(folder) / Path(path).expanduser()
    if not root.exists():
        raise UserError(
            f"dataset {name}: there is no {root}; set `{option}`, and --data-dir or PRUNESWEEP_DATA to its folder"
        )
    return root


def tokenizer_of(path: str, folder: str) -> Path:
    """The file of a text's tokenizer, which may be named by its folder; raises `UserError` where there is none."""
    place = root_of("text", path, folder, "tokenizer")
    file = place / TOKENIZER if place.is_dir() else place
    if not file.is_file():
        raise UserError(f"dataset text: there is no {file}; tokenizer.save_pretrained of transformers writes one")
    return file


def folder_pairs(name: str, folder: Path, images: str, masks: str) -> list[Pair]:
    """Images and masks of the same names, sorted; raises `UserError` where one is missing."""
    for part in (images, masks):
        if not (folder / part).is_dir():
            raise UserError(f"dataset {name}: there is no folder {folder / part}; its images and masks belong there")
    by_name = {file.stem: file for file in (folder / masks).iterdir() if file.suffix.lower() in PICTURES}
    pictures = sorted(file for file in (folder / images).iterdir() if file.suffix.lower() in PICTURES)
    if not pictures:
        raise UserError(f"dataset {name}: there are no images in {folder / images}")
    for picture in pictures:
        if picture.stem not in by_name:
            raise UserError(f"dataset {name}: image {picture} has no mask in {folder / masks}")
    return [Pair(picture, by_name[picture.stem]) for picture in pictures]


def voc_pairs(root: Path, split: str) -> list[Pair]:
    """Those that `ImageSets/Segmentation/SPLIT.txt` names."""
    listing = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not listing.is_file():
        raise UserError(f"dataset voc: there is no {listing}; `path` leads to the folder VOC2012 of VOCdevkit")
    names = listing.read_text().split()
    pairs = [Pair(root / "JPEGImages" / f"{n}.jpg", root / "SegmentationClass" / f"{n}.png") for n in names]
    for pair in pairs:
        for file in pair:
            if not file.is_file():
                raise UserError(f"dataset voc: {file} is missing, which {listing.name} names")
    return pairs


def own_files(name: str, settings: Mapping[str, Any], folder: str) -> list[tuple[str, str]] | None:
    """All files of such a dataset, with their names below its `path`; None for other ones.

    Raises `UserError` where they are not there.
    """
    if name not in ("mask_folder", "voc", "text"):
        return None
    root = root_of(name, settings["path"], folder)
    if name == "text":
        tokenizer = settings.get("tokenizer")
        own = [root, *([tokenizer_of(tokenizer, folder)] if tokenizer else [])]
        return [(file.name, str(file)) for file in own]
    if name == "voc":
        pairs = [pair for split in ("train", "val") for pair in voc_pairs(root, split)]
    else:
        splits = [split for split in ("train", "val", "test") if split != "val" or (root / split).is_dir()]
        named = settings["images"], settings["masks"]
        pairs = [pair for split in splits for pair in folder_pairs(name, root / split, *named)]
    return sorted((str(file.relative_to(root)), str(file)) for pair in pairs for file in pair)
