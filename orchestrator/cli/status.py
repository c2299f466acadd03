"""The verb `status`, and what it and the end of a run print: what runs, what failed and why, and how to go on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain, groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from prunesweep.orchestrator.cli.options import STORE, DataOption, JsonOption, StoreOption, sweep_names
from prunesweep.orchestrator.cli.plans import damaged_lines, states
from prunesweep.orchestrator.cli.printing import as_json, say, show
from prunesweep.orchestrator.cli.searches import search_record, status_lines
from prunesweep.orchestrator.lookup import is_file, open_store, planned_sweep
from prunesweep.orchestrator.plan import Plan, make_plan, make_plans
from prunesweep.orchestrator.records import read_records, recall
from prunesweep.orchestrator.run.failures import policy
from prunesweep.orchestrator.status import nodes
from prunesweep.orchestrator.status.status import RUNNING, FailedStage, Seen, Unfinished, failures, look, unfinished
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.orchestrator.text import counted, duration, grouped
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location
from prunesweep.workers.store import Store

LOG_LINES_SHOWN = 3
STAGES_SHOWN = 5
"""So many stages are shown of each cause of failure, and of those that are unfinished."""


def status(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="SWEEP",
            help="A sweep's name or file; without it a line for each sweep of the store.",
            autocompletion=sweep_names,
        ),
    ] = None,
    store: StoreOption = STORE,
    data_dir: DataOption = Path("data"),
    as_json_: JsonOption = False,
) -> None:
    """Show how far a sweep is, what is unfinished, and why stages failed. With a name, it needs only the store."""
    opened = Store(store) if name and is_file(name) else open_store(store)
    plans: Sequence[Plan] = (
        [make_plan(planned_sweep(name, opened, str(data_dir)), opened)]
        if name
        else make_plans(remembered(opened), opened, say_error)
    )
    seen: Seen = {}
    if name or as_json_:
        plans, seen = look(plans, opened)
    if as_json_:
        print(_as_json(plans, opened, seen))
        return
    for plan in plans:
        say(count_line(plan))
        if name:
            for line in status_lines(plan):
                say(line)
            troubles(plan, opened, seen)
    if not plans:
        say("no sweep has been run in this store yet; run one with: prunesweep run FILE")


def remembered(store: Store) -> Iterator[Sweep]:
    """All sweeps of the store; one whose record is damaged is said."""
    for sweep in read_records(store):
        if isinstance(sweep, UserError):
            say_error(sweep)
        else:
            yield sweep


def say_error(error: UserError) -> None:
    """Beside what is shown, which goes on without it."""
    show(f"error: {error}", error=True)


# --- what is printed


def count_line(plan: Plan) -> str:
    """How far a sweep is."""
    return f"[bold]{plan.sweep.name}[/]: {counted(plan.counts.trials, 'trial')}: {states(plan.counts)}"


def troubles(plan: Plan, store: Store, seen: Seen | None = None) -> None:
    """Print `trouble_lines`."""
    for line in trouble_lines(plan, store, seen):
        say(line)


def trouble_lines(plan: Plan, store: Store, seen: Seen | None = None) -> Iterator[str]:
    """What runs, what is unfinished, what failed and why, and how to go on; nothing when all is done.

    Without `seen`, what the claims of other machines say is taken for true.
    """
    begun = unfinished(plan, store, seen)
    yield from chain(damaged_lines(plan), nodes.lines(nodes.now(plan, begun)), _unfinished_lines(begun))
    yield from _failure_lines(failures(plan, store))
    if plan.to_run and not any(stage.state == RUNNING for stage in begun):
        yield f"run what is missing with: {escape(_command(plan, store))}"


def _unfinished_lines(begun: list[Unfinished]) -> Iterator[str]:
    """Those that do not run; the others are in the table above."""
    waiting = [stage for stage in begun if stage.state != RUNNING]
    if waiting:
        yield f"[yellow]unfinished[/]: {grouped(stage.state for stage in waiting)}"
    for stage in waiting[:STAGES_SHOWN]:
        kept = "no checkpoint yet" if stage.checkpoint is None else f"checkpoint of epoch {stage.checkpoint}"
        yield f"    {stage.stage}  {escape(stage.label)}; {stage.state}; {_began(stage)}{kept} of {stage.epochs}"
    yield from _more(len(waiting))


def _began(stage: Unfinished) -> str:
    if stage.began_at is None:
        return ""
    ago = datetime.now(UTC) - datetime.fromisoformat(stage.began_at)
    when = f"{stage.began_at[:19].replace('T', ' ')} UTC"
    return f"began {duration(max(ago.total_seconds(), 0))} ago ({when}) on {escape(stage.host or 'an unknown host')}, "


def _failure_lines(failed: list[FailedStage]) -> Iterator[str]:
    """By cause, each with what to do about it; of each stage its last lines, once where they are the same."""
    if failed:
        yield f"[red]failed[/]: {grouped(failure.cause for failure in failed)}"
    for cause in dict.fromkeys(failure.cause for failure in failed):
        same = [failure for failure in failed if failure.cause == cause]
        yield f"  [red]{escape(cause)}[/]: {policy(cause).hint}"
        for said, group in groupby(same[:STAGES_SHOWN], _last_lines):
            for failure in group:
                blocks = f"; blocks {counted(failure.blocks, 'stage')}" if failure.blocks else ""
                yield f"    {failure.stage}  {escape(failure.label)}{blocks}"
            yield from (f"        [dim]{escape(line)}[/]" for line in said)
        yield from _more(len(same))


def _last_lines(failure: FailedStage) -> list[str]:
    said = [*failure.attempt.log[-LOG_LINES_SHOWN:], failure.attempt.message or ""]
    return [line for text in said for line in text.splitlines()]


def _more(count: int) -> Iterator[str]:
    if count > STAGES_SHOWN:
        yield f"    and {count - STAGES_SHOWN:,} more; `status --json` lists all"


def _command(plan: Plan, store: Store) -> str:
    """What to type to run the rest of a sweep; by its file where the store does not know these trials by its name."""
    sweep, usual = plan.question, Location(os.environ.get("PRUNESWEEP_STORE") or STORE).absolute()
    verb = f"resume {sweep.name}" if _is_known(sweep, store) else f"run {sweep.path}"
    return f"prunesweep {verb}" + ("" if store.location == usual else f" --store {store.location}")


def _is_known(sweep: Sweep, store: Store) -> bool:
    try:
        remembered = recall(sweep.name, store)
        return remembered is not None and set(remembered.exemplars) == set(sweep.exemplars)
    except UserError:  # its record is damaged; running its file writes it again
        return False


def _as_json(plans: Sequence[Plan], store: Store, seen: Seen) -> str:
    """Counts, what runs, failures and unfinished stages of sweeps, for programs."""
    return as_json([_record(plan, store, seen) for plan in plans])


def _record(plan: Plan, store: Store, seen: Seen) -> dict[str, Any]:
    failed = [
        {
            "stage": failure.stage,
            "label": failure.label,
            "blocks": failure.blocks,
            "hint": policy(failure.cause).hint,
            **asdict(failure.attempt),
        }
        for failure in failures(plan, store)
    ]
    begun = unfinished(plan, store, seen)
    return {
        "sweep": plan.sweep.name,
        **asdict(plan.counts),
        "now": nodes.record(nodes.now(plan, begun)),
        "failures": failed,
        "unfinished_stages": [asdict(stage) for stage in begun],
        "blocked_stages": plan.blocked,
        "damaged_stages": plan.damaged,
        "search_states": [search_record(decision) for decision in plan.decisions],
    }
