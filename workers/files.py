"""Files of a store, on a local or remote filesystem: each appears whole or not at all. No torch, no Ray."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from pyarrow import fs

from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location, public

ASIDE = "damaged-"
"""What the names of files begin with that were set aside."""

TEMPORARY = ".tmp"

MARK = ".prunesweep"
"""An empty file in every store, so that the folder where one was mounted is not taken for it."""


AT_ONCE = 64
"""So many small files are read at the same time where each takes a round trip."""

_NAME = re.compile(r"[^/\x00]+")


class Unavailable(OSError):
    """The store cannot be read or written now: it is gone, read-only, or out of order."""


@dataclass(frozen=True)
class File:
    """A file of the store; `path` is what `Store.read` takes."""

    path: tuple[str, ...]
    size: int
    modified: datetime


class Files:
    """Bytes by path, at a local path or a URL that pyarrow (`s3://bucket/prefix`, `gs://...`) or fsspec knows."""

    def __init__(self, location: str | Path | Location, *, exists: bool = False) -> None:
        """With `exists` the place is known to be a store: when it is gone, no new one is made there."""
        self.location = Location(location).absolute()
        self._fs, self._root = _open(self.location)
        self.is_local = isinstance(self._fs, fs.LocalFileSystem)
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
        try:
            with self._fs.open_input_stream(self.path(*parts), compression=None) as stream:
                data: bytes = stream.read()
                return data
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Unavailable(f"{self.path(*parts)} cannot be read: {error}") from error

    def read_many(self, paths: Iterable[tuple[str, ...]]) -> list[bytes | None]:
        """What `read` says of each path, in their order; on a remote filesystem `AT_ONCE` at the same time."""
        paths = list(paths)
        if self.is_local or len(paths) < 2:
            return [self.read(*path) for path in paths]
        with ThreadPoolExecutor(min(AT_ONCE, len(paths)), "reading") as pool:
            return list(pool.map(lambda path: self.read(*path), paths))

    def write(self, data: bytes, *parts: str, replace: bool = True) -> bool:
        """Write a file so that it appears whole or not at all; without `replace` the first one stands (false).

        Raises `Unavailable`, and another `OSError` when the disk is full (`is_full`).
        """
        target = self.path(*parts)
        try:
            return (self._write_local if self.is_local else self._upload)(target, data, replace)
        except OSError as error:
            if is_full(error) or isinstance(error, Unavailable):
                raise
            raise Unavailable(f"{target} cannot be written: {error.strerror or error}") from error

    def _write_local(self, target: str, data: bytes, replace: bool) -> bool:
        try:
            with appearing(Path(target), replace=replace) as temporary:
                try:
                    temporary.write_bytes(data)
                except FileNotFoundError:
                    self.require_present()
                    temporary.parent.mkdir(parents=True, exist_ok=True)
                    temporary.write_bytes(data)
        except FileExistsError:
            return False
        return True

    def _upload(self, target: str, data: bytes, replace: bool) -> bool:
        """An object appears only when it is complete; two writers of one key differ in timings at most."""
        if not replace and self._fs.get_file_info(target).type == fs.FileType.File:
            return False
        with self._fs.open_output_stream(target) as stream:
            stream.write(data)
        return True

    def remove(self, *parts: str) -> None:
        """Delete a file if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(self.path(*parts))

    def names(self, *parts: str) -> list[str]:
        """Names in a folder, sorted; none when it does not exist."""
        folder = self.path(*parts)
        deep = self._fs.type_name == "gcs"  # where pyarrow does not list folders
        infos = self._fs.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=deep))
        names = {info.path.removeprefix(f"{folder}/").partition("/")[0] for info in infos}
        return sorted(name for name in names if not name.endswith(TEMPORARY))

    def files(self, *folder: str) -> list[File]:
        """All files in a folder and below, or of the store, temporary ones too, sorted; links are not followed.

        One request for each thousand of them on an object store.
        """
        place = self.path(*folder)
        if self.is_local:
            return sorted(_local_files(Path(place), Path(self._root)), key=lambda file: file.path)
        selector = fs.FileSelector(place, recursive=True, allow_not_found=True)
        infos = [info for info in self._fs.get_file_info(selector) if info.type == fs.FileType.File]
        by_path = [(tuple(info.path.removeprefix(self._root).strip("/").split("/")), info) for info in infos]
        return [File(path, info.size, info.mtime) for path, info in sorted(by_path, key=lambda item: item[0])]

    def require_no_link(self, *parts: str) -> None:
        """Raise `UserError` when a part of this path in the store is a link."""
        place = Path(self._root)
        for part in parts if self.is_local else ():
            place /= part
            if place.is_symlink():
                raise UserError(f"{place} is a link, and what it leads to is left alone; remove it by hand")

    def set_file_aside(self, *parts: str) -> str | None:
        """Give a damaged file a name of its own, which nothing reads; its new path, None when there is no file."""
        *folder, name = parts
        target = self.path(*folder, f"{ASIDE}{uuid4().hex[:8]}-{name}")
        return target if self._move(self.path(*parts), target) else None

    def _move(self, source: str, target: str) -> bool:
        """Rename a file, over another if need be; false when it does not exist."""
        if not self.is_local and self._fs.get_file_info(source).type != fs.FileType.File:
            return False  # of an object store the error would say the same in many ways
        try:
            self._fs.move(source, target)
        except FileNotFoundError:
            return False
        return True

    def free_bytes(self) -> int | None:
        """Free space where the store is or will be, None where that is not known: on a remote filesystem."""
        if not self.is_local:
            return None
        folder = Path(self._root)
        return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free

    def require_writable(self) -> None:
        """Make this place a store; raises `UserError` unless files can be written here."""
        problem = self.problem()
        if problem is not None:
            raise UserError(
                f"the store {self.location} is not writable ({problem}): "
                "choose another with --store or PRUNESWEEP_STORE"
            )
        if self.read(MARK) is None:
            self.write(b"", MARK)
        self._exists = True

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
        if self._exists and self.read(MARK) is None:
            raise Unavailable(f"the store {self.location} is gone; was it on a disk that is not mounted any more?")


