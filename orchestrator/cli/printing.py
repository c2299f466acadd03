"""What the verbs print: plans, states, outcomes, checks."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.markup import escape

from prunesweep.orchestrator.plan import Counts, Estimate, Plan
from prunesweep.orchestrator.records import recall
from prunesweep.orchestrator.resources import Resources
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.run.failures import policy
from prunesweep.orchestrator.status import nodes
from prunesweep.orchestrator.status.status import RUNNING, FailedStage, Seen, Unfinished, failures, unfinished
from prunesweep.orchestrator.text import counted, duration, grouped, size
from prunesweep.workers.errors import UserError
from prunesweep.workers.store import Store

if TYPE_CHECKING:
    from prunesweep.orchestrator.cli.doctor import Check
    from prunesweep.orchestrator.figures.charts import Chart
    from prunesweep.orchestrator.figures.page import Page
    from prunesweep.orchestrator.status.garbage import Garbage
    from prunesweep.orchestrator.tables.means import Table

LOG_LINES_SHOWN = 3
STAGES_SHOWN = 5
"""So many stages are shown of each cause of failure, and of those that are unfinished."""

PIPE_WIDTH = 120
"""A pipe has no width of its own; rich would take 80."""

on_terminal = sys.stdout is not None and sys.stdout.isatty()
console = Console(highlight=False, emoji=False, width=None if on_terminal else PIPE_WIDTH)

COLOURS = {"done": "green", "new": "cyan", "unfinished": "yellow", "failed": "red", "blocked": "red"}
MARKS = {"ok": "[green]ok[/]", "absent": "[yellow]--[/]", "no": "[red]no[/]"}


def as_json(value: Any) -> str:
    """Indented JSON."""
    return json.dumps(value, indent=2, default=str)


def say(console: Console, text: str) -> None:
    """A line with rich's markup, never broken: a terminal wraps by itself, and a pipe is read by programs."""
    console.print(text, soft_wrap=True)


# --- plan


def plan(console: Console, plan: Plan, forecast: Estimate | None) -> None:
    """The figures of a plan, in a few lines."""
    counts = plan.counts
    merged = f"; {counted(counts.duplicates, 'equal trial')} merged" if counts.duplicates else ""
    say(console, f"[bold]{plan.sweep.name}[/]: {asked(counts)} in {counted(counts.stages, 'stage')}{merged}")
    say(console, f"  trials    {_states(counts)}")
    say(console, f"  epochs    {_epochs(counts)}")
    for line in _damaged_lines(plan):
        say(console, f"  {line}")
    if not plan.to_run:
        say(console, "  to train  nothing")
        return
    epochs, stages = counted(counts.epochs_to_run, "epoch"), counted(counts.stages_to_run, "stage")
    say(console, f"  to train  {epochs} in {stages}")
    say(console, f"  estimate  {_forecast(plan, forecast)}")
    if forecast is not None and not forecast.fits:
        say(
            console,
            f"  [red]disk[/]      only {size(forecast.free_bytes or 0)} are free: `run` refuses without --force",
        )


def _damaged_lines(plan: Plan) -> Iterator[str]:
    if plan.damaged:
        shown = ", ".join(plan.damaged[:STAGES_SHOWN]) + (", ..." if len(plan.damaged) > STAGES_SHOWN else "")
        what = counted(len(plan.damaged), "stage")
        yield f"[red]damaged[/]   the result of {what}, to be set aside and computed again: {shown}"


def asked(counts: Counts) -> str:
    """`108 trials (54 with each of 2 seeds)`."""
    each = f" ({counts.per_seed.trials:,} with each of {counts.seeds} seeds)" if counts.per_seed else ""
    return counted(counts.trials, "trial") + (each if counts.seeds > 1 else "")


def _states(counts: Counts) -> str:
    numbers = {state: getattr(counts, state) for state in COLOURS}
    return ", ".join(f"[{COLOURS[state]}]{number:,} {state}[/]" for state, number in numbers.items() if number)


def _epochs(counts: Counts) -> str:
    if counts.epochs == counts.epochs_unshared:
        return f"{counts.epochs:,}; no two trials share a stage"
    less = f"({counts.epochs_unshared / counts.epochs:.1f}x less)"
    text = f"{counts.epochs:,} instead of {counts.epochs_unshared:,} without sharing {less}"
    if counts.per_seed and counts.seeds > 1:
        text += f"; {counts.per_seed.epochs:,} instead of {counts.per_seed.epochs_unshared:,} a seed"
    return text


def _forecast(plan: Plan, forecast: Estimate | None) -> str:
    if forecast is None:
        return "unknown: the store has no finished stages like these yet"
    at_once = min((_at_once(plan.shares[key]) for key in plan.to_run), default=0)
    at_once = min(at_once, len(plan.to_run))
    here = f", {duration(forecast.seconds / at_once)} with {at_once} at a time on this machine" if at_once > 1 else ""
    return f"{duration(forecast.seconds)} of work{here}; {size(forecast.bytes)} of disk"


