"""Local files and folders that appear whole or not at all, and what stands in their way. No torch, no Ray."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

TEMPORARY = ".tmp"

NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK}
NO_LINKS |= {errno.EXDEV}
"""What systems say that have no hard links: exFAT, SMB, gcsfuse, network filesystems of several disks."""

LOCK_SECONDS = 10.0
"""A lock that is unchanged for so long was left by a process that was killed: who has one makes three system calls."""

log = logging.getLogger("prunesweep")


@contextlib.contextmanager
def appearing(target: Path, *, replace: bool = True, temporary: Path | None = None) -> Iterator[Path]:
    """A file or folder that appears whole or not at all: it is written beside its place, and renamed at the end.

    Yields the path to write to; `target` appears when the block has ended without an exception. Without `replace` a
    file that is there already stands, and `FileExistsError` is raised. Nothing stays beside it unless the process is
    killed; who holds a lock gives a `temporary` of a fixed name, so that the next one clears that away.
    """
    place = temporary or target.with_name(f".{uuid4().hex[:8]}{TEMPORARY}")
    clear(place)
    try:
        yield place
        if replace:
            place.replace(target)
        else:
            _name_first(place, target)
    finally:
        clear(place)


def clear(place: Path) -> None:
    """Remove a file, or a folder with what is in it, if that can be done."""
    with contextlib.suppress(OSError):
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


def _name_first(place: Path, target: Path) -> None:
    """Give a file its name unless another has it: by a hard link, or where there are none under a lock."""
    try:
        os.link(place, target)
    except OSError as error:
        if isinstance(error, FileExistsError) and _are_one(place, target):
            return  # NFS asks again where an answer was lost, and meets what it has made itself
        if isinstance(error, FileExistsError) or error.errno not in NO_LINKS:
            raise
        with locked(target):
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, "is there already", str(target)) from error
            place.replace(target)


def _are_one(place: Path, target: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return place.samefile(target)
    return False


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """A lock by exclusive creation, which file systems without hard links have, too."""
    lock = target.with_name(f".{target.name}.lock{TEMPORARY}")
    seen, since = None, time.monotonic()
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            about = _identity(lock)
            if about != seen:
                seen, since = about, time.monotonic()
            elif time.monotonic() - since > LOCK_SECONDS:
                lock.unlink(missing_ok=True)
            time.sleep(0.01)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _identity(place: Path) -> tuple[int, int] | None:
    with contextlib.suppress(FileNotFoundError):
        about = place.lstat()
        return about.st_ino, about.st_mtime_ns
    return None


def clear_the_way(target: Path, root: Path) -> bool:
    """Set aside, by name, what stands where a file of the store should be, or a folder on the way; whether it did.

    That is a folder, a link that leads nowhere, or on the way a file.
    """
    steps = [
        root.joinpath(*target.relative_to(root).parts[:depth]) for depth in range(len(target.relative_to(root).parts))
    ]
    for folder in steps[1:]:
        if os.path.lexists(folder) and not folder.is_dir():
            return set_aside(folder, "a folder")
    if os.path.lexists(target) and not target.is_file():
        return set_aside(target, "a file")
    return False


def set_aside(place: Path, expected: str) -> bool:
    """Rename what stands there to `NAME.damaged-1`, or the next number, and say so; of a link the link itself."""
    names = (place.with_name(f"{place.name}.damaged-{number}") for number in itertools.count(1))
    aside = next(name for name in names if not os.path.lexists(name))
    with contextlib.suppress(FileNotFoundError):  # another process has done so
        place.rename(aside)
        log.warning("%s is not %s; it is set aside as %s", place, expected, aside.name)
    return True