def _local_files(top: Path, root: Path) -> Iterator[File]:
    for folder, _, names in os.walk(top):  # which does not follow links to folders
        for name in names:
            place = Path(folder, name)
            with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                about = place.lstat()
                if stat.S_ISREG(about.st_mode):
                    modified = datetime.fromtimestamp(about.st_mtime, UTC)
                    yield File(place.relative_to(root).parts, about.st_size, modified)


@contextlib.contextmanager
def appearing(target: Path, *, replace: bool = True, temporary: Path | None = None) -> Iterator[Path]:
    """A file or folder that appears whole or not at all: it is written beside its place, and renamed at the end.

    Yields the path to write to; `target` appears when the block has ended without an exception. Without `replace` a
    file that is there already stands, and `FileExistsError` is raised. Nothing stays beside it unless the process is
    killed; who holds a lock gives a `temporary` of a fixed name, so that the next one clears that away.
    """
    place = temporary or target.with_name(f".{uuid4().hex[:8]}{TEMPORARY}")
    _clear(place)
    try:
        yield place
        if replace:
            place.replace(target)
        else:
            os.link(place, target)
    finally:
        _clear(place)


def _clear(place: Path) -> None:
    with contextlib.suppress(OSError):
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


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


def _open(location: Location) -> tuple[fs.FileSystem, str]:
    if location.is_url:
        return remote(location)
    _check_place(Path(location))
    return fs.LocalFileSystem(), location.reveal()


def remote(url: Location) -> tuple[fs.FileSystem, str]:
    """The filesystem of a URL, and the path in it; raises `UserError`."""
    try:
        filesystem, root = fs.FileSystem.from_uri(url.reveal())
    except ValueError:
        filesystem, root = _foreign(url)
    except OSError as error:
        raise UserError(f'cannot open "{url}": {public(str(error))}') from None  # its text has the whole URL
    return filesystem, root.rstrip("/")


def _foreign(url: Location) -> tuple[fs.FileSystem, str]:
    """A filesystem that pyarrow does not know, by fsspec, which may want a package of its own for it."""
    from fsspec.core import url_to_fs  # takes a fifth of a second

    try:
        filesystem, root = url_to_fs(url.reveal())
    except (ValueError, ImportError, OSError) as error:
        raise UserError(f'cannot open "{url}": {public(str(error))}') from None
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), root
