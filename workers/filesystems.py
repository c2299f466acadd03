"""What a store asks of the filesystem that it is on, and how each kind answers. No torch, no Ray.

| call | local | S3, Google's (`workers.objects`) | others (`workers.remote`) |
|---|---|---|---|
| `read` | | 1 request | 2, or 1 where there is no file |
| `write` | renamed | 1, and 1 more for each 5 MB | 1 to 3 |
| `create` | a hard link, or a lock | 1, if there is none; else 1 more | 2 more: it looks first, and then writes |
| `remove` | | 1 for all; Google's: 1 for each | 3 for each |
| `names`, `files`, `page` | | 1 for each thousand | 1 for each thousand |
| `move` | renamed | 2: copied, then deleted | 3 |

Paths are whole ones, as `Files.path` makes them. All raise `OSError`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

from prunesweep.workers.appearing import appearing, clear_the_way

AT_ONCE = 64
"""So many requests are made at the same time where each takes a round trip."""


UNCONDITIONAL = "conditional_writes=no"
"""An option of ours: pyarrow is to serve, which looks, then writes, since the server ignores a write's condition."""

PAGE = 1000
"""So many files an object store lists in one request."""


class Stamp(NamedTuple):
    """By which a file is known to be as it was: its size in bytes, and when it was written, in nanoseconds.

    An object store has a tag for what an object holds; then the time is 0, since a copy of the same is as good.
    """

    size: int
    modified: int
    tag: str = ""


LARGEST = 2**30
"""Bytes of JSON or a table; the record of 50,000 trials has 5 % of it. A larger file is none of ours: it is damaged."""

NO_FILE = {errno.ENXIO, errno.ENODEV, errno.ELOOP}
"""What opening a socket, a device that is not there, or links in a circle say."""


def _without_waiting(path: str, flags: int) -> int:
    """Nobody may ever write into a pipe that stands in the place of a file."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


class Entry(NamedTuple):
    """A file, with its whole path."""

    path: str
    size: int
    modified: datetime
    tag: str = ""


class Filesystem(Protocol):
    """`exclusive` says whether of several `create` at once exactly one is told that it was the first."""

    is_local: bool
    exclusive: bool

    def read(self, path: str, length: int | None = None) -> bytes | None:
        """A file's bytes, or the first so many; None when there is no file."""

    def read_stamped(self, path: str) -> tuple[bytes | None, Stamp | None]:
        """As `read`, and the stamp of just these bytes; None where the filesystem does not tell it."""

    def write(self, path: str, data: bytes) -> None:
        """Put a file in its place, over another; it appears whole or not at all."""

    def create(self, path: str, data: bytes) -> bool:
        """As `write`, but only where there is no file."""

    def remove(self, paths: Iterable[str]) -> None:
        """Delete those of the files that are there."""

    def move(self, source: str, target: str) -> bool:
        """Rename a file, over another if need be; false when it does not exist."""

    def names(self, folder: str) -> set[str]:
        """The files and folders in a folder; none when it does not exist."""

    def files(self, folder: str) -> Iterator[Entry]:
        """All files in a folder and below; links are not followed."""

    def page(self, folder: str, after: str) -> list[Entry] | None:
        """The next `PAGE` files in a folder and below whose paths in it come after this one, in their order.

        Fewer are the last; None where the filesystem can only list all.
        """

    def are_files(self, paths: list[str]) -> list[bool]:
        """Whether each is there, and a file."""

    def remove_folder(self, path: str) -> None:
        """Delete a folder with all that is in it, if it is there."""


class Local:
    """Folders of this machine, or mounted on it; what stands in the way of a file is set aside by name.

    Where the store's folder may be written by its group, so may all that is made in it, whatever the umask.
    """

    is_local = exclusive = True

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def read(self, path: str, length: int | None = None) -> bytes | None:
        return self._read(path, length)[0]

    def read_stamped(self, path: str) -> tuple[bytes | None, Stamp | None]:
        return self._read(path, None)

    def _read(self, path: str, length: int | None) -> tuple[bytes | None, Stamp | None]:
        """Nothing also of a pipe or a device, which may be without end; no byte of JSON or a table too large."""
        try:
            with open(path, "rb", opener=_without_waiting) as file:
                about = os.fstat(file.fileno())
                if not stat.S_ISREG(about.st_mode):
                    return None, None
                if about.st_size > LARGEST and path.endswith((".json", ".parquet")):
                    length = 0
                data = file.read(-1 if length is None else length)
                return data, Stamp(about.st_size, about.st_mtime_ns)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None, None
        except OSError as error:
            if error.errno in NO_FILE:
                return None, None
            raise

    def write(self, path: str, data: bytes) -> None:
        try:
            self._put(Path(path), data, replace=True)
        except (IsADirectoryError, NotADirectoryError, FileExistsError):
            if not clear_the_way(Path(path), self.root):
                raise
            self.write(path, data)

    def create(self, path: str, data: bytes) -> bool:
        try:
            self._put(Path(path), data, replace=False)
        except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
            if clear_the_way(Path(path), self.root):
                return self.create(path, data)
            if isinstance(error, FileExistsError):
                return False
            raise
        return True

    def _put(self, target: Path, data: bytes, *, replace: bool) -> None:
        with appearing(target, replace=replace) as temporary:
            try:
                temporary.write_bytes(data)
            except FileNotFoundError:
                self._make_folder(target.parent)
                temporary.write_bytes(data)
            self._share(temporary, stat.S_IRGRP | stat.S_IWGRP)

    def _make_folder(self, folder: Path) -> None:
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for place in missing:
            if place != self.root:
                self._share(place, stat.S_IRWXG)

    def _share(self, place: Path, mode: int) -> None:
        if self._is_shared:
            with contextlib.suppress(PermissionError):  # where files have no modes
                place.chmod(stat.S_IMODE(place.stat().st_mode) | mode)

    @cached_property
    def _is_shared(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return bool(self.root.stat().st_mode & stat.S_IWGRP)
        return False

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                Path(path).unlink()

    def move(self, source: str, target: str) -> bool:
        try:
            Path(source).replace(target)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def names(self, folder: str) -> set[str]:
        try:
            return set(os.listdir(folder))  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            return set()

    def files(self, folder: str) -> Iterator[Entry]:
        for place, _, names in os.walk(folder):  # which does not follow links to folders
            for name in names:
                path = f"{place}/{name}"
                with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                    about = os.lstat(path)  # a path object would take most of the time
                    if stat.S_ISREG(about.st_mode):
                        yield Entry(path, about.st_size, datetime.fromtimestamp(about.st_mtime, UTC))

    def page(self, folder: str, after: str) -> None:
        return None

    def are_files(self, paths: list[str]) -> list[bool]:
        return [Path(path).is_file() for path in paths]

    def remove_folder(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)
