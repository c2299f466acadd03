"""What `list columns`, `list schedules`, `list published` and `list recipes` show: names with a line for each."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.orchestrator.glossary import SCHEDULES, TRAINING
from prunesweep.workers.schedules import DENSE, RETRAINING, TUNABLE

if TYPE_CHECKING:
    from pandas import DataFrame


def schedules() -> list[dict[str, Any]]:
    """The schedules of the training, and those of retraining."""
    kinds = [
        ("train.schedule", DENSE, TRAINING),
        ("retrain_schedule", RETRAINING, SCHEDULES),
        ("retrain_schedule with retrain_lr and retrain_warmup", TUNABLE, SCHEDULES),
    ]
    return [{"name": name, "of": key, "help": words[name]} for key, names, words in kinds for name in names]


def columns() -> list[dict[str, Any]]:
    """The columns of the four tables of results, for `--metric`, `--by` and `--where`."""
    from prunesweep.orchestrator.results.schemas import CLASSES, CURVES, LAYERS, TRIALS

    tables = {
        "trials.parquet": TRIALS,
        "curves.parquet": CURVES,
        "layers.parquet": LAYERS,
        "classes.parquet": CLASSES,
    }
    return [
        {
            "name": field.name,
            "of": table,
            "unit": field.metadata[b"unit"].decode(),
            "help": field.metadata[b"description"].decode(),
        }
        for table, schema in tables.items()
        for field in schema
    ]


def published() -> list[dict[str, Any]]:
    """The published numbers that come along, for `compare --published NAME`: a row for each method and metric."""
    from prunesweep.orchestrator.results.published import PUBLISHED, load_published

    return [row for name in PUBLISHED for row in _published(name, load_published(name))]


def _published(name: str, numbers: DataFrame) -> list[dict[str, Any]]:
    groups = numbers.groupby(["source", "dataset", "model", "method", "metric"], dropna=False, sort=False)
    return [
        {
            "name": name,
            "of": str(source),
            "method": str(method),
            "metric": str(metric),
            "help": f"{method} with {model} on {dataset}: {metric} at {_percents(rows['target_sparsity'].unique())}",
        }
        for (source, dataset, model, method, metric), rows in groups
    ]


def _percents(sparsities: Any) -> str:
    stated = sorted(sparsity for sparsity in sparsities if sparsity == sparsity)  # NaN is not equal to itself
    return ", ".join(f"{100 * sparsity:.6g}%" for sparsity in stated) or "no sparsity"


def recipes() -> list[dict[str, Any]]:
    """The recipes that ship, for `train: {recipe: NAME}`, with all that they say."""
    from prunesweep.orchestrator.sweepfile.recipes import read_recipe, shipped

    read = {name: read_recipe(name, Path()) for name in shipped()}
    return [
        {
            "name": name,
            "of": "train: {recipe: NAME}",
            "help": recipe.title,
            "source": recipe.source,
            "differs": " ".join(recipe.differs.split()),
            "train": dict(recipe.train),
        }
        for name, recipe in read.items()
    ]


REFERENCES: Mapping[str, Callable[[], list[dict[str, Any]]]] = {
    "columns": columns,
    "schedules": schedules,
    "published": published,
    "recipes": recipes,
}


def reference_lines(rows: list[dict[str, Any]], width: int) -> Iterator[str]:
    """A heading for each `of`, and below it a line for each name, in lines of at most `width`."""
    indent = max(len(row["name"]) for row in rows) + 4
    for previous, row in zip([None, *rows], rows, strict=False):
        if previous is None or previous["of"] != row["of"]:
            yield from ("",) if previous else ()
            yield from textwrap.wrap(f"{row['of']}:", width)
        unit = f" [{row['unit']}]" if row.get("unit") else ""
        first = f"  {row['name']}".ljust(indent)
        yield from textwrap.wrap(f"{row['help']}{unit}", width, initial_indent=first, subsequent_indent=" " * indent)
