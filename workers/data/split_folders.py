"""Which of a folder's folders are splits, from their names and from what is in them.

What is not clear is not guessed: a `UserError` says what was seen and how to answer. Light to import: no torch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from prunesweep.workers.data.scan import loose_images, scan, subfolders
from prunesweep.workers.errors import UserError

ANNOTATIONS = "val_annotations.txt"
"""Tiny ImageNet's list of the classes of its held-out images."""

ROLES = {
    "train": re.compile(r"(train|training|trn|learning)(set|data|images|imgs)?\d*"),
    "validation": re.compile(r"(val|valid|validation|dev|development)(set|data|images|imgs)?\d*"),
    "test": re.compile(r"(test|testing|tst|holdout|evaluation|eval)(set|data|images|imgs)?\d*"),
}
"""What a word of a folder's name says about the split that it holds."""

FILLERS = frozenset(
    {
        "set",
        "data",
        "dataset",
        "image",
        "images",
        "img",
        "imgs",
        "pics",
        "photos",
        "pictures",
        "split",
        "folder",
        "files",
        "samples",
    }
)
"""Words that may stand beside it: `training_set`, `Test images`."""

FOLD = re.compile(r"(k?[ _-]?fold|cv|split|partition)s?[ _-]?\d+", re.IGNORECASE)

MASKS = frozenset(
    {
        "mask",
        "masks",
        "annotation",
        "annotations",
        "label",
        "labels",
        "segmentation",
        "segmentations",
        "groundtruth",
        "gt",
    }
)

MASK_FILE = re.compile(r"(.+?)[ _-]+(mask|masks|segmentation|seg|gt|groundtruth)([ _-]?\d+)?", re.IGNORECASE)

AS_CLASSES = "if every folder is a class, say so with the dataset's option `layout: classes`"


