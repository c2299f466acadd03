"""The verb `check`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Column, Table

from prunesweep.orchestrator.cli.exit_codes import FAILED
from prunesweep.orchestrator.cli.options import STORE, JsonOption, StoreOption
from prunesweep.orchestrator.cli.printing import as_json, console, say
from prunesweep.orchestrator.lookup import open_store
from prunesweep.orchestrator.text import counted
from prunesweep.workers.location import Location

if TYPE_CHECKING:
    from prunesweep.orchestrator.status.checking import Check, Fault

SHOWN = 50
"""Faults; --json has all."""


def check(
    place: Annotated[
        Location | None,
        typer.Argument(metavar="[STORE]", parser=Location, help="As --store.", show_default=False),
    ] = None,
    store: StoreOption = STORE,
    deep: Annotated[
        bool, typer.Option("--deep", metavar="", help="Read networks and checkpoints, too, and hash them.")
    ] = False,
    as_json_: JsonOption = False,
) -> None:
    """Verify a store: are all files complete and in their places, and do the tables agree with the stages?"""
    from prunesweep.orchestrator.status.checking import Check

    looked = Check(open_store(place or store), deep)
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("checking", total=looked.steps)
        faults = list(looked.faults(lambda count: progress.advance(task, count)))
    if as_json_:
        print(as_json([asdict(fault) for fault in faults]))
    else:
        _show(faults, looked)
    if faults:
        raise typer.Exit(FAILED)


def _show(faults: Sequence[Fault], looked: Check) -> None:
    extent = f"{counted(len(looked.keys), 'stage')} and {counted(len(looked.sweeps), 'sweep')}"
    if not faults:
        how = "all files were read" if looked.deep else "networks were not read: --deep does so"
        say(f"{extent}: all is whole; {how}")
        return
    table = Table(Column("where", no_wrap=True), "what is wrong", "running again")
    for fault in faults[:SHOWN]:
        table.add_row(escape(fault.place), escape(fault.problem), escape(fault.remedy))
    console.print(table)
    more = f"; {len(faults) - SHOWN:,} more are in --json" if len(faults) > SHOWN else ""
    say(f"{extent}: {counted(len(faults), 'fault')}{more}")