def _at_once(resources: Resources) -> int:
    """How many stages this machine runs side by side; 0 where a GPU is asked for, which only the cluster can count."""
    return 0 if resources.gpus else int((os.cpu_count() or 1) / (resources.cpus * resources.replicas))


# --- results


def outcome(console: Console, plan: Plan, store: Store) -> None:
    """After a run: the comparison, where the tables are, and what is missing."""
    folder = store.url(plan.sweep.name)
    if plan.counts.done:
        comparison(console, [folder], Query(), "table")
        files = ", ".join(f"{name}.parquet" for name in ("trials", "curves", "layers"))
        done = f"{plan.counts.done:,} of {counted(plan.counts.trials, 'trial')} done"
        say(console, f"{done}; tables in {escape(folder)}: {files}")
    troubles(console, plan, store)


def comparison(console: Console, folders: Sequence[str], query: Query, format: str) -> None:
    """The table of means over seeds, in one of the formats of `orchestrator.tables.rendering`."""
    from prunesweep.orchestrator.tables import grid, rendering

    show_rendered(console, rendering.render(grid.laid_out(_compared(folders, query)), format))


def show_rendered(console: Console, rendered: RenderableType) -> None:
    """What a program reads goes out as it is."""
    if isinstance(rendered, str):
        print(rendered)
    else:
        console.print(rendered)


@dataclass(frozen=True)
class Figure:
    """What `plot` is to draw: the kind, its metric if not the kind's own, and the file, page and order of names."""

    kind: str
    metric: str | None
    file: Path
    page: Page
    order: Sequence[str] = ()


def plot(console: Console, folders: Sequence[str], query: Query, figure: Figure) -> None:
    """Draw a kind of figure into a file, or all kinds into files beside each other; say where they are, and the notes.

    The metric is each kind's own unless one is given. Of all kinds, those that the results do not allow are named.
    """
    from prunesweep.orchestrator.figures import drawing
    from prunesweep.orchestrator.figures.comparisons import Frames
    from prunesweep.orchestrator.figures.hues import in_given_order
    from prunesweep.orchestrator.figures.kinds import ALL, KINDS, make_chart
    from prunesweep.orchestrator.results import filtering, parquet

    drawing.check_suffix(figure.file)
    sweep = parquet.load_results(*folders)
    trials = in_given_order(filtering.where(sweep, query.where), figure.order)
    frames = Frames(trials, partial(parquet.load_curves, *folders), partial(parquet.load_layers, *folders), sweep)
    if figure.kind != ALL:
        _draw(console, make_chart(figure.kind, frames, query, figure.metric), figure.file, figure.page)
        return
    lost = {}
    for name, kind in KINDS.items():
        try:
            chart = make_chart(name, frames, query, figure.metric if kind.is_of_any_metric else None)
            _draw(console, chart, figure.file.with_stem(f"{figure.file.stem}-{name}"), figure.page)
        except UserError as error:
            lost[name] = str(error)
    if len(lost) == len(KINDS):
        raise UserError(f"no plot can be drawn: {'; '.join(dict.fromkeys(lost.values()))}")
    for name, reason in lost.items():
        say(console, f"[yellow]not drawn[/]: {name}: {escape(reason)}")


def _draw(console: Console, chart: Chart, file: Path, page: Page) -> None:
    from prunesweep.orchestrator.figures import drawing

    drawing.save(chart, file, page)
    say(console, f"wrote {escape(str(file))}")
    for note in (*chart.title.split("\n"), *chart.notes):
        say(console, f"  {escape(note)}")


def _compared(folders: Sequence[str], query: Query) -> Table:
    from prunesweep.orchestrator.results import filtering, parquet
    from prunesweep.orchestrator.tables import means as tables

    frame = filtering.where(parquet.load_results(*folders), query.where)
    if query.best_by is None:
        return tables.means_table(frame, query.metric, query.by)
    return tables.best_table(frame, query.metric, query.by, query.best_by, query.tolerance)


# --- status


def status(console: Console, plan: Plan) -> None:
    """How far a sweep is, in a line."""
    say(console, f"[bold]{plan.sweep.name}[/]: {counted(plan.counts.trials, 'trial')}: {_states(plan.counts)}")


def troubles(console: Console, plan: Plan, store: Store, seen: Seen | None = None) -> None:
    """What runs, what is unfinished, what failed and why, and how to go on; nothing when all is done.

    Without `seen`, what the claims of other machines say is taken for true.
    """
    begun = unfinished(plan, store, seen)
    lines = [_damaged_lines(plan), nodes.lines(nodes.now(plan, begun)), _unfinished_lines(begun)]
    for line in chain(*lines, _failure_lines(failures(plan, store))):
        say(console, line)
    if plan.to_run and not any(each.state == RUNNING for each in begun):
        say(console, f"run what is missing with: {escape(_command(plan, store))}")


