"""The verbs `data fetch` and `data check`: datasets on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from prunesweep.orchestrator.cli.options import DataOption, JsonOption
from prunesweep.orchestrator.cli.printing import as_json
from prunesweep.orchestrator.lookup import is_file, load_sweep
from prunesweep.orchestrator.text import size
from prunesweep.workers import data
from prunesweep.workers.data import DATASETS
from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import Choice

CLASSES_SHOWN, KINDS_SHOWN = 30, 6

data_app = typer.Typer(help="Fetch and check datasets.", no_args_is_help=True)

DatasetName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A dataset's name.", show_default=False, autocompletion=lambda: list(DATASETS)),
]


@data_app.command()
def fetch(name: DatasetName, data_dir: DataOption = Path("data")) -> None:
    """Download a dataset, or those of its files that are missing or damaged."""
    print(fetched(name, str(data_dir)))


@data_app.command()
def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A dataset's name, or a sweep file, for its datasets with their options.",
            show_default=False,
            autocompletion=lambda: list(DATASETS),
        ),
    ],
    data_dir: DataOption = Path("data"),
    as_json_: JsonOption = False,
) -> None:
    """Show a dataset's images, and whether its files are whole. Exit code 2 when they are not."""
    made = [contents(choice, str(data_dir)) for choice in _named(name)]
    if as_json_:
        print(as_json(made if is_file(name) else made[0]))
    else:
        print("\n".join(line for checked in made for line in _lines(checked)))


def _named(name: str) -> list[Choice]:
    """The dataset of that name with its defaults, or the distinct datasets of a sweep file."""
    if not is_file(name):
        return [data.choose(name, {})]
    return list(dict.fromkeys(trial.dataset for trial in load_sweep(name).exemplars))


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


def contents(choice: Choice, folder: str) -> dict[str, Any]:
    """What a dataset has, as JSON values; a `UserError` when a file is missing or damaged."""
    from prunesweep.workers.data.base import SplitName

    look = data.function(choice.name, "check")
    is_folder = choice.name in DATASETS and "path" in choice.settings
    inspected = _inspected(choice, folder) if is_folder else {}
    files = inspected.pop("paths") if inspected else look(choice.name, folder) if look else []
    dataset = data.load(choice, folder)
    return {
        "name": choice.name,
        "folder": folder,
        "shape": list(dataset.shape),
        "classes": dataset.classes,
        "images": {split: dataset.count(split) for split in get_args(SplitName)},
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
        **inspected,
    }


def _inspected(choice: Choice, folder: str) -> dict[str, Any]:
    """What a folder of images has beside the figures of every dataset."""
    from prunesweep.workers.data.inspection import inspect

    inspection = inspect(choice, folder)
    return {
        "paths": [Path(path) for path in inspection.paths],
        "by_class": inspection.classes,
        "layout": inspection.splits.layout.notes,
        "passed_over": dict(inspection.splits.layout.passed_over.most_common()),
        "modes": dict(inspection.modes.most_common()),
        "sizes": {f"{width}x{height}": count for (width, height), count in inspection.sizes.most_common()},
        "across_splits": inspection.crossing,
        "warnings": list(inspection.warnings()),
    }


def _lines(checked: Mapping[str, Any]) -> Iterator[str]:
    """The result of `check`, for people."""
    yield f"{checked['name']}{' in ' + checked['folder'] if checked['files'] else ''}: ready"
    yield "  images   " + ", ".join(f"{count:,} {split}" for split, count in checked["images"].items())
    yield f"  shape    {'x'.join(map(str, checked['shape']))}, {checked['classes']:,} classes"
    if checked["files"]:
        yield f"  files    {checked['files']:,}, all whole, {size(checked['bytes'])}"
    if "by_class" in checked:
        yield from _folder_lines(checked)


def _folder_lines(checked: Mapping[str, Any]) -> Iterator[str]:
    yield f"  sizes    {_most(checked['sizes'])}"
    yield f"  modes    {_most(checked['modes'])}"
    if checked["passed_over"]:
        yield f"  passed over: {_most(checked['passed_over'])}"
    for name, counts in list(checked["by_class"].items())[:CLASSES_SHOWN]:
        yield f"  class {name}: " + ", ".join(f"{count:,} {split}" for split, count in counts.items())
    if len(checked["by_class"]) > CLASSES_SHOWN:
        yield f"  and {len(checked['by_class']) - CLASSES_SHOWN:,} more classes"
    yield from (f"  note     {note}" for note in checked["layout"])
    yield from (f"  warning  {warning}" for warning in checked["warnings"])


def _most(counts: Mapping[str, int]) -> str:
    """The most frequent, such as `48 RGB, 12 L`."""
    shown = ", ".join(f"{count:,} {what}" for what, count in list(counts.items())[:KINDS_SHOWN])
    return shown + (f" and {len(counts) - KINDS_SHOWN:,} more" if len(counts) > KINDS_SHOWN else "")
