"""What the verbs print: plans, states, outcomes, lists."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.plan import Estimate, Plan
from orchestrator.progress import duration, grouped, size
from workers.data import DATASETS
from workers.errors import UserError, unknown
from workers.methods import METHODS, method_class
from workers.models import MODELS
from workers.spec import label
from workers.store import Attempt, State, Store

if TYPE_CHECKING:
    from orchestrator.doctor import Check

LOG_LINES_SHOWN = 3

HINTS = {
    "diverged": "lower train.lr, or add warm-up epochs",
    "out of memory": "lower train.batch_size, or give each trial a larger share in `resources`",
    "worker died": "often the machine ran out of memory: lower the number of trials at once with `resources`",
    "bad request": "the sweep asks for something that this network or dataset cannot do",
    "error": "the traceback is in the store, in the stage's attempts/ folder",
}


def as_json(value: Any) -> str:
    """Indented JSON."""
    return json.dumps(value, indent=2, default=str)


def plan(console: Console, plan: Plan, forecast: Estimate | None) -> None:
    """The figures of a plan, in a few lines."""
    counts = plan.counts
    merged = f", {counts.duplicates} equal ones merged" if counts.duplicates else ""
    console.print(f"[bold]{plan.sweep.name}[/]: {counts.trials} trials in {counts.stages} stages{merged}")
    states = f"[green]+ {counts.new} new[/]  = {counts.done} done  [yellow]~ {counts.retry} to retry[/]"
    console.print(
        f"  trials    {states}" + (f"  [red]! {counts.blocked} blocked by a failed one[/]" * bool(counts.blocked))
    )
    saved = counts.epochs_unshared / max(counts.epochs, 1)
    console.print(
        f"  epochs    {counts.epochs:,} instead of {counts.epochs_unshared:,} without sharing ({saved:.1f}x less); "
        f"{counts.epochs_to_run:,} to train in {counts.stages_to_run} stages"
    )
    if plan.to_run:
        console.print(f"  estimate  {_forecast(plan, forecast)}")


def _forecast(plan: Plan, forecast: Estimate | None) -> str:
    if forecast is None:
        return "unknown: the store has no finished stages like these yet"
    here = max(1, int((os.cpu_count() or 1) / plan.sweep.resources.cpus))
    return (
        f"{duration(forecast.seconds)} of work, {duration(forecast.seconds / here)} on {here} slots here; "
        f"{size(forecast.bytes)} of disk"
    )


def outcome(console: Console, plan: Plan, store: Store) -> None:
    """After a run: the comparison, where the tables are, and what is missing."""
    folder = store.url(plan.sweep.name)
    if plan.counts.done:
        comparison(console, [folder], "test_accuracy", None, [], "table")
        files = ", ".join(f"{name}.parquet" for name in ("trials", "curves", "layers"))
        console.print(f"{plan.counts.done} of {plan.counts.trials} trials done; tables in {folder}: {files}")
    if plan.to_run:
        failures(console, plan, store)


def comparison(
    console: Console, folders: Sequence[str], metric: str, by: Sequence[str] | None, where: Sequence[str], format: str
) -> None:
    """The table of means over seeds, in one of the formats of `orchestrator.tables`."""
    from orchestrator import results, tables

    frame = results.where(results.load_results(*folders), where)
    rendered = tables.render(tables.comparison(frame, metric, by), format)
    if isinstance(rendered, str):
        print(rendered)
    else:
        console.print(rendered)


def status(console: Console, plan: Plan, store: Store) -> None:
    """How far a sweep is, and its failures."""
    counts = plan.counts
    started = [key for key, state in plan.states.items() if state is State.STARTED]
    parts = [
        f"{counts.done} done",
        f"{counts.new} new",
        f"{counts.retry} failed or unfinished",
        f"{counts.blocked} blocked",
    ]
    console.print(f"[bold]{plan.sweep.name}[/]: {counts.trials} trials: {', '.join(parts)}")
    for key in started:
        since = "".join(f", since {attempt.started_at[:19]} UTC" for attempt in store.attempts(key)[-1:])
        console.print(f"  begun     {label(plan.stages[key])}{since}")
    failures(console, plan, store)


def failures(console: Console, plan: Plan, store: Store) -> None:
    """Failed stages grouped by cause, each with its last lines, a hint, and how many stages wait for it."""
    failed = _failed(plan, store)
    if failed:
        console.print(f"failed: {grouped(attempt.cause or '' for attempt in failed.values())}")
    for key, attempt in failed.items():
        waiting = sum(culprit == key for culprit in plan.blocked.values())
        blocks = f"; blocks {waiting} stages" if waiting else ""
        console.print(f"  [red]{attempt.cause}[/]  {key}  {label(plan.stages[key])}{blocks}")
        for line in [*attempt.log[-LOG_LINES_SHOWN:], attempt.message or ""]:
            console.print(f"      {escape(line)}", style="dim")
        console.print(f"      hint: {HINTS.get(attempt.cause or '', HINTS['error'])}", style="dim")
    if plan.to_run:
        console.print(f"run again what is missing with: prunesweep resume {plan.sweep.name}")


def status_json(plans: Sequence[Plan], store: Store) -> str:
    """Counts and failures of sweeps, for programs."""
    return as_json(
        [
            {
                "sweep": plan.sweep.name,
                **asdict(plan.counts),
                "failures": [
                    {"stage": key, "label": label(plan.stages[key]), **asdict(attempt)}
                    for key, attempt in _failed(plan, store).items()
                ],
                "blocked_stages": plan.blocked,
            }
            for plan in plans
        ]
    )


def _failed(plan: Plan, store: Store) -> dict[str, Attempt]:
    return {key: store.attempts(key)[-1] for key, state in plan.states.items() if state is State.FAILED}


def catalogue(what: str) -> list[dict[str, Any]]:
    """Methods, models or datasets, as `list` shows them."""
    if what == "methods":
        return [_method(name) for name in METHODS]
    registries = {"models": MODELS, "datasets": DATASETS}
    if what not in registries:
        raise UserError(unknown("list", what, [*registries, "methods"]))
    return [{"name": name, "options": dict(entry.options)} for name, entry in registries[what].items()]


def _method(name: str) -> dict[str, Any]:
    found = method_class(name)
    summary = (found.__doc__ or "").splitlines()[0]
    parameters = [
        {
            "name": p.name,
            "type": _type_name(p.type),
            "default": "required" if p.default is MISSING else p.default,
            "help": p.help,
        }
        for p in found.hyperparameters()
    ]
    return {"name": name, "summary": summary, "hyperparameters": parameters}


def _type_name(annotation: Any) -> str:
    names = [getattr(a, "__name__", str(a)) for a in get_args(annotation) or (annotation,) if a is not type(None)]
    return " | ".join(names)


def listing(console: Console, what: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A list for people."""
    if what != "methods":
        for row in rows:
            options = ", ".join(f"{name}: {value}" for name, value in row["options"].items())
            console.print(f"{row['name']}" + (f"  ({options})" if options else ""))
        return
    for row in rows:
        console.print(f"[bold]{row['name']}[/]  {row['summary']}")
        table = Table.grid(padding=(0, 2))
        for p in row["hyperparameters"]:
            table.add_row("   ", p["name"], p["type"], f"default {p['default']}", p["help"])
        console.print(table)


def checks(console: Console, found: Sequence[Check]) -> None:
    """A line for each check of `doctor`."""
    table = Table.grid(padding=(0, 2))
    for check in found:
        table.add_row("[green]ok[/]" if check.good else "[red]no[/]", check.name, escape(check.found))
    console.print(table)


def existing(folder: str) -> bool:
    """Whether a path on this machine, or any URL, may hold results."""
    return "://" in folder or Path(folder).exists()