def _unfinished_lines(begun: list[Unfinished]) -> Iterator[str]:
    """Those that do not run; the others are in the table above."""
    found = [each for each in begun if each.state != RUNNING]
    if found:
        yield f"[yellow]unfinished[/]: {grouped(each.state for each in found)}"
    for each in found[:STAGES_SHOWN]:
        kept = "no checkpoint yet" if each.checkpoint is None else f"checkpoint of epoch {each.checkpoint}"
        yield f"    {each.stage}  {escape(each.label)}; {each.state}; {_began(each)}{kept} of {each.epochs}"
    yield from _more(len(found))


def _began(stage: Unfinished) -> str:
    if stage.began_at is None:
        return ""
    ago = datetime.now(UTC) - datetime.fromisoformat(stage.began_at)
    when = f"{stage.began_at[:19].replace('T', ' ')} UTC"
    return f"began {duration(max(ago.total_seconds(), 0))} ago ({when}) on {escape(stage.host or 'an unknown host')}, "


def _failure_lines(found: list[FailedStage]) -> Iterator[str]:
    """By cause, each with what to do about it; of each stage its last lines, once where they are the same."""
    if found:
        yield f"[red]failed[/]: {grouped(each.cause for each in found)}"
    for cause in dict.fromkeys(each.cause for each in found):
        same = [each for each in found if each.cause == cause]
        yield f"  [red]{escape(cause)}[/]: {policy(cause).hint}"
        for said, group in groupby(same[:STAGES_SHOWN], _last_lines):
            for each in group:
                blocks = f"; blocks {counted(each.blocks, 'stage')}" if each.blocks else ""
                yield f"    {each.stage}  {escape(each.label)}{blocks}"
            yield from (f"        [dim]{escape(line)}[/]" for line in said)
        yield from _more(len(same))


def _last_lines(failure: FailedStage) -> list[str]:
    said = [*failure.attempt.log[-LOG_LINES_SHOWN:], failure.attempt.message or ""]
    return [line for text in said for line in text.splitlines()]


def _more(count: int) -> Iterator[str]:
    if count > STAGES_SHOWN:
        yield f"    and {count - STAGES_SHOWN:,} more; `status --json` lists all"


def _command(plan: Plan, store: Store) -> str:
    """What to type to run the rest of a sweep; by its file where the store does not know it by name."""
    sweep, usual = plan.sweep, Store(os.environ.get("PRUNESWEEP_STORE", "results"))
    verb = f"resume {sweep.name}" if _is_known(sweep.name, store) else f"run {sweep.path}"
    return f"prunesweep {verb}" + ("" if store.location == usual.location else f" --store {store.location}")


def _is_known(name: str, store: Store) -> bool:
    try:
        return recall(name, store) is not None
    except UserError:  # its record is damaged; running its file writes it again
        return False


def status_json(plans: Sequence[Plan], store: Store, seen: Seen) -> str:
    """Counts, what runs, failures and unfinished stages of sweeps, for programs."""
    return as_json([_status_record(plan, store, seen) for plan in plans])


def _status_record(plan: Plan, store: Store, seen: Seen) -> dict[str, Any]:
    failed = [
        {
            "stage": each.stage,
            "label": each.label,
            "blocks": each.blocks,
            "hint": policy(each.cause).hint,
            **asdict(each.attempt),
        }
        for each in failures(plan, store)
    ]
    begun = unfinished(plan, store, seen)
    return {
        "sweep": plan.sweep.name,
        **asdict(plan.counts),
        "now": nodes.record(nodes.now(plan, begun)),
        "failures": failed,
        "unfinished_stages": [asdict(each) for each in begun],
        "blocked_stages": plan.blocked,
        "damaged_stages": plan.damaged,
    }


# --- gc


def garbage(console: Console, found: Garbage) -> None:
    """What nothing needs, by kind, with sizes; of each kind the largest."""
    for kind, paths in found.kinds.items():
        say(console, f"[yellow]{kind}[/]: {len(paths):,}, {size(sum(paths.values()))}")
        for path in sorted(paths, key=lambda path: -paths[path])[:STAGES_SHOWN]:
            say(console, f"    {size(paths[path]):>7}  {escape('/'.join(path))}")
        if len(paths) > STAGES_SHOWN:
            say(console, f"    and {len(paths) - STAGES_SHOWN:,} more")
    for name in found.unreadable:
        say(console, f"the record of {escape(name)} cannot be read: no stage is removed; run that sweep's file again")
    if not found.kinds:
        say(console, "nothing to remove")


# --- doctor


def checks(console: Console, found: Sequence[Check]) -> None:
    """A line for each check of `doctor`."""
    column = max(len(check.name) for check in found) + 2
    for check in found:
        say(console, f"{MARKS[check.state]}  {check.name.ljust(column)}{escape(check.found)}")
