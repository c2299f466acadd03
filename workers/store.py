"""Stages by key, on a local or remote filesystem.

    <store>/stages/<key>/spec.json             what was asked for
                         network.safetensors   the finished network; momentum.safetensors beside it for a pruning phase
                         state.safetensors     instead of a network: all of a stage of which this is a first part
                         curve.parquet         a row per epoch
                         result.json           the metrics; written last, so that it says: done
                         checkpoint.safetensors, checkpoint.previous.safetensors   only while the stage runs
                         attempts/*.json       when, where and by whom it was tried, and why it failed
                         claim.<n>.json        who computes it now (`workers.claims`)
                         damaged-*             what was set aside: damaged files are renamed, never deleted

Progress is derived from these files; reading never writes. Every file appears whole or not at all. Results, notes of
attempts and checkpoints carry their own checksum (`workers.seal`), the other files of a finished stage have theirs in
its result. No torch, no Ray.

Results are published by `workers.publications`.

| call | requests, for a stage | what it promises to concurrent callers |
|---|---|---|
| `contents` | 1 list | as of one moment |
| `done` | 1 read where up to 8 are asked for, else as `states` | a result stays the same, unless it is set aside |
| `result`, `results` | 1 read, none of a result that `states` has just read | as `done` |
| `states` | 1 list, or less (`workers.listing`); 1 read of its last attempt, or of a result that is new | as `done` |
| `attempts` | 1 list, and 1 read for each | each has a name of its own, so that none is lost |
| `last_attempts` | 1 list, 1 read | |
| `new_attempt` | 1 list, none where the folder's contents are given | its name is its own |
| `begin` | 2 writes | |
| `fail` | 1 write | |
| `publish` | 1 write for each file and the result, 1 to remove checkpoints | one of all wins, where `exclusive`; |
| | who loses: 1 read for each file there is, 2 of the result, 1 to remove | no other's file is touched |
| `read_published` | 2 reads, 1 with the result at hand | one publication's files, or `Damaged` |
| `set_aside` | 1 read for each file; to rename one 2 or 3 | renames what is there, and deletes nothing |
| `write_checkpoint` | 1 write, 2 or 3 to keep the one before | who has the claim alone calls it |
| `remove_tree` | 1 for what it is, 1 for the result, 1 list, 1 for all files | the result goes first |
| `checkpointed_epochs` | 1 read; 1 more where a header is long, or the newest checkpoint is damaged | |

A result is new that neither was read before nor is as an index says (`trust`): size and tag, or time, tell.
A read is one request on S3 and two where pyarrow reads (`workers.filesystems`).
"""

from __future__ import annotations

import io
import json
import os
import socket
from dataclasses import asdict
from datetime import UTC, datetime
from typing import IO
from uuid import uuid4

from prunesweep.workers.encoding import encode
from prunesweep.workers.listing import ATTEMPTS
from prunesweep.workers.progress import Attempt as Attempt
from prunesweep.workers.progress import Progress
from prunesweep.workers.progress import State as State
from prunesweep.workers.publications import CHECKPOINT
from prunesweep.workers.publications import CHECKPOINTS as CHECKPOINTS
from prunesweep.workers.publications import CURVE as CURVE
from prunesweep.workers.publications import MOMENTUM as MOMENTUM
from prunesweep.workers.publications import NETWORK as NETWORK
from prunesweep.workers.publications import RESULT as RESULT
from prunesweep.workers.publications import STATE as STATE
from prunesweep.workers.publications import Damaged as Damaged
from prunesweep.workers.seal import parsed, sealed_json
from prunesweep.workers.spec import Stage

HEADER = 2**16
"""Bytes that are read of a checkpoint to learn its epoch."""

LONGEST_HEADER = 100_000_000
"""Bytes, as in safetensors itself: a damaged length must not make us read on for ever."""


class Store(Progress):
    """The stages of all sweeps, at a local path or a URL that pyarrow (`s3://bucket/prefix`) or fsspec knows."""

    # --- a stage's life

    def new_attempt(self, key: str, run: str = "", contents: frozenset[str] | None = None) -> Attempt:
        """This process's, with the next number; not noted yet."""
        number = attempts_in(self.contents(key) if contents is None else contents) + 1
        return Attempt(f"{number:04}-{uuid4().hex[:8]}", now(), socket.gethostname(), os.getpid(), run=run, user=user())

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
        self.write(sealed_json(asdict(attempt)), "stages", key, ATTEMPTS, f"{attempt.name}.json")

    def remove_tree(self, *parts: str) -> None:
        """Delete a file, or a stage with all that it has: its result first, so that what is left is not done.

        Raises `UserError` where a link leads there: what it leads to may be another's.
        """
        self.require_no_link(*parts)
        if self._fs.are_files([self.path(*parts)])[0]:
            self.remove(*parts)
            return
        self.remove(*parts, RESULT)
        self._fs.remove_folder(self.path(*parts))

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
            epochs = parsed(self._metadata(key, name)["progress"])["epoch"]
        except (ValueError, KeyError, TypeError):
            return None
        return epochs if type(epochs) is int else None

    def _metadata(self, key: str, name: str) -> dict[str, str]:
        """Of a safetensors file; most are in its first 64 kB."""
        start = self.read_start(HEADER, "stages", key, name) or b""
        length = 8 + int.from_bytes(start[:8], "little")
        if HEADER < length <= LONGEST_HEADER:
            start = self.read_start(length, "stages", key, name) or b""
        return read_metadata(io.BytesIO(start))


def attempts_in(contents: frozenset[str]) -> int:
    """How many tries a stage's folder tells of."""
    return sum(name.startswith("attempts/") and name.endswith(".json") for name in contents)


def read_metadata(stream: IO[bytes]) -> dict[str, str]:
    """The text entries in the header of a safetensors file: 8 bytes of length (little-endian), then JSON."""
    length = int.from_bytes(stream.read(8), "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    metadata: dict[str, str] = parsed(stream.read(length))["__metadata__"]
    return metadata


def user() -> str:
    """Who runs this process: a name, or a number where there is none, as in many containers."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return str(os.getuid()) if hasattr(os, "getuid") else ""


def now() -> str:
    """The time in UTC, as ISO 8601 with microseconds, so that it sorts."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
