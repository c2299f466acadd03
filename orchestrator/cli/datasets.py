"""Datasets on this machine: fetched, and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from prunesweep.orchestrator.text import size
from prunesweep.workers import data
from prunesweep.workers.errors import UserError


def fetch(name: str, folder: str) -> str:
    """Make a dataset's files whole; returns in a line what was done. A `UserError` says what the user has to do."""
    load = data.function(name, "fetch")
    try:
        present(name, folder)
    except UserError:
        if load is None:
            raise
        load(name, folder)
        return f"{name} is fetched into {folder}"
    return f"{name} is already in {folder}" if load else f"{name} has nothing to fetch"


def present(name: str, folder: str) -> None:
    """Whether a dataset can be used, as far as seconds tell; a `UserError` says what is missing, and what to do."""
    look = data.function(name, "present") or data.function(name, "check")
    if look:
        look(name, folder)
    else:
        data.load(data.choose(name, {}), folder)


def check(name: str, folder: str) -> dict[str, Any]:
    """What a dataset has, as JSON values; a `UserError` when a file is missing or damaged."""
    from prunesweep.workers.data.base import SplitName

    look = data.function(name, "check")
    files = look(name, folder) if look else []
    dataset = data.load(data.choose(name, {}), folder)
    return {
        "name": name,
        "folder": folder,
        "shape": list(dataset.shape),
        "classes": dataset.classes,
        "images": {split: dataset.count(split) for split in get_args(SplitName)},
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
    }


def lines(checked: Mapping[str, Any]) -> Iterator[str]:
    """The result of `check`, for people."""
    yield f"{checked['name']}{' in ' + checked['folder'] if checked['files'] else ''}: ready"
    yield "  images   " + ", ".join(f"{count:,} {split}" for split, count in checked["images"].items())
    yield f"  shape    {'x'.join(map(str, checked['shape']))}, {checked['classes']:,} classes"
    if checked["files"]:
        yield f"  files    {checked['files']:,}, all whole, {size(checked['bytes'])}"
