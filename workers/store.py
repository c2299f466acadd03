"""Stages by key, on a local or remote filesystem.

    <store>/stages/<key>/spec.json             what was asked for
                         network.safetensors   the finished network; momentum.safetensors beside it for a pruning phase
                         curve.parquet         a row per epoch
                         result.json           the metrics; written last, so that it says: done
                         checkpoint.safetensors, checkpoint.previous.safetensors   only while the stage runs
                         attempts/*.json       when, where and by whom it was tried, and why it failed
                         damaged-*             what was set aside: damaged files are renamed, never deleted

Progress is derived from these files; reading never writes. Every file appears whole or not at all, and the first
result to be published stands. Results, notes of attempts and checkpoints carry their own checksum (`workers.seal`),
the other files of a finished stage have theirs in its result. No torch, no Ray.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from pyarrow import fs

from workers.errors import UserError
from workers.seal import intact, sealed_json, unsealed_json
from workers.spec import Stage, encode

RESULT = "result.json"
NETWORK = "network.safetensors"
MOMENTUM = "momentum.safetensors"
CURVE = "curve.parquet"
CHECKPOINT = "checkpoint.safetensors"
PREVIOUS_CHECKPOINT = "checkpoint.previous.safetensors"
CHECKPOINTS = (CHECKPOINT, PREVIOUS_CHECKPOINT)
"""The newest first."""

ASIDE = "damaged-"
"""What the names of files begin with that were set aside."""

TEMPORARY = ".tmp"

REMOTE_READS = 16
"""So many small files are read at once where each takes a round trip."""

LONGEST_HEADER = 100_000_000
"""Bytes, as in safetensors itself: a damaged length must not make us read on for ever."""


class State(StrEnum):
    """How far a stage is, by the files in its folder."""

    ABSENT = "absent"
    STARTED = "started"
    FAILED = "failed"
    DAMAGED = "damaged"
    DONE = "done"


class Damaged(RuntimeError):
    """A file of the stage `key`, which was finished, is not the one that was published."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Attempt:
    """One try at a stage; `cause` is None while it runs, after it succeeded, and when it was killed without a word.

    Of a try whose note is damaged only `name` is known, and `started_at` is empty.
    """

    name: str
    started_at: str
    host: str
    process: int
    cause: str | None = None
    message: str | None = None
    traceback: str | None = None
    log: tuple[str, ...] = ()


@dataclass(frozen=True)
class File:
    """A file of the store; `path` is what `Store.read` takes."""

    path: tuple[str, ...]
    size: int
    modified: datetime


