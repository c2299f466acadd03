"""Stores at a URL, and which library serves them: obstore where it can, pyarrow, or fsspec. No torch, no Ray."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyarrow import fs

from prunesweep.workers.errors import UserError
from prunesweep.workers.filesystems import AT_ONCE, Entry, Filesystem, Local, Stamp
from prunesweep.workers.location import Location, public
from prunesweep.workers.objects import open_objects, without_option


class Arrow:
    """A remote filesystem as pyarrow, or fsspec through it, sees it: it cannot create only if there is nothing."""

    is_local = exclusive = False

    def __init__(self, filesystem: fs.FileSystem) -> None:
        self.fs = filesystem
        pa.set_io_thread_count(max(AT_ONCE, pa.io_thread_count()))

    def read(self, path: str, length: int | None = None) -> bytes | None:
        try:
            with self.fs.open_input_stream(path, compression=None) as stream:
                data: bytes = stream.read(length)
                return data
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def read_stamped(self, path: str) -> tuple[bytes | None, Stamp | None]:
        return self.read(path), None

    def write(self, path: str, data: bytes) -> None:
        with self.fs.open_output_stream(path) as stream:
            stream.write(data)

    def create(self, path: str, data: bytes) -> bool:
        if self.are_files([path])[0]:
            return False
        self.write(path, data)
        return True

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                self.fs.delete_file(path)

    def move(self, source: str, target: str) -> bool:
        if not self.are_files([source])[0]:
            return False  # the error would say the same in many ways
        self.fs.move(source, target)
        return True

    def names(self, folder: str) -> set[str]:
        deep = self.fs.type_name == "gcs"  # where pyarrow does not list folders
        infos = self.fs.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=deep))
        return {info.path.removeprefix(f"{folder}/").partition("/")[0] for info in infos}

    def files(self, folder: str) -> Iterator[Entry]:
        infos = self.fs.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
        return (Entry(info.path, info.size, info.mtime) for info in infos if info.type == fs.FileType.File)

    def page(self, folder: str, after: str) -> None:
        return None

    def are_files(self, paths: list[str]) -> list[bool]:
        return [info.type == fs.FileType.File for info in self.fs.get_file_info(paths)]

    def remove_folder(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # on Google's store the folder itself is no object
            self.fs.delete_dir(path)


def open_url(url: Location) -> tuple[Filesystem, str]:
    """The filesystem of a URL, and the path in it; raises `UserError`."""
    objects = open_objects(url)
    if objects is not None:
        return objects, objects.root
    filesystem, root = remote(url)
    return (Local(root) if isinstance(filesystem, fs.LocalFileSystem) else Arrow(filesystem)), root


def remote(url: Location) -> tuple[fs.FileSystem, str]:
    """The filesystem of a URL as pyarrow or fsspec sees it, and the path in it; raises `UserError`."""
    try:
        filesystem, root = fs.FileSystem.from_uri(without_option(url.reveal()))
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
