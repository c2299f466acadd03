"""The verb `gc`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.markup import escape

from prunesweep.orchestrator.cli.options import STORE, StoreOption
from prunesweep.orchestrator.cli.printing import say
from prunesweep.orchestrator.lookup import open_store
from prunesweep.orchestrator.status import garbage
from prunesweep.orchestrator.text import size

PATHS_SHOWN = 5
"""Of each kind of garbage, the largest."""


def gc(
    store: StoreOption = STORE,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Only show.")] = False,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Remove without asking.")] = False,
) -> None:
    """List what nothing in the store needs any more, and remove it after asking."""
    opened = open_store(store)
    unneeded = garbage.find(opened)
    _show(unneeded)
    if dry_run or not unneeded.kinds:
        return
    if not yes and not sys.stdin.isatty():
        say("nothing is removed: there is nobody to ask; --yes removes it")
    elif yes or typer.confirm("remove all of this?"):
        say(f"removed {size(garbage.remove(unneeded, opened))}")


def _show(unneeded: garbage.Garbage) -> None:
    """What nothing needs any more, by kind, with sizes."""
    for kind, paths in unneeded.kinds.items():
        say(f"[yellow]{kind}[/]: {len(paths):,}, {size(sum(paths.values()))}")
        for path in sorted(paths, key=lambda path: -paths[path])[:PATHS_SHOWN]:
            say(f"    {size(paths[path]):>7}  {escape('/'.join(path))}")
        if len(paths) > PATHS_SHOWN:
            say(f"    and {len(paths) - PATHS_SHOWN:,} more")
    for name in unneeded.unreadable:
        say(f"the record of {escape(name)} cannot be read: no stage is removed; run that sweep's file again")
    if not unneeded.kinds:
        say("nothing to remove")