def split_role(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The split that a folder's name says, and the other words of the name; None where it says none, or two."""
    words = [word for word in re.split(r"[\W_]+", name.lower()) if word]
    roles = [(role, word) for word in words for role, pattern in ROLES.items() if pattern.fullmatch(word)]
    if len(roles) != 1:
        return None
    role, said = roles[0]
    return role, tuple(word for word in words if word != said and word not in FILLERS)


def _roles(folders: Sequence[str]) -> dict[str, str]:
    """Folder -> split, for those whose names say so. Other words must be the same in all: `seg_train`, `seg_test`."""
    said = {folder: parsed for folder in folders if (parsed := split_role(folder))}
    others = Counter(words for _, words in said.values())
    usual = {words for words, count in others.items() if not words or count > 1}
    return {folder: role for folder, (role, words) in said.items() if words in usual}


def split_places(name: str, root: Path, notes: list[str]) -> dict[str, Path]:
    """Where the classes of each split are."""
    folders = subfolders(root)
    roles = _roles(folders)
    if not roles and len(folders) == 1 and not loose_images(root) and subfolders(root / folders[0]):
        notes.append(f"everything is taken from the only folder, {folders[0]}")
        return split_places(name, root / folders[0], notes)
    if not roles:
        _refuse_what_is_no_class(name, root, folders)
        return {"train": root}
    return _split_places(name, root, folders, roles, notes)


def _split_places(
    name: str, root: Path, folders: Sequence[str], roles: Mapping[str, str], notes: list[str]
) -> dict[str, Path]:
    others = [folder for folder in folders if folder not in roles]
    places = {folder: _place_of_classes(root / folder) for folder in roles}
    labelled = {folder: place for folder, place in places.items() if place}
    if not labelled:
        if len(roles) == 1 and len(others) > 1:
            notes.append(f"{next(iter(roles))} is taken for a class: it holds images and no class folders")
            return {"train": root}
        raise _question(
            name, root, f"{_listed(roles)} look like splits, but hold no folders of classes", "put the images into them"
        )
    _refuse_twice(name, root, {folder: roles[folder] for folder in labelled})
    if not any(roles[folder] == "train" for folder in labelled):
        raise _question(name, root, f"{_listed(labelled)} look like splits, but there is no training set", "add one")
    strays = [folder for folder in others if len(labelled) == 1 and scan(root / folder).images]
    strays += [folder for folder in others if folder not in strays and _place_of_classes(root / folder)]
    if strays:
        raise _question(
            name,
            root,
            f"{_listed(labelled)} look like splits, {_listed(strays)} do not",
            f"move {_listed(strays)} away",
        )
    splits = {roles[folder]: place for folder, place in labelled.items()}
    notes += _said(root, splits, [folder for folder in folders if folder not in labelled])
    return splits


def _said(root: Path, splits: Mapping[str, Path], left_out: Sequence[str]) -> Iterable[str]:
    used = {role: str(place.relative_to(root)) for role, place in splits.items()}
    if set(used) == {"train", "validation"}:
        used["test"] = used.pop("validation")
    yield "folders are splits: " + ", ".join(f"{folder} is the {role} set" for role, folder in used.items())
    for folder in left_out:
        if images := len(scan(root / folder).images):
            yield f"{folder} is left out: its {images:,} images are in no class folders"
        elif split_role(folder):
            yield f"{folder} is left out: there is no image in it"


def _refuse_twice(name: str, root: Path, roles: Mapping[str, str]) -> None:
    for role in ROLES:
        same = [folder for folder in roles if roles[folder] == role]
        if len(same) > 1:
            raise _question(name, root, f"{_listed(same)} all look like the {role} set", "leave one of them there")


def _place_of_classes(folder: Path) -> Path | None:
    """The folder, or the only one in it, which archives repeat; None where it has images and no class folders."""
    inner = subfolders(folder)
    if (folder / ANNOTATIONS).exists() or len(inner) > 1:
        return folder
    if len(inner) == 1 and len(subfolders(folder / inner[0])) > 1 and not loose_images(folder / inner[0]):
        return folder / inner[0]
    return folder if inner and inner != ["images"] and not loose_images(folder) else None


# --- what is asked


def _refuse_what_is_no_class(name: str, root: Path, folders: Sequence[str]) -> None:
    if len(folders) > 1 and all(FOLD.fullmatch(folder) for folder in folders):
        raise _question(
            name, root, f"{_listed(folders)} look like the folds of a cross-validation", "make train/ and test/ of them"
        )
    if masks := [folder for folder in folders if re.sub(r"[\W_]+", "", folder.lower()) in MASKS]:
        raise _question(name, root, f"{_listed(masks)} looks like masks or labels of images", "move it away")
    for folder in folders:
        _refuse_inside_class(name, root / folder)
    _refuse_the_same_inside(name, root, folders)


def _refuse_the_same_inside(name: str, root: Path, folders: Sequence[str]) -> None:
    """Folds that are called 1, 2, 3, years, or the same pictures in colour and in grey."""
    classes = subfolders(root / folders[0]) if len(folders) > 1 else []
    if len(classes) > 1 and all(
        subfolders(root / folder) == classes and not loose_images(root / folder) for folder in folders
    ):
        raise _question(
            name,
            root,
            f"{_listed(folders)} all hold the folders {_listed(classes)}, which look like the classes",
            "set `path` to one of them, or name them train and test",
        )


def _refuse_inside_class(name: str, folder: Path) -> None:
    inner = subfolders(folder)
    if len(splits := _roles(inner)) > 1:
        raise _question(
            name, folder, f"{_listed(splits)} look like splits inside a class", "put the classes into the splits"
        )
    if masks := [other for other in inner if other.lower() in MASKS]:
        raise _question(name, folder, f"{_listed(masks)} looks like masks or labels of images", "move it away")


def refuse_masks_beside_images(name: str, folder: Path, images: Sequence[str]) -> None:
    stems = {image.rpartition(".")[0] for image in images}
    masks = [stem for stem in stems if (match := MASK_FILE.fullmatch(stem)) and match[1] in stems]
    if masks:
        raise _question(
            name, folder, f"{len(masks)} files look like masks of others, such as {min(masks)}", "move them away"
        )


def _question(name: str, root: Path, seen: str, remedy: str) -> UserError:
    return UserError(f"{name}: in {root} {seen}: {remedy}; {AS_CLASSES}")


def _listed(folders: Iterable[str]) -> str:
    names = list(folders)
    shown = names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
