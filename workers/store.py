"""Stages by key, on a local or remote filesystem.

    <store>/stages/<key>/spec.json             what was asked for
                         network.safetensors   the finished network; momentum.safetensors beside it for a pruning phase
                         curve.parquet         a row per epoch
                         result.json           the metrics; written last, so that it says: done
                         checkpoint.safetensors   only while the stage runs
                         attempts/*.json       when, where and by whom it was tried, and why it failed

Progress is derived from these files; reading never writes. Every file appears whole or not at all, and the first
result to be published stands. No torch, no Ray.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from pyarrow import fs

from workers.errors import UserError
from workers.spec import Stage, encode

RESULT = "result.json"
NETWORK = "network.safetensors"
MOMENTUM = "momentum.safetensors"
CURVE = "curve.parquet"
CHECKPOINT = "checkpoint.safetensors"


class State(StrEnum):
    """How far a stage is, by the files in its folder."""

    ABSENT = "absent"
    STARTED = "started"
    FAILED = "failed"
    DONE = "done"


class Damaged(RuntimeError):
    """A file of a finished stage is not the one that was published."""


@dataclass(frozen=True)
class Attempt:
    """One try at a stage; `cause` is None while it runs, after it succeeded, and when it was killed without a word."""

    name: str
    started_at: str
    host: str
    process: int
    cause: str | None = None
    message: str | None = None
    traceback: str | None = None
    log: tuple[str, ...] = ()


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
        temporary = Path(f"{target}.{uuid4().hex[:8]}.tmp")
        try:
            temporary.write_bytes(data)
        except FileNotFoundError:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
        if replace:
            temporary.replace(target)
            return True
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
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
        return sorted(name for name in names if not name.endswith(".tmp"))

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
        """Those of the stages that have a result."""
        keys = list(keys)
        infos = self._fs.get_file_info([self.path("stages", key, RESULT) for key in keys])
        return {key for key, info in zip(keys, infos, strict=True) if info.type == fs.FileType.File}

    def states(self, keys: Iterable[str]) -> dict[str, State]:
        """Every stage's state."""
        keys = list(keys)
        done, known = self.done(keys), set(self.names("stages"))
        return {
            key: State.DONE if key in done else self._unfinished(key) if key in known else State.ABSENT for key in keys
        }

    def _unfinished(self, key: str) -> State:
        attempts = self.attempts(key)
        return State.FAILED if attempts and attempts[-1].cause else State.STARTED

    def result(self, key: str) -> dict[str, Any] | None:
        """The content of `result.json`, None when the stage is not done."""
        data = self.read("stages", key, RESULT)
        return None if data is None else json.loads(data)

    def attempts(self, key: str) -> list[Attempt]:
        """The tries at a stage, oldest first."""
        names = [name for name in self.names("stages", key, "attempts") if name.endswith(".json")]
        tries = [json.loads(self.read("stages", key, "attempts", name) or b"{}") for name in names]
        return sorted((Attempt(**{**t, "log": tuple(t["log"])}) for t in tries if t), key=lambda a: a.started_at)

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
        self.write(json.dumps(asdict(attempt), indent=1).encode(), "stages", key, "attempts", f"{attempt.name}.json")

    def publish(self, stage: Stage, files: Mapping[str, bytes], result: Mapping[str, Any]) -> None:
        """Make a stage done: its files, then `result.json` with their checksums, then the checkpoint goes.

        A stage that is done already stays as it is.
        """
        if self.done([stage.key]):
            return
        for name, data in files.items():
            self.write(data, "stages", stage.key, name)
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        text = json.dumps({**result, "files": sums}, indent=1, allow_nan=False)
        self.write(text.encode(), "stages", stage.key, RESULT, replace=False)
        self.remove("stages", stage.key, CHECKPOINT)

    def read_published(self, key: str, name: str) -> bytes:
        """A file of a finished stage, checked against the sum in its result; raises `Damaged`."""
        data, result = self.read("stages", key, name), self.result(key)
        if data is None or result is None or hashlib.sha256(data).hexdigest() != result["files"].get(name):
            raise Damaged(f"{self.path('stages', key, name)} is missing or damaged; remove {self.path('stages', key)}")
        return data

    def checkpointed_epochs(self, key: str) -> int | None:
        """How many epochs a stage's checkpoint holds, None without one; reads the header and no tensor."""
        try:
            with self._fs.open_input_stream(self.path("stages", key, CHECKPOINT), compression=None) as stream:
                epochs: int = json.loads(read_metadata(stream)["progress"])["epoch"]
                return epochs
        except FileNotFoundError:
            return None


def read_metadata(stream: IO[bytes]) -> dict[str, str]:
    """The text entries in the header of a safetensors file: 8 bytes of length (little-endian), then JSON."""
    length = int.from_bytes(stream.read(8), "little")
    metadata: dict[str, str] = json.loads(stream.read(length))["__metadata__"]
    return metadata


def now() -> str:
    """The time in UTC, as ISO 8601 with microseconds, so that it sorts."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


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
