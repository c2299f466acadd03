"""A hash of what is in files, remembered by size and times so that the second look costs a stat each. No torch."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from prunesweep.workers.appearing import appearing
from prunesweep.workers.data.scan import FINGERPRINTS

READERS = 8
"""Files that are read at once: the disk is slower than the hash."""

BLOCK = 2**20


@dataclass(frozen=True)
class Known:
    """A file's hash, and what it is remembered by: size, and times of content and of record in nanoseconds."""

    stamp: tuple[int, int, int]
    digest: str


def content_digest(files: Sequence[tuple[str, str]], memory: Path, name: str) -> str:
    """A hash of the files (name, path) in this order, of their names, sizes and content.

    Their own hashes are kept in the folder `memory` under `name`, or in the user's cache where that cannot be written.
    Raises `OSError` when a file cannot be read.
    """
    digest = hashlib.sha256()
    for (file, _), known in zip(files, _known(files, memory, name), strict=True):
        digest.update(f"{file}\0{known.stamp[0]}\0{known.digest}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def file_digests(files: Sequence[tuple[str, str]], memory: Path, name: str) -> list[str]:
    """The hash of each file's content, remembered in the same way."""
    return [known.digest for known in _known(files, memory, name)]


def _known(files: Sequence[tuple[str, str]], memory: Path, name: str) -> list[Known]:
    for folder in (memory / FINGERPRINTS, user_cache()):
        with suppress(OSError), _locked(folder / f"{name}.lock"):
            return _looked_up(files, folder / name)
    return _looked_up(files, None)


def _looked_up(files: Sequence[tuple[str, str]], place: Path | None) -> list[Known]:
    remembered = _read(place) if place else {}
    stamps = [_stamp(path) for _, path in files]
    new = [
        index
        for index, ((file, _), stamp) in enumerate(zip(files, stamps, strict=True))
        if file not in remembered or remembered[file].stamp != stamp
    ]
    with ThreadPoolExecutor(READERS) as pool:
        for index, digest in zip(new, pool.map(_hash, (files[index][1] for index in new)), strict=True):
            remembered[files[index][0]] = Known(stamps[index], digest)
    known = [remembered[file] for file, _ in files]
    if place and (new or len(remembered) > len(files)):
        _write(place, [file for file, _ in files], known)
    return known


def _stamp(path: str) -> tuple[int, int, int]:
    """With the time of the record, which nobody can set: `touch` and `rsync` give a changed file its old time."""
    status = os.stat(path)  # noqa: PTH116 (for a million files)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _hash(path: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (for a million files)
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _read(place: Path) -> dict[str, Known]:
    """What is remembered; nothing where it is damaged. Names may hold anything but a zero byte."""
    try:
        parts = place.read_bytes().decode(errors="surrogateescape").split("\0")
    except FileNotFoundError:
        return {}
    try:
        rows = zip(*[iter(parts[:-1])] * 3, strict=True)
        return {file: Known(_numbers(stamp), digest) for file, stamp, digest in rows}
    except ValueError:
        return {}


def _numbers(stamp: str) -> tuple[int, int, int]:
    size, changed, recorded = map(int, stamp.split())
    return size, changed, recorded


def _write(place: Path, files: Sequence[str], known: Sequence[Known]) -> None:
    rows = (f"{file}\0{' '.join(map(str, k.stamp))}\0{k.digest}\0" for file, k in zip(files, known, strict=True))
    with appearing(place, temporary=place.with_suffix(".part")) as temporary:
        temporary.write_bytes("".join(rows).encode(errors="surrogateescape"))


def user_cache() -> Path:
    """Where hashes are remembered that have no better place."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prunesweep"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process of a node reads the files, while the others wait for what it writes down."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
