"""The results of stages, published so that one of all that try wins, and read with their checksums. No torch, no Ray.

**Publishing decides first.** The files of a result are written under names of their own, `network.<publication>.
safetensors`. Then `result.json`, which names the publication, is created: of several that try at once, the first stands
and the others take their own files away. Only then do the files get their plain names. Whoever is killed in between
leaves a stage that is not done, or one that is, with files that are read by their own names. An object store cannot
rename: there a file is created under its plain name where that is free, never over another's, and else under its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from prunesweep.workers.files import Files, Unavailable, is_full
from prunesweep.workers.filesystems import Stamp
from prunesweep.workers.location import Location
from prunesweep.workers.seal import intact, sealed_json, unsealed_json
from prunesweep.workers.spec import Stage
from prunesweep.workers.typed import is_number

RESULT = "result.json"
NETWORK = "network.safetensors"
MOMENTUM = "momentum.safetensors"
CURVE = "curve.parquet"
STATE = "state.safetensors"
"""Of a part of a stage: all that is needed to continue it."""

CHECKPOINT = "checkpoint.safetensors"
PREVIOUS_CHECKPOINT = "checkpoint.previous.safetensors"
CHECKPOINTS = (CHECKPOINT, PREVIOUS_CHECKPOINT)
"""The newest first."""

_OWN_NAME = re.compile(r"(?:network|momentum|curve|state)\.([0-9a-f]{8})\.(?:safetensors|parquet)")

INTERNAL = {"key", "publication"}
"""What `result.json` holds for the store itself."""


class Damaged(RuntimeError):
    """A file of the stage `key`, which was finished, is not the one that was published.

    With `refused` its checksum is right, but no stage has such a file.
    """

    def __init__(self, key: str, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.key, self.refused = key, refused


class Publications(Files):
    """The results of a store's stages. Of what was read and was whole the stamp is known, by stage and file."""

    def __init__(self, location: str | Path | Location, *, exists: bool = False) -> None:
        super().__init__(location, exists=exists)
        self._whole: dict[str, Mapping[str, Stamp]] = {}

    def whole(self, key: str) -> Mapping[str, Stamp]:
        """The files of a stage that were read and were whole, with the stamps that they had then, or before."""
        return self._whole.get(key, {})

    def _is_whole(self, key: str, name: str, stamp: Stamp | None) -> None:
        if stamp is not None:
            self._whole[key] = {**self.whole(key), name: stamp}  # others may be reading the one before

    def result(self, key: str) -> dict[str, Any] | None:
        """The content of `result.json`, None when the stage is not done or its result is damaged."""
        record = self._record(key)
        return record and {name: value for name, value in record.items() if name not in INTERNAL}

    def _record(self, key: str) -> dict[str, Any] | None:
        data = self._intact_result(key)
        return None if data is None else opened(data)

    def _intact_result(self, key: str) -> bytes | None:
        data, stamp = self.read_stamped("stages", key, RESULT)
        if data is None or not is_result_of(key, data):
            return None
        self._is_whole(key, RESULT, stamp)
        return data

    def publish(
        self, stage: Stage, files: Mapping[str, bytes], result: Mapping[str, Any], *, checkpointed: bool = True
    ) -> bool:
        """Make a stage done: its files, then `result.json` with their checksums, then the checkpoints go.

        False when it is done already, by another: it stays as it is, and nothing of these files is left. Without
        `checkpointed` there are no checkpoints.
        """
        try:
            won = self._publish(stage.key, files, result)
        except OSError as error:
            if not is_full(error):
                raise
            self.remove("stages", stage.key, PREVIOUS_CHECKPOINT)  # as large as what is to be written
            won = self._publish(stage.key, files, result)
        if checkpointed:
            self.remove_many(("stages", stage.key, name) for name in CHECKPOINTS)
        return won

    def _publish(self, key: str, files: Mapping[str, bytes], result: Mapping[str, Any]) -> bool:
        publication = uuid4().hex[:8]
        sums = {name: _sha256(data) for name, data in files.items()}
        sealed = sealed_json({**result, "key": key, "publication": publication, "files": sums})
        written: dict[str, str] = {}
        try:
            for name, data in files.items():
                written[name] = self._write_new(data, key, name, publication)
            won = self.write(sealed, "stages", key, RESULT, replace=False)
        except OSError:
            if not self._may_be_published(key, publication):  # what space there is serves other stages
                self._withdraw(key, written, sums)
            raise
        if not won:
            self._withdraw(key, written, sums)
        elif self.is_local:
            for name, own in written.items():
                self._move(self.path("stages", key, own), self.path("stages", key, name))
        return won

    def _write_new(self, data: bytes, key: str, name: str, publication: str) -> str:
        """Write a file of a result that is not decided yet, over no other; returns its name."""
        if not self.is_local and self.write(data, "stages", key, name, replace=False):
            return name
        own = own_name(name, publication)
        self.write(data, "stages", key, own)
        return own

    def _may_be_published(self, key: str, publication: str) -> bool:
        """After an error: whether the result was written nevertheless, or nobody can say."""
        try:
            result = self._record(key)
        except Unavailable:
            return True
        return result is not None and result.get("publication") == publication

    def _withdraw(self, key: str, written: Mapping[str, str], sums: Mapping[str, str]) -> None:
        """Take away the files that are this publication's alone; `written` has their places, by name.

        A file of the same bits under its plain name, on an object store, may be the winner's, or of one that is about
        to win: nothing there tells who created it. It stays, unless another result stands that has other bits.
        """
        with suppress(OSError):
            record = self._record(key)
            needed = record["files"] if record else sums
            alone = [place for name, place in written.items() if place != name or sums[name] != needed.get(name)]
            self.remove_many(("stages", key, place) for place in alone)

    def unneeded(self, key: str, names: Iterable[str]) -> list[str]:
        """Of files in a stage's folder those that a publication left which was killed, or the loser of a race."""
        publications = {name: match[1] for name in names if (match := _OWN_NAME.fullmatch(name))}
        record = self._record(key) if publications else None
        stands = record.get("publication") if record else None
        return [name for name, publication in publications.items() if publication != stands]

    def read_published(self, key: str, name: str, known: Mapping[str, Any] | None = None) -> bytes:
        """A file of a finished stage, checked against the sum in its result; raises `Damaged`.

        Who has the result of the stage gives it as `known`: then it is read only where the file is not what it says.
        """
        data = self._published(key, name, known) if known is not None else None
        if data is not None:
            return data
        result = self._record(key)
        if result is None:
            raise Damaged(key, f"{self.path('stages', key, RESULT)} is missing or damaged")
        data = self._published(key, name, result)
        if data is None:
            raise Damaged(key, f"{self.path('stages', key, name)} is missing or damaged")
        return data

    def missing(self, key: str, contents: Iterable[str]) -> list[str]:
        """The files that a finished stage's folder lacks, when these are its contents; none is read."""
        record, contents = self._record(key), set(contents)
        names = record["files"] if record else ()
        return [name for name in names if record and contents.isdisjoint(self._places(name, record))]

    def _published(self, key: str, name: str, result: Mapping[str, Any]) -> bytes | None:
        """A file under either of its names; the plain one again, since it may just have been given."""
        for place in (*self._places(name, result), name):
            data, stamp = self.read_stamped("stages", key, place)
            if data is not None and _sha256(data) == result["files"].get(name):
                self._is_whole(key, place, stamp)
                return data
        return None

    def _places(self, name: str, result: Mapping[str, Any]) -> tuple[str, ...]:
        """The names that a file may have; results of version 0.1 have no publication."""
        return (name, own_name(name, result["publication"])) if "publication" in result else (name,)

    def set_aside(self, key: str, *, refused: bool = False) -> list[str]:
        """Rename the damaged files of a finished stage, its result first: it is not done any more.

        With `refused` it, or a file that it names, says what no stage's does, though all sums are right. Returns the
        paths of what was missing or damaged, none when all is well or the stage was not done.
        """
        result = self._record(key)
        if result is None:
            damaged = [RESULT] if self.read("stages", key, RESULT) is not None else []
            places = damaged
        else:
            damaged = [name for name in result["files"] if self._published(key, name, result) is None]
            damaged = damaged or [RESULT] * refused
            places = [place for name in damaged for place in self._places(name, result)]
        if damaged and self.set_link_aside("stages", key):
            return [self.path("stages", key, name) for name in damaged]
        for place in [RESULT, *places] if damaged else ():
            self.set_file_aside("stages", key, place)
        return [self.path("stages", key, name) for name in damaged]


