"""What files stages have, by asking the store for as little as it takes. No torch, no Ray."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

from prunesweep.workers.appearing import TEMPORARY
from prunesweep.workers.files import File, Files
from prunesweep.workers.publications import CURVE, RESULT

ATTEMPTS = "attempts"

FEW = 200
"""So many stages of a remote store are asked for one by one; for more, the folder of all stages is listed first."""

SPARSE = 4
"""A remote store with so many times the stages that are asked for is not listed whole."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Stamp(NamedTuple):
    """By which a file is known to be as it was: its size in bytes, and when it was written, in nanoseconds."""

    size: int
    modified: int


Listing = Mapping[str, Stamp]
"""The files of a stage by their path in its folder: `result.json`, `attempts/0001-0f3a55c2.json`."""


def listed(store: Files, keys: Sequence[str]) -> dict[str, Listing | None]:
    """The files of each stage; None where it is absent.

    On a local filesystem only the stages asked for are looked at, and of finished ones only the result and the curve.
    Requests to a remote store: one for each of up to `FEW` stages, 64 at once. For more, one for each thousand stages
    of the store; then one for each thousand files of it, or where the stages asked for are few in it (`SPARSE`) one for
    each of those that are there, 64 at once.
    """
    if store.is_local:
        return {key: _locally(store, key) for key in keys}
    if len(keys) <= FEW:
        return dict(zip(keys, _each(store, keys), strict=True))
    known = set(store.names("stages"))
    there = [key for key in keys if key in known]
    if not there:
        return dict.fromkeys(keys)
    is_sparse = len(known) > SPARSE * len(there)
    listings = dict(zip(there, _each(store, there), strict=True)) if is_sparse else _together(store)
    return {key: listings.get(key) for key in keys}


def some(store: Files, count: int) -> list[str]:
    """The keys of some stages, as the filesystem gives them; of a local one no more are looked at."""
    if not store.is_local:
        return store.names("stages")[:count]
    try:
        with os.scandir(store.path("stages")) as entries:
            return [entry.name for entry in islice(entries, count)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def local_stamp(path: str) -> Stamp | None:
    """Of a file or folder on a local filesystem; None where there is none."""
    try:
        about = os.stat(path)  # noqa: PTH116 (a path object would take most of the time)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Stamp(about.st_size, about.st_mtime_ns)


def _locally(store: Files, key: str) -> Listing | None:
    folder = store.path("stages", key)
    result = local_stamp(f"{folder}/{RESULT}")
    if result is not None:
        curve = local_stamp(f"{folder}/{CURVE}")
        return {RESULT: result} if curve is None else {RESULT: result, CURVE: curve}
    return None if local_stamp(folder) is None else _alone(store, key) or {}


def _each(store: Files, keys: Sequence[str]) -> list[Listing | None]:
    return store.at_once(lambda key: _alone(store, key), keys)


def _alone(store: Files, key: str) -> Listing | None:
    return {"/".join(file.path[2:]): _stamp(file) for file in store.files("stages", key) if _counts(file)} or None


def _together(store: Files) -> Mapping[str, Listing | None]:
    stages: dict[str, dict[str, Stamp]] = {}
    for file in filter(_counts, store.files("stages")):
        stages.setdefault(file.path[1], {})["/".join(file.path[2:])] = _stamp(file)
    return stages


def _counts(file: File) -> bool:
    return not file.path[-1].endswith(TEMPORARY)


def _stamp(file: File) -> Stamp:
    return Stamp(file.size, round((file.modified - EPOCH).total_seconds() * 1e6) * 1000)
