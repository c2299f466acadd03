"""Decoded images in a file that all processes of a node map into their memory: its pages are there once for all."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from prunesweep.workers.appearing import appearing

FOLDER = ".decoded"
"""Below the folder of the datasets; it may be removed at any time."""

BLOCK = 2**20

Pixels = npt.NDArray[np.uint8]

log = logging.getLogger("prunesweep")


def decoded(folder: Path, name: str, shape: tuple[int, ...], fill: Callable[[Pixels], None]) -> Pixels:
    """The array that `fill` writes: made once under its name, by one process while others wait, and mapped by all.

    Where it cannot be kept, each process fills an array of its own. Writing to the array changes no file.
    """
    place = folder / FOLDER / f"{name}.npy"
    try:
        with _locked(place.with_suffix(".lock")):
            if not place.exists():
                _make(place, shape, fill)
        # Copy on write, since torch warns of memory that is not writable.
        pixels: Pixels = np.load(place, mmap_mode="c")
    except OSError as error:
        log.info("decoded images cannot be kept (%s): every process decodes them for itself", error)
        pixels = np.empty(shape, np.uint8)
        fill(pixels)
    return pixels


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock on this file; the system releases it when the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(place: Path, shape: tuple[int, ...], fill: Callable[[Pixels], None]) -> None:
    with appearing(place, temporary=place.with_suffix(".part")) as part:
        pixels = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        with part.open("r+b") as file:
            _allocate(file.fileno(), pixels.offset, part.stat().st_size)
        fill(pixels)
        pixels.flush()


def _allocate(descriptor: int, header: int, size: int) -> None:
    """Take the space now: else a full disk would kill the process in the middle. macOS has no call for it."""
    allocate = getattr(os, "posix_fallocate", None)
    if allocate is not None:
        allocate(descriptor, 0, size)
        return
    for start in range(header, size, BLOCK):
        os.pwrite(descriptor, bytes(min(BLOCK, size - start)), start)
