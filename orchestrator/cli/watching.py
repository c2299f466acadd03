"""The verb `watch`: `status` that is drawn again and again, from the store alone."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from prunesweep.orchestrator.cli.options import STORE, DataOption, StoreOption, sweep_names
from prunesweep.orchestrator.cli.printing import console, on_terminal, say
from prunesweep.orchestrator.cli.status import count_line, remembered, say_error, trouble_lines
from prunesweep.orchestrator.lookup import open_store, planned_sweep
from prunesweep.orchestrator.plan import Plan, make_plans
from prunesweep.orchestrator.run.stopping import INTERRUPTED
from prunesweep.orchestrator.status.status import look
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.workers.store import State, Store

WatchedSweep = Annotated[
    str | None,
    typer.Argument(
        metavar="SWEEP", help="A sweep's name or file; without it all of the store.", autocompletion=sweep_names
    ),
]
EveryOption = Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="How long to wait between two looks.")]


def watch(
    name: WatchedSweep = None,
    store: StoreOption = STORE,
    data_dir: DataOption = Path("data"),
    every: EveryOption = 2.0,
) -> None:
    """Show the status of a running sweep, and again when it changes, until all is done or Ctrl-C ends it."""
    opened = open_store(store)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the terminal is to get its cursor back
    try:
        named = [planned_sweep(name, opened, str(data_dir))] if name else remembered(opened)
        sweeps = [plan.sweep for plan in make_plans(named, opened, say_error)]
        if on_terminal and not console.is_dumb_terminal:
            _redraw(sweeps, opened, every)
        else:
            _print_changes(sweeps, opened, every)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _looks(sweeps: Sequence[Sweep], store: Store, every: float) -> Iterator[list[str]]:
    """The lines of one look after another, the last of them when nothing is left to run."""
    while True:
        plans, seen = look(make_plans(sweeps, store), store)
        yield [line for plan in plans for line in (count_line(plan), *trouble_lines(plan, store, seen))]
        if not any(_unsettled(plan) for plan in plans):
            return
        time.sleep(every)


def _unsettled(plan: Plan) -> bool:
    """Whether a run may change it: what has failed stays so until somebody runs it again."""
    trials = any(plan.trial_state(trial) in ("new", "started") for trial in plan.sweep.trials)
    waiting = {key for decision in plan.decisions if decision.is_open for key in decision.stages} & plan.to_run.keys()
    return trials or any(plan.states[key] is not State.FAILED and key not in plan.blocked for key in waiting)


def _redraw(sweeps: Sequence[Sweep], store: Store, every: float) -> None:
    """On a terminal: lines that are too long are cut, and so are lines that it has no room for."""
    with Live(console=console, auto_refresh=False) as live:
        for lines in _looks(sweeps, store, every):
            texts = [Text.from_markup(line, overflow="ellipsis") for line in lines]
            for text in texts:
                text.no_wrap = True
            live.update(Group(*texts), refresh=True)


def _print_changes(sweeps: Sequence[Sweep], store: Store, every: float) -> None:
    """Where nothing can be drawn again: what was not in the look before, without the rows of each stage."""
    before: list[str] = []
    for lines in _looks(sweeps, store, every):
        for line in lines:
            if line not in before and not line.startswith(" "):
                say(line)
        before = lines
