"""The verbs that show results: tables and figures of what a store has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator import show
from orchestrator.options import (
    BestByOption,
    ByOption,
    MetricOption,
    ResultNames,
    StoreOption,
    ToleranceOption,
    WhereOption,
    folders,
)
from orchestrator.show import console

FORMATS = ("table", "csv", "markdown", "latex", "json")


def results(
    names: ResultNames,
    store: StoreOption = "results",
    metric: MetricOption = "test_accuracy",
    by: ByOption = None,
    best_by: BestByOption = None,
    tolerance: ToleranceOption = 0.02,
    where: WhereOption = None,
    format: Annotated[
        str,
        typer.Option(
            metavar="FORMAT", help=f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}.", autocompletion=lambda: FORMATS
        ),
    ] = "table",
    as_json_: Annotated[bool, typer.Option("--json", metavar="", help="The same as --format json.")] = False,
) -> None:
    """Compare methods: mean ± deviation (n) over seeds, a column for every sparsity and budget."""
    question = show.Question(metric, by or [], where or [], best_by, tolerance)
    show.comparison(console, folders(names, store), question, "json" if as_json_ else format)


def plot(
    names: ResultNames,
    store: StoreOption = "results",
    metric: MetricOption = "test_accuracy",
    by: ByOption = None,
    best_by: BestByOption = None,
    tolerance: ToleranceOption = 0.02,
    where: WhereOption = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .png, .svg or .pdf file; else NAME.png here.", show_default=False),
    ] = None,
) -> None:
    """Draw what `results` compares: the metric over sparsity, a line for each row, and the dense control."""
    question = show.Question(metric, by or [], where or [], best_by, tolerance)
    file = output or Path(f"{'-'.join(Path(name).name for name in names)}.png")
    show.plot(console, folders(names, store), question, file)
