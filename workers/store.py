"""Stages by key, on a local or remote filesystem.

    <store>/stages/<key>/spec.json             what was asked for
                         network.safetensors   the finished network; momentum.safetensors beside it for a pruning phase
                         curve.parquet         a row per epoch
                         result.json           the metrics; written last, so that it says: done
                         checkpoint.safetensors, checkpoint.previous.safetensors   only while the stage runs
                         attempts/*.json       when, where and by whom it was tried, and why it failed
                         claim.<n>.json        who computes it now (`workers.claims`)
                         damaged-*             what was set aside: damaged files are renamed, never deleted

Progress is derived from these files; reading never writes. Every file appears whole or not at all, and the first
result to be published stands. Results, notes of attempts and checkpoints carry their own checksum (`workers.seal`),
the other files of a finished stage have theirs in its result. No torch, no Ray.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import IO, Any
from uuid import uuid4

from pyarrow import fs

from prunesweep.workers.files import Files, is_full
from prunesweep.workers.seal import intact, sealed_json, unsealed_json
from prunesweep.workers.spec import Stage, encode

RESULT = "result.json"
NETWORK = "network.safetensors"
MOMENTUM = "momentum.safetensors"
CURVE = "curve.parquet"
CHECKPOINT = "checkpoint.safetensors"
PREVIOUS_CHECKPOINT = "checkpoint.previous.safetensors"
CHECKPOINTS = (CHECKPOINT, PREVIOUS_CHECKPOINT)
"""The newest first."""

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

    `run` names the driver that asked for it. Of a try whose note is damaged only `name` is known, and `started_at` is
    empty; of one that ended before its first note, so that its driver notes it, `host` and `process` are not known.
    """

    name: str
    started_at: str
    host: str
    process: int
    cause: str | None = None
    message: str | None = None
    traceback: str | None = None
    log: tuple[str, ...] = ()
    run: str = ""


class Store(Files):
    """The stages of all sweeps, at a local path or a URL that pyarrow (`s3://bucket/prefix`) or fsspec knows."""

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
        results = self.read_many(("stages", key, RESULT) for key in there)
        return {
            key: State.DONE if data and intact(data) else State.DAMAGED
            for key, data in zip(there, results, strict=True)
        }

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
        """The tries at a stage, oldest first: their names are numbered, since a clock may be set back."""
        names = [name for name in self.names("stages", key, "attempts") if name.endswith(".json")]
        tries = (self._attempt(key, name) for name in names)
        return [attempt for attempt in tries if attempt is not None]

    def _attempt(self, key: str, name: str) -> Attempt | None:
        data = self.read("stages", key, "attempts", name)
        if data is None:
            return None
        if not intact(data):
            return Attempt(name.removesuffix(".json"), "", "", 0)
        noted = unsealed_json(data)
        return Attempt(**{**noted, "log": tuple(noted["log"])})

    # --- a stage's life

    def new_attempt(self, key: str, run: str = "") -> Attempt:
        """This process's, with the next number; not noted yet."""
        number = len(self.names("stages", key, "attempts")) + 1
        return Attempt(f"{number:04}-{uuid4().hex[:8]}", now(), socket.gethostname(), os.getpid(), run=run)

    def begin(self, stage: Stage, attempt: Attempt | None = None) -> Attempt:
        """Note that this process starts to work on a stage."""
        attempt = attempt or self.new_attempt(stage.key)
        self.write(json.dumps(encode(stage), indent=1).encode(), "stages", stage.key, "spec.json")
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

    def remove_tree(self, *parts: str) -> None:
        """Delete a file, or a stage with all that it has: its result first, so that what is left is not done.

        Raises `UserError` where a link leads there: what it leads to may be another's.
        """
        self.require_no_link(*parts)
        if self._fs.get_file_info(self.path(*parts)).type == fs.FileType.File:
            self.remove(*parts)
            return
        self.remove(*parts, RESULT)
        with suppress(FileNotFoundError):  # on Google's store the folder itself is no object
            self._fs.delete_dir(self.path(*parts))

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
