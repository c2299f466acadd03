"""The user's code as a job takes it along: a zip file of a folder, without what is no code."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from prunesweep.orchestrator.text import size
from prunesweep.workers.errors import UserError
from prunesweep.workers.files import MARK

LIMIT = 100 * 2**20
"""More is refused by the dashboard of Ray, which receives it (`ray_constants.DASHBOARD_CLIENT_MAX_SIZE`)."""

LEFT_OUT = ("results", "data")
"""Folders at the top that hold no code; deeper ones of these names may."""

ELSEWHERE = "put them where all nodes see them, such as beside the images, and give init the whole path"
"""What to do with weights that a job cannot take along."""

WHEN = (1980, 1, 1, 0, 0, 0)
"""Equal files make equal bytes, which Ray knows by their hash and does not send again."""


def place(sweep: Path) -> tuple[Path, Path]:
    """The folder of the user's code, and the sweep file's path in it: the current folder if the file lies in it."""
    file, here = Path(os.path.abspath(sweep)), Path.cwd()  # noqa: PTH100 (a link counts where it lies)
    folder = here if file.is_relative_to(here) else file.parent
    return folder, file.relative_to(folder)


def pack(folder: Path, sweep: Path, archive: Path, weights: Collection[Path] = ()) -> int:
    """Write the zip file; returns how many files are in it.

    Raises `UserError` when it becomes too large, or lacks the `weights` that the sweep names by their path from it.
    """
    names = sorted({*_not_ignored(folder, list(_code(folder))), sweep.as_posix()})
    for path in weights:
        if not path.is_relative_to(folder) or path.relative_to(folder).as_posix() not in names:
            raise UserError(
                f"init: {path} is not among what a job takes along, which is {folder} without results/, data/, hidden "
                f"files and what git ignores: {ELSEWHERE}"
            )
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in names:
            _pack(packed, folder, name)
            if archive.stat().st_size > LIMIT:
                raise UserError(_too_large(folder, names, weights))
    return len(names)


def _pack(packed: zipfile.ZipFile, folder: Path, name: str) -> None:
    try:
        packed.writestr(zipfile.ZipInfo(name, WHEN), (folder / name).read_bytes(), zipfile.ZIP_DEFLATED)
    except UnicodeEncodeError as error:
        raise UserError(f"{name!a} in {folder} is not text in UTF-8; give the file another name") from error


def _code(folder: Path) -> Iterator[str]:
    """Files below a folder, by their path in it; hidden ones, environments and stores are no code.

    A link to a folder is followed where it leads to another folder of this one: what is unpacked has no links.
    """
    for place, folders, files in os.walk(folder, followlinks=True):
        at = Path(place)
        folders[:] = [
            name for name in folders if _may_hold_code(at / name, at == folder) and _leads_within(at / name, folder)
        ]
        for name in files:
            if not name.startswith(".") and (at / name).is_file():
                yield (at / name).relative_to(folder).as_posix()


def _may_hold_code(folder: Path, top: bool) -> bool:
    if folder.name.startswith(".") or folder.name == "__pycache__" or (top and folder.name in LEFT_OUT):
        return False
    return not (folder / MARK).exists() and not (folder / "pyvenv.cfg").exists()


def _leads_within(path: Path, folder: Path) -> bool:
    """Whether a link stays in the folder and may be followed without end: not through another, nor to where it lies."""
    if not path.is_symlink():
        return True
    target, place = path.resolve(), path.parent.resolve()
    through_another = place != folder.resolve() / path.parent.relative_to(folder)
    return target.is_relative_to(folder.resolve()) and not place.is_relative_to(target) and not through_another


def _not_ignored(folder: Path, names: list[str]) -> Iterable[str]:
    """Without what git ignores, where the folder belongs to a repository; git is asked for no path through a link."""
    top = folder.resolve()
    real = {name: ((folder / name).parent.resolve() / Path(name).name).relative_to(top).as_posix() for name in names}
    try:
        asked = "\0".join(real.values()).encode(errors="surrogateescape")
        done = subprocess.run(["git", "check-ignore", "-z", "--stdin"], cwd=folder, input=asked, capture_output=True)
    except OSError:
        return names
    ignored = set(done.stdout.decode(errors="surrogateescape").split("\0"))
    return [name for name in names if real[name] not in ignored]


def _too_large(folder: Path, names: Iterable[str], weights: Collection[Path]) -> str:
    bytes_, name = max(((folder / name).stat().st_size, name) for name in names)
    start = f"{folder} is more than {size(LIMIT)} when packed, the most that Ray takes; its largest file is {name} "
    if folder / name in weights:
        return f"{start}({size(bytes_)}), weights that init names: {ELSEWHERE}"
    return (
        f"{start}({size(bytes_)}): keep what is no code in results/ or data/, or name it in .gitignore, or submit from "
        "the folder that holds your code"
    )
