"""Is this machine ready for a sweep?"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from orchestrator.progress import size
from orchestrator.provenance import PACKAGES
from workers.errors import UserError
from workers.host import processor
from workers.store import Store

FREE_DISK = 2 * 10**9


@dataclass(frozen=True)
class Check:
    """One thing looked at; `good` is false only where a sweep would not run."""

    name: str
    good: bool
    found: str


def examine(store: str, data_folder: Path) -> list[Check]:
    """All checks; starts nothing and leaves nothing behind."""
    return [
        Check("python", True, f"{platform.python_version()} on {platform.platform()}"),
        *_packages(),
        Check("processor", True, f"{processor()}, {os.cpu_count()} cores"),
        _torch(),
        _store(store),
        _disk(store),
        *_datasets(data_folder),
    ]


def _packages() -> Iterator[Check]:
    for name in PACKAGES:
        try:
            yield Check(name, True, version(name))
        except PackageNotFoundError:
            yield Check(name, False, f"not installed: pip install {name}")


def _torch() -> Check:
    """Imports it and multiplies: a build that does not fit the machine fails here and not in every trial."""
    import torch

    torch.ones(2, 2) @ torch.ones(2, 2)
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Check("devices", True, ", ".join(names) or "no GPU: trials run on the CPU, with resources: {gpus: 0}")


def _store(location: str) -> Check:
    try:
        Store(location).require_writable()
    except UserError as error:
        return Check("store", False, str(error))
    return Check("store", True, f"{location} is writable")


def _disk(location: str) -> Check:
    if "://" in location:
        return Check("disk", True, "the store is remote")
    folder = next(
        parent for parent in (Path(location).absolute(), *Path(location).absolute().parents) if parent.exists()
    )
    free = shutil.disk_usage(folder).free
    return Check("disk", free > FREE_DISK, f"{size(free)} free for the store")


def _datasets(folder: Path) -> Iterator[Check]:
    """Present or not; absent is no fault, a sweep may not need it."""
    from workers import data

    for name in ("digits", "cifar10", "cifar100"):
        try:
            data.load(data.choose(name, {}), str(folder))
        except UserError as error:
            yield Check(name, True, str(error).partition(";")[0])
        else:
            yield Check(name, True, "ready")
