"""What `run --smoke` prints: which cells work, what they take, and what the whole sweep will."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape

from prunesweep.orchestrator.cli.printing import say
from prunesweep.orchestrator.run.rehearsal import Forecast, Outcome, Rehearsed
from prunesweep.orchestrator.status.forecast import Bill
from prunesweep.orchestrator.text import counted, duration, size
from prunesweep.workers.models.folder_config import shown
from prunesweep.workers.rehearsal import TIMED
from prunesweep.workers.spec import Choice

ALWAYS = ("model", "method")
"""Columns that are shown also where all cells have the same."""


def show_rehearsed(rehearsed: Rehearsed) -> None:
    """A line for each cell, the sentences of those that do not work, and a forecast."""
    for line in (*_table(rehearsed.outcomes), *_problems(rehearsed.outcomes)):
        say(line)
    say(f"forecast  {_forecast(rehearsed.forecast)}")
    say(f"          extrapolated from {TIMED} batches of training and of validation, after one that is not counted")
    say("nothing of this rehearsal is kept")


def _table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    columns = _columns([outcome.cell.settings for outcome in outcomes])
    heads = [*columns, "trials", "works", "memory", "s/epoch"]
    rows = [[*_named(outcome, columns), *_figures(outcome)] for outcome in outcomes]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    yield f"[bold]{_aligned(heads, widths, len(columns))}[/]"
    for outcome, row in zip(outcomes, rows, strict=True):
        line = _aligned(row, widths, len(columns))
        yield line if outcome.problem is None else f"[red]{line}[/]"


def _aligned(texts: Sequence[str], widths: Sequence[int], names: int) -> str:
    """Names to the left, figures to the right."""
    cells = [
        text.ljust(width) if place < names else text.rjust(width)
        for place, (text, width) in enumerate(zip(texts, widths, strict=True))
    ]
    return escape("  ".join(cells).rstrip())


def _columns(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings that tell the cells apart, and those that are always shown."""
    names = dict.fromkeys(name for cell in settings for name in cell)
    return [name for name in names if name in ALWAYS or len({cell[name] for cell in settings if name in cell}) > 1]


def _named(outcome: Outcome, columns: Sequence[str]) -> list[str]:
    return [_text(name, outcome.cell.settings.get(name)) for name in columns]


def _text(name: str, value: Any) -> str:
    from prunesweep.orchestrator.tables.wording import written

    if isinstance(value, Choice):
        options = ", ".join(f"{option} {setting}" for option, setting in shown(value).items())
        return f"{value.name} ({options})" if options else value.name
    return "-" if value is None else written(name, value, {})


def _figures(outcome: Outcome) -> list[str]:
    memory = "-" if outcome.memory is None else size(outcome.memory)
    epoch = "-" if outcome.epoch is None else f"{outcome.epoch:.3g}"
    return [str(outcome.cell.trials), "no" if outcome.problem else "yes", memory, epoch]


def _problems(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Each sentence once, with the cells that it is true of."""
    cells: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.problem is not None:
            cells.setdefault(outcome.problem, []).append(outcome)
    for problem, same in cells.items():
        names = dict.fromkeys(f"{outcome.cell.settings['method']} of {outcome.cell.trial.model}" for outcome in same)
        yield f"[red]fails[/]: {escape(', '.join(names))}: {escape(problem)}"


def _forecast(forecast: Forecast) -> str:
    at_once = min(forecast.slots, forecast.stages)
    side_by_side = f", {duration(forecast.wall_seconds)} with {at_once} at a time" if at_once > 1 else ""
    gpus = f", {Bill(forecast.gpu_seconds / 3600)}" if forecast.gpu_seconds else ""
    without = f"; without {counted(forecast.unknown, 'stage')} of what fails" if forecast.unknown else ""
    stages = counted(forecast.stages, "stage")
    undecided = forecast.undecided
    stages += f" and up to {counted(undecided, 'epoch')} of candidates and winners" if undecided else ""
    work = f"{stages}: {duration(forecast.seconds)} of work{side_by_side}{gpus}"
    return f"{work}; {size(forecast.bytes)} of disk{without}"
