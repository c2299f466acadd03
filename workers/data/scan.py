"""The image files of a folder, known by their endings and not opened. Light to import: no torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ENDINGS = frozenset(
    {
        ".apng",
        ".avif",
        ".avifs",
        ".blp",
        ".bmp",
        ".bw",
        ".cur",
        ".dcx",
        ".dds",
        ".dib",
        ".fit",
        ".fits",
        ".flc",
        ".fli",
        ".ftc",
        ".ftu",
        ".gbr",
        ".gif",
        ".icb",
        ".icns",
        ".ico",
        ".iim",
        ".im",
        ".j2c",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpc",
        ".jpe",
        ".jpeg",
        ".jpf",
        ".jpg",
        ".jpx",
        ".mpo",
        ".msp",
        ".pbm",
        ".pcd",
        ".pcx",
        ".pfm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".psd",
        ".pxr",
        ".qoi",
        ".ras",
        ".rgb",
        ".rgba",
        ".sgi",
        ".tga",
        ".tif",
        ".tiff",
        ".vda",
        ".vst",
        ".webp",
        ".xbm",
        ".xpm",
    }
)
"""The pixel formats that Pillow decodes. Vector drawings, films and stores of arrays are not among them."""

COMMON = ".avif, .bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .png, .ppm, .tif, .tiff, .webp"
"""The endings that people have, for messages."""

HIDDEN, LOOP, BROKEN, BARE = "hidden", "link in a circle", "broken link", "no ending"
"""Reasons to pass a file over that are no ending."""

FINGERPRINTS = ".fingerprints"
"""Below the folder of the datasets, with what is remembered of their content (`workers.data.content`); it may be
removed at any time, and is nothing that is passed over."""

Identity = tuple[int, int]
"""Device and number of a folder: the same for all links to it."""


@dataclass
class Scan:
    """The images below a folder by their path in it, in a fixed order, and how many files were passed over and why."""

    images: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def scan(folder: Path) -> Scan:
    """Look through a folder and those in it. Links are followed, but not into a folder that holds them."""
    by_folder: dict[str, list[str]] = {}
    passed_over: Counter[str] = Counter()
    _walk(str(folder), tuple(map(_identity, (folder, *folder.absolute().parents))), by_folder, passed_over)
    images = [os.path.relpath(file, folder) for place in sorted(by_folder) for file in by_folder[place]]
    return Scan(images, passed_over)


def subfolders(folder: Path) -> list[str]:
    """The sorted names of the folders in a folder, without those of editors and archivers."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _is_dir(entry) and not is_hidden(entry.name))


def hidden_files(folder: Path) -> int:
    """How many files are in the folders that `subfolders` leaves out."""
    with os.scandir(folder) as entries:
        folders = [entry for entry in entries if is_hidden(entry.name) and _is_dir(entry)]
    hidden = [entry.path for entry in folders if entry.name != FINGERPRINTS]
    return sum(1 for place in hidden for _ in _files_below(place))


def loose_images(folder: Path) -> int:
    """How many images lie in the folder itself."""
    with os.scandir(folder) as entries:
        return sum(is_image(entry.name) for entry in entries if _is_file(entry))


def is_hidden(name: str) -> bool:
    """Such as `.ipynb_checkpoints`, the `._` files that a Mac leaves on other disks, and its `__MACOSX` in archives."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(name: str) -> bool:
    """By the ending, in any case."""
    return ending(name) in ENDINGS and not is_hidden(name)


def ending(name: str) -> str:
    """With its dot and in lower case."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 (for a million files)


def _walk(folder: str, above: tuple[Identity, ...], images: dict[str, list[str]], passed_over: Counter[str]) -> None:
    with os.scandir(folder) as entries:
        content = sorted(entries, key=lambda entry: entry.name)
    images[folder] = []
    for entry in content:
        if _is_dir(entry):
            _descend(entry, above, images, passed_over)
        elif reason := _reason(entry):
            passed_over[reason] += 1
        else:
            images[folder].append(entry.path)


def _descend(
    entry: os.DirEntry[str], above: tuple[Identity, ...], images: dict[str, list[str]], passed_over: Counter[str]
) -> None:
    if entry.name == FINGERPRINTS:
        return
    if is_hidden(entry.name):
        passed_over[HIDDEN] += sum(1 for _ in _files_below(entry.path))
    elif (identity := _identity(entry)) in above:
        passed_over[LOOP] += 1
    else:
        _walk(entry.path, (*above, identity), images, passed_over)


def _reason(entry: os.DirEntry[str]) -> str | None:
    """Why a file is no image, or None."""
    if is_hidden(entry.name):
        return HIDDEN
    if ending(entry.name) not in ENDINGS:
        return ending(entry.name) or BARE
    return None if _is_file(entry) else BROKEN


def _is_dir(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # a link to itself
        return entry.is_dir()
    return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):
        return entry.is_file()
    return False


def _files_below(folder: str) -> Iterator[str]:
    return (name for _, _, names in os.walk(folder) for name in names)


def _identity(place: Path | os.DirEntry[str]) -> Identity:
    status = place.stat()
    return status.st_dev, status.st_ino
