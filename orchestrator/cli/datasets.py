"""The verbs `data fetch` and `data check`: datasets on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from prunesweep.orchestrator.cli.options import DataOption, JsonOption
from prunesweep.orchestrator.cli.printing import as_json
from prunesweep.orchestrator.text import size
from prunesweep.workers import data
from prunesweep.workers.data import DATASETS
from prunesweep.workers.errors import UserError

data_app = typer.Typer(help="Fetch and check datasets.", no_args_is_help=True)

DatasetName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A dataset's name.", show_default=False, autocompletion=lambda: list(DATASETS)),
]


@data_app.command()
def fetch(name: DatasetName, data_dir: DataOption = Path("data")) -> None:
    """Download a dataset, or what is missing or damaged of it."""
    print(fetched(name, str(data_dir)))


@data_app.command()
def check(name: DatasetName, data_dir: DataOption = Path("data"), as_json_: JsonOption = False) -> None:
    """Show a dataset's images, and whether its files are whole. Exit code 2 when they are not."""
    made = contents(name, str(data_dir))
    if as_json_:
        print(as_json(made))
    else:
        print("\n".join(_lines(made)))


def fetched(name: str, folder: str) -> str:
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


def contents(name: str, folder: str) -> dict[str, Any]:
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


def _lines(checked: Mapping[str, Any]) -> Iterator[str]:
    """The result of `check`, for people."""
    yield f"{checked['name']}{' in ' + checked['folder'] if checked['files'] else ''}: ready"
    yield "  images   " + ", ".join(f"{count:,} {split}" for split, count in checked["images"].items())
    yield f"  shape    {'x'.join(map(str, checked['shape']))}, {checked['classes']:,} classes"
    if checked["files"]:
        yield f"  files    {checked['files']:,}, all whole, {size(checked['bytes'])}"