class Store:
    """The stages of all sweeps, at a local path or a URL that pyarrow's filesystems know (`s3://bucket/prefix`)."""

    def __init__(self, location: str | Path) -> None:
        self.location = str(location) if "://" in str(location) else str(Path(location).expanduser().absolute())
        self._fs, self._root = _open(self.location)
        self._local = isinstance(self._fs, fs.LocalFileSystem)

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.location,)

    def path(self, *parts: str) -> str:
        """A path inside the store, for people and for `read` and `write`."""
        return "/".join((self._root, *parts))

    def url(self, *parts: str) -> str:
        """A place in the store as `load_results` takes it, from any process."""
        return "/".join((self.location.rstrip("/"), *parts))

    # --- files

    def read(self, *parts: str) -> bytes | None:
        """A file's bytes, or None when there is none."""
        try:
            with self._fs.open_input_stream(self.path(*parts), compression=None) as stream:
                data: bytes = stream.read()
                return data
        except FileNotFoundError:
            return None

    def write(self, data: bytes, *parts: str, replace: bool = True) -> bool:
        """Write a file so that it appears whole or not at all; without `replace` the first one stands (false)."""
        target = self.path(*parts)
        if not self._local:
            return self._upload(target, data, replace)
        with _temporary(target, data) as temporary:
            if replace:
                temporary.replace(target)
                return True
            try:
                os.link(temporary, target)
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
        selector = fs.FileSelector(self.path(*parts), allow_not_found=True)
        names = [info.base_name for info in self._fs.get_file_info(selector)]
        return sorted(name for name in names if not name.endswith(TEMPORARY))

    def files(self) -> list[File]:
        """All files of the store, temporary ones and those of the sweeps too, sorted."""
        selector = fs.FileSelector(self._root, recursive=True, allow_not_found=True)
        infos = [info for info in self._fs.get_file_info(selector) if info.type == fs.FileType.File]
        found = [(tuple(info.path.removeprefix(self._root).strip("/").split("/")), info) for info in infos]
        return [File(path, info.size, info.mtime) for path, info in sorted(found, key=lambda each: each[0])]

    def remove_tree(self, *parts: str) -> None:
        """Delete a file, or a stage with all that it has: its result first, so that what is left is not done."""
        if self._fs.get_file_info(self.path(*parts)).type != fs.FileType.Directory:
            self.remove(*parts)
            return
        self.remove(*parts, RESULT)
        self._fs.delete_dir(self.path(*parts))

    def set_file_aside(self, *parts: str) -> str | None:
        """Give a damaged file a name of its own, which nothing reads; its new path, None when there is no file."""
        *folder, name = parts
        target = self.path(*folder, f"{ASIDE}{uuid4().hex[:8]}-{name}")
        return target if self._move(self.path(*parts), target) else None

    def _move(self, source: str, target: str) -> bool:
        """Rename a file, over another if need be; false when it does not exist."""
        try:
            self._fs.move(source, target)
        except FileNotFoundError:
            return False
        return True

    def free_bytes(self) -> int | None:
        """Free space where the store is or will be, None where that is not known: on a remote filesystem."""
        if not self._local:
            return None
        folder = Path(self._root)
        return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free

    def require_writable(self) -> None:
        """Raise `UserError` unless files can be written here."""
        try:
            self.write(b"", ".writable")
            self.remove(".writable")
        except OSError as error:
            raise UserError(
                f"the store {self.location} is not writable ({error.strerror or error}): "
                "choose another with --store or PRUNESWEEP_STORE"
            ) from error

    # --- progress

    def done(self, keys: Iterable[str]) -> set[str]:
        """Those of the stages that have a result which is whole."""
        states = self._finished(list(keys))
        return {key for key, state in states.items() if state is State.DONE}

    def states(self, keys: Iterable[str]) -> dict[str, State]:
        """Every stage's state. A result that is damaged is noticed here, its network when something starts from it."""
        keys = list(keys)
        finished, known = self._finished(keys), set(self.names("stages"))
        return {key: finished.get(key) or (self._unfinished(key) if key in known else State.ABSENT) for key in keys}

    def _finished(self, keys: list[str]) -> dict[str, State]:
        """Of the stages that have a result: whether it is whole."""
        infos = self._fs.get_file_info([self.path("stages", key, RESULT) for key in keys])
        there = [key for key, info in zip(keys, infos, strict=True) if info.type == fs.FileType.File]
        with ThreadPoolExecutor(REMOTE_READS) as pool:
            results = (map if self._local else pool.map)(self._intact_result, there)
            return {key: State.DONE if data else State.DAMAGED for key, data in zip(there, results, strict=True)}

    def _intact_result(self, key: str) -> bytes | None:
        data = self.read("stages", key, RESULT)
        return data if data is not None and intact(data) else None

    def _unfinished(self, key: str) -> State:
        attempts = self.attempts(key)
        return State.FAILED if attempts and attempts[-1].cause else State.STARTED

    def result(self, key: str) -> dict[str, Any] | None:
        """The content of `result.json`, None when the stage is not done or its result is damaged."""
        data = self._intact_result(key)
        return None if data is None else unsealed_json(data)

    def attempts(self, key: str) -> list[Attempt]:
        """The tries at a stage, oldest first; those whose note is damaged come before all others."""
        names = [name for name in self.names("stages", key, "attempts") if name.endswith(".json")]
        tries = [self._attempt(key, name) for name in names]
        return sorted((each for each in tries if each), key=lambda attempt: attempt.started_at)

    def _attempt(self, key: str, name: str) -> Attempt | None:
        data = self.read("stages", key, "attempts", name)
        if data is None:
            return None
        if not intact(data):
            return Attempt(name.removesuffix(".json"), "", "", 0)
        noted = unsealed_json(data)
        return Attempt(**{**noted, "log": tuple(noted["log"])})

    # --- a stage's life

    def begin(self, stage: Stage) -> Attempt:
        """Note that this process starts to work on a stage."""
        self.write(json.dumps(encode(stage), indent=1).encode(), "stages", stage.key, "spec.json")
        attempt = Attempt(uuid4().hex[:12], now(), socket.gethostname(), os.getpid())
        self._note(stage.key, attempt)
        return attempt

    def fail(self, key: str, attempt: Attempt) -> None:
        """Note why an attempt failed."""
        self._note(key, attempt)

    def _note(self, key: str, attempt: Attempt) -> None:
        self.write(sealed_json(asdict(attempt)), "stages", key, "attempts", f"{attempt.name}.json")

    def publish(self, stage: Stage, files: Mapping[str, bytes], result: Mapping[str, Any]) -> None:
        """Make a stage done: its files, then `result.json` with their checksums, then the checkpoints go.

        A stage that is done already stays as it is.
        """
        sums = {name: _sha256(data) for name, data in files.items()}
        sealed = sealed_json({**result, "files": sums})
        if not self.done([stage.key]):
            try:
                self._publish(stage.key, files, sealed)
            except OSError as error:
                if not is_full(error):
                    raise
                self.remove("stages", stage.key, PREVIOUS_CHECKPOINT)  # as large as what is to be written
                self._publish(stage.key, files, sealed)
        for name in CHECKPOINTS:
            self.remove("stages", stage.key, name)

    def _publish(self, key: str, files: Mapping[str, bytes], result: bytes) -> None:
        try:
            for name, data in files.items():
                self.write(data, "stages", key, name)
            self.write(result, "stages", key, RESULT, replace=False)
        except OSError:
            for name in files:  # what space there is serves the note of the failure, and other stages
                self.remove("stages", key, name)
            raise

    def read_published(self, key: str, name: str) -> bytes:
        """A file of a finished stage, checked against the sum in its result; raises `Damaged`."""
        data, result = self.read("stages", key, name), self.result(key)
        if result is None:
            raise Damaged(key, f"{self.path('stages', key, RESULT)} is missing or damaged")
        if data is None or _sha256(data) != result["files"].get(name):
            raise Damaged(key, f"{self.path('stages', key, name)} is missing or damaged")
        return data

    def set_aside(self, key: str) -> list[str]:
        """Rename the damaged files of a finished stage, its result first: it is not done any more.

        Returns the paths of what was missing or damaged, none when all is well or the stage was not done.
        """
        damaged = self._damaged(key)
        for name in dict.fromkeys([RESULT, *damaged] if damaged else ()):
            self.set_file_aside("stages", key, name)
        return [self.path("stages", key, name) for name in damaged]

    def _damaged(self, key: str) -> list[str]:
        data = self.read("stages", key, RESULT)
        if data is None:
            return []
        if not intact(data):
            return [RESULT]
        return [name for name, known in unsealed_json(data)["files"].items() if self._sum(key, name) != known]

    def _sum(self, key: str, name: str) -> str | None:
        data = self.read("stages", key, name)
        return None if data is None else _sha256(data)

    # --- checkpoints

    def write_checkpoint(self, key: str, data: bytes) -> None:
        """Keep a checkpoint, and the one before it."""
        self._move(*(self.path("stages", key, name) for name in CHECKPOINTS))
        self.write(data, "stages", key, CHECKPOINT)

    def checkpointed_epochs(self, key: str) -> int | None:
        """How many epochs a stage's newest readable checkpoint holds, None without one; reads headers, no tensor."""
        epochs = (self._checkpointed_epochs(key, name) for name in CHECKPOINTS)
        return next((epoch for epoch in epochs if epoch is not None), None)

    def _checkpointed_epochs(self, key: str, name: str) -> int | None:
        try:
            with self._fs.open_input_stream(self.path("stages", key, name), compression=None) as stream:
                epochs: int = json.loads(read_metadata(stream)["progress"])["epoch"]
                return epochs
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None


