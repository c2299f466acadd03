"""What files stages have, by asking the store for as little as it takes. No torch, no Ray."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from math import ceil

from prunesweep.workers.appearing import TEMPORARY
from prunesweep.workers.files import File, Files
from prunesweep.workers.filesystems import AT_ONCE, PAGE, Stamp
from prunesweep.workers.publications import CURVE, RESULT

ATTEMPTS = "attempts"

FEW = 8
"""So many stages of a remote store are asked for one by one; for more it is first seen how many the store has."""

SPARSE = 4
"""A remote store is listed whole where that takes this many times fewer requests than to list each stage."""

DIGITS = 6
"""Of a key, by which the stages are parted: their keys are hashes, evenly spread."""

KEYS = 16**DIGITS

Listing = Mapping[str, Stamp]
"""The files of a stage by their path in its folder: `result.json`, `attempts/0001-0f3a55c2.json`."""


def listed(store: Files, keys: Sequence[str]) -> dict[str, Listing | None]:
    """The files of each stage; None where it is absent.

    On a local filesystem only the stages asked for are looked at, and of finished ones only the result and the curve.
    Requests to a remote store, 64 at once: one for each of up to `FEW` stages. For more, one lists the first thousand
    files, from which it is known how many there are; then one for each thousand files of the store, or where the stages
    asked for are few in it (`SPARSE`) one for each of them. A filesystem that cannot list a part lists all its stages.
    """
    if store.is_local:
        return {key: _locally(store, key) for key in keys}
    if len(keys) <= FEW:
        return _each(store, keys)
    first = store.page("stages", after="")
    if first is None:
        return _unpaged(store, keys)
    last = first[-1] if len(first) == PAGE else None
    pages = 1 if last is None else ceil(KEYS / max(_position(last), 1))
    if pages > max(1, len(keys) / SPARSE):
        return _each(store, keys)
    rest = _after(store, last, pages) if last else []
    listings = _by_stage([*first, *rest])
    return {key: listings.get(key) for key in keys}


def some(store: Files, count: int) -> list[str]:
    """The keys of some stages, as the filesystem gives them; of a local one no more are looked at.

    On an object store they are those of the first thousand files, in one request.
    """
    if not store.is_local:
        page = store.page("stages", after="")
        names = store.names("stages") if page is None else dict.fromkeys(file.path[1] for file in page)
        return list(names)[:count]
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


def _each(store: Files, keys: Sequence[str]) -> dict[str, Listing | None]:
    return dict(zip(keys, store.at_once(lambda key: _alone(store, key), keys), strict=True))


def _alone(store: Files, key: str) -> Listing | None:
    return _by_stage(store.files("stages", key)).get(key)


def _unpaged(store: Files, keys: Sequence[str]) -> dict[str, Listing | None]:
    known = set(store.names("stages"))
    there = [key for key in keys if key in known]
    is_sparse = len(known) > SPARSE * len(there)
    listings = _each(store, there) if is_sparse else _by_stage(store.files("stages"))
    return {key: listings.get(key) for key in keys}


def _position(file: File) -> int:
    """Where among all keys that of a file's stage stands; 0 for what is no key."""
    try:
        return int(file.path[1][:DIGITS], 16)
    except ValueError:
        return 0


def _after(store: Files, last: File, pages: int) -> list[File]:
    """All files after this one, by as many at the same time as leave each a few pages."""
    begin = _position(last)
    parts = min(AT_ONCE, ceil(pages / SPARSE))
    bounds = [f"{begin + (KEYS - begin) * part // parts:0{DIGITS}x}" for part in range(1, parts)]
    starts = ["/".join(last.path[1:]), *bounds]
    ends = [*bounds, None]
    return [
        file
        for files in store.at_once(lambda part: _between(store, *part), list(zip(starts, ends, strict=True)))
        for file in files
    ]


def _between(store: Files, after: str, end: str | None) -> list[File]:
    files: list[File] = []
    while page := store.page("stages", after=after):
        files += [file for file in page if end is None or "/".join(file.path[1:]) <= end]
        after = "/".join(page[-1].path[1:])
        if len(page) < PAGE or (end is not None and after > end):
            break
    return files


def _by_stage(files: Iterable[File]) -> Mapping[str, Listing]:
    stages: dict[str, dict[str, Stamp]] = {}
    for file in files:
        if len(file.path) > 2 and not file.path[-1].endswith(TEMPORARY):
            stages.setdefault(file.path[1], {})["/".join(file.path[2:])] = file.stamp
    return stages