def is_result_of(key: str, data: bytes) -> bool:
    """Whether a `result.json` is whole, and that stage's; one of version 0.1 doesn't say whose it is."""
    return intact(data) and (b'"key": "' not in data or f'"key": "{key}"'.encode() in data)


def opened(data: bytes) -> dict[str, Any] | None:
    """What a `result.json` holds; None where something in it is of another type than a stage's result has."""
    try:
        record = unsealed_json(data)
        is_sound = all(_TYPES[name](value) for name, value in record.items() if name in _TYPES)
    except (ValueError, TypeError):
        return None
    return record if is_sound and "files" in record else None


def _is_measured(value: object) -> bool:
    return value is None or is_number(value)


def _are_layers(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(layer, dict)
        and isinstance(layer.get("name"), str)
        and all(is_number(layer.get(name)) for name in ("multiply_adds", "nonzero_multiply_adds"))
        and all(_is_measured(layer.get(name)) for name in ("weights", "nonzero"))
        for layer in value
    )


def _are_classes(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("metric"), str):
        return False
    counts, values = value.get("counts"), value.get("values")
    if not isinstance(counts, list) or not isinstance(values, list) or len(counts) != len(values):
        return False
    return all(map(is_number, counts)) and all(map(_is_measured, values))


def _is_time(value: object) -> bool:
    return isinstance(value, str) and bool(datetime.fromisoformat(value))


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("epochs", "images", "bytes", "train_seconds", "elapsed_seconds", "attempts"), is_number),
    **dict.fromkeys(("label", "device", "torch_version"), lambda value: isinstance(value, str)),
    "commit": lambda value: value is None or isinstance(value, str),
    "publication": lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{8}", value) is not None,
    **dict.fromkeys(("peak_memory_bytes", "classes"), _is_measured),
    "finished_at": _is_time,
    "metrics": lambda value: isinstance(value, dict) and all(map(_is_measured, value.values())),
    "files": lambda value: isinstance(value, dict) and all(isinstance(digest, str) for digest in value.values()),
    "layers": _are_layers,
    "by_class": _are_classes,
}
"""Of what a result holds, whether a value is of its type; whoever writes a file can seal it."""


def own_name(name: str, publication: str) -> str:
    """What a file of a result is called until the result stands: `network.0f3a55c2.safetensors`."""
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{publication}.{suffix}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
