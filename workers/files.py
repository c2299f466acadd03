"""Files of a store, on a local or remote filesystem: each appears whole or not at all. No torch, no Ray."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from os.path import lexists
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from prunesweep.workers.appearing import TEMPORARY, set_aside
from prunesweep.workers.errors import UserError
from prunesweep.workers.filesystems import AT_ONCE, UNCONDITIONAL, Entry, Filesystem, Local, Stamp
from prunesweep.workers.location import Location

T = TypeVar("T")
R = TypeVar("R")

ASIDE = "damaged-"
"""What the names of files begin with that were set aside."""

MARK = ".prunesweep"
"""An empty file in every store, so that the folder where one was mounted is not taken for it."""


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_NAME = re.compile(r"[^/\x00]+")


class Unavailable(OSError):
    """The store cannot be read or written now: it is gone, read-only, or out of order."""


@dataclass(frozen=True)
class File:
    """A file of the store; `path` is what `Store.read` takes."""

    path: tuple[str, ...]
    size: int
    modified: datetime
    tag: str = ""

    @property
    def stamp(self) -> Stamp:
        """By which it is known to be as it was."""
        if self.tag:
            return Stamp(self.size, 0, self.tag)
        return Stamp(self.size, round((self.modified - EPOCH).total_seconds() * 1e6) * 1000)


class Files:
    """Bytes by path, at a local path or a URL that pyarrow (`s3://bucket/prefix`, `gs://...`) or fsspec knows."""

    def __init__(self, location: str | Path | Location, *, exists: bool = False) -> None:
        """With `exists` the place is known to be a store: when it is gone, no new one is made there."""
        self.location = Location(location).absolute()
        self._fs, self._root = _open(self.location)
        self.is_local, self.exclusive = self._fs.is_local, self._fs.exclusive
        self._exists = exists

    def path(self, *parts: str) -> str:
        """A path inside the store, for people and for `read` and `write`; raises `UserError` for what is no name.

        Names come out of records and tables, too, which may be anybody's: none leads out of the store.
        """
        for part in parts:
            if part in ("", ".", "..") or not _NAME.fullmatch(part):
                raise UserError(f"{part!a} is no name of a file or folder in the store {self.location}")
        return "/".join((self._root, *parts))

    def url(self, *parts: str) -> Location:
        """A place in the store as `load_results` takes it, from any process."""
        return self.location.beside(*parts)

    def read(self, *parts: str) -> bytes | None:
        """A file's bytes, or None when there is none; raises `Unavailable`."""
        return self.read_start(None, *parts)

    def read_start(self, length: int | None, *parts: str) -> bytes | None:
        """A file's first bytes, or all; as `read`."""
        try:
            return self._fs.read(self.path(*parts), length)
        except OSError as error:
            raise Unavailable(f"{self.path(*parts)} cannot be read: {error}") from error

    def read_stamped(self, *parts: str) -> tuple[bytes | None, Stamp | None]:
        """As `read`, and the stamp of just these bytes, None where the filesystem does not tell it."""
        try:
            return self._fs.read_stamped(self.path(*parts))
        except OSError as error:
            raise Unavailable(f"{self.path(*parts)} cannot be read: {error}") from error

    def read_many(self, paths: Iterable[tuple[str, ...]]) -> list[bytes | None]:
        """What `read` says of each path, in their order; on a remote filesystem `AT_ONCE` at the same time."""
        return self.at_once(lambda path: self.read(*path), list(paths))

    def at_once(self, ask: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """What `ask` returns for each, in their order; on a remote filesystem `AT_ONCE` at the same time."""
        if self.is_local or len(items) < 2:
            return list(map(ask, items))
        with ThreadPoolExecutor(min(AT_ONCE, len(items)), "asking") as pool:
            return list(pool.map(ask, items))

    def are_files(self, paths: Iterable[tuple[str, ...]]) -> list[bool]:
        """Whether each is there, and a file; none is read."""
        return self._fs.are_files([self.path(*path) for path in paths])

    def write(self, data: bytes, *parts: str, replace: bool = True) -> bool:
        """Write a file so that it appears whole or not at all; without `replace` the first one stands (false).

        Raises `Unavailable`, and another `OSError` when the disk is full (`is_full`).
        """
        target = self.path(*parts)
        try:
            if self.is_local and not Path(target).parent.exists():
                self.require_present()
            if not replace:
                return self._fs.create(target, data)
            self._fs.write(target, data)
        except OSError as error:
            if is_full(error) or isinstance(error, Unavailable):
                raise
            raise Unavailable(f"{target} cannot be written: {error.strerror or error}") from error
        return True

    def remove(self, *parts: str) -> None:
        """Delete a file if it is there."""
        self.remove_many([parts])

    def remove_many(self, paths: Iterable[tuple[str, ...]]) -> None:
        """Delete those of the files that are there."""
        self._fs.remove([self.path(*path) for path in paths])

    def names(self, *parts: str) -> list[str]:
        """Names in a folder, sorted; none when it does not exist."""
        return sorted(name for name in self._fs.names(self.path(*parts)) if not name.endswith(TEMPORARY))

    def files(self, *folder: str) -> list[File]:
        """All files in a folder and below, or of the store, temporary ones too, sorted; links are not followed.

        One request for each thousand of them on an object store.
        """
        files = map(self._file, self._fs.files(self.path(*folder)))
        return sorted(files, key=lambda file: file.path)

    def page(self, *folder: str, after: str) -> list[File] | None:
        """The next thousand files in a folder and below whose paths in it come after this one: one request.

        Fewer are the last; None where the filesystem can only list all.
        """
        entries = self._fs.page(self.path(*folder), after)
        return None if entries is None else list(map(self._file, entries))

    def _file(self, entry: Entry) -> File:
        path = tuple(entry.path.removeprefix(self._root).strip("/").split("/"))
        return File(path, entry.size, entry.modified, entry.tag)

    def require_no_link(self, *parts: str) -> None:
        """Raise `UserError` when a part of this path in the store is a link."""
        place = Path(self._root)
        for part in parts if self.is_local else ():
            place /= part
            if place.is_symlink():
                raise UserError(f"{place} is a link, and what it leads to is left alone; remove it by hand")

    def set_link_aside(self, *parts: str) -> bool:
        """Rename a link in the place of a folder, which leads to what is another's; whether there was one."""
        place = Path(self.path(*parts))
        return self.is_local and place.is_symlink() and set_aside(place, "a folder of its own")

    def set_file_aside(self, *parts: str) -> str | None:
        """Give a damaged file a name of its own, which nothing reads; its new path, None when there is no file."""
        *folder, name = parts
        target = self.path(*folder, f"{ASIDE}{uuid4().hex[:8]}-{name}")
        return target if self._move(self.path(*parts), target) else None

    def _move(self, source: str, target: str) -> bool:
        return self._fs.move(source, target)

    def free_bytes(self) -> int | None:
        """Free space where the store is or will be, None where that is not known: on a remote filesystem."""
        if not self.is_local:
            return None
        folder = Path(self._root)
        return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free

    def require_writable(self) -> None:
        """Make this place a store; raises `UserError` unless files can be written here, one by one of many at once."""
        problem = self.problem()
        if problem is not None:
            raise UserError(
                f"the store {self.location} is not writable ({problem}): "
                "choose another with --store or PRUNESWEEP_STORE"
            )
        if self.read(MARK) is None:
            self.write(b"", MARK)
        self._exists = True
        if self.exclusive and not self.is_local and self.write(uuid4().bytes, MARK, replace=False):
            raise UserError(
                f"the server of the store {self.location} ignores If-None-Match, so two runs could both be given one "
                f"stage; use a version of it that has conditional writes, or add ?{UNCONDITIONAL} to the URL and let "
                "one run at a time work there"
            )

    def problem(self) -> str | None:
        """Why the store cannot be written now, None when it can, or is only full."""
        try:
            self.require_present()
            self.write(b"", ".writable")
            self.remove(".writable")
        except OSError as error:
            return None if is_full(error) else str(error)
        return None

    def require_present(self) -> None:
        """Raise `Unavailable` when the store is gone that was here before."""
        marked = lexists(self.path(MARK)) if self.is_local else self.read(MARK) is not None
        if self._exists and not marked:
            raise Unavailable(f"the store {self.location} is gone; was it on a disk that is not mounted any more?")


def is_full(error: Exception) -> bool:
    """Whether a file could not be written for want of space, or of quota."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


def _check_place(folder: Path) -> None:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        raise UserError(
            f"the store {folder} is not writable: {there} is not a folder; "
            "choose another with --store or PRUNESWEEP_STORE"
        )


def _open(location: Location) -> tuple[Filesystem, str]:
    if not location.is_url:
        _check_place(Path(location))
        return Local(location.reveal()), location.reveal()
    from prunesweep.workers.remote import open_url  # what is on a disk waits for no library of a cloud

    return open_url(location)