def is_full(error: Exception) -> bool:
    """Whether a file could not be written for want of space, or of quota."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_metadata(stream: IO[bytes]) -> dict[str, str]:
    """The text entries in the header of a safetensors file: 8 bytes of length (little-endian), then JSON."""
    length = int.from_bytes(stream.read(8), "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    metadata: dict[str, str] = json.loads(stream.read(length))["__metadata__"]
    return metadata


def now() -> str:
    """The time in UTC, as ISO 8601 with microseconds, so that it sorts."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@contextlib.contextmanager
def _temporary(target: str, data: bytes) -> Iterator[Path]:
    """The data under another name in the same folder; whatever happens, nothing stays under it."""
    temporary = Path(f"{target}.{uuid4().hex[:8]}{TEMPORARY}")
    try:
        try:
            temporary.write_bytes(data)
        except FileNotFoundError:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _check_place(folder: Path) -> None:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        raise UserError(
            f"the store {folder} is not writable: {there} is not a folder; "
            "choose another with --store or PRUNESWEEP_STORE"
        )


def _open(location: str) -> tuple[fs.FileSystem, str]:
    if "://" not in location:
        _check_place(Path(location))
        return fs.LocalFileSystem(), location
    try:
        filesystem, root = fs.FileSystem.from_uri(location)
    except (ValueError, OSError) as error:
        raise UserError(f'cannot open the store "{location}": {error}') from error
    return filesystem, root.rstrip("/")
