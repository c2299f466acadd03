"""The verb `ui`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from prunesweep.orchestrator.cli.options import STORE, StoreOption
from prunesweep.orchestrator.cli.printing import say
from prunesweep.orchestrator.cli.start import INTERRUPTED
from prunesweep.orchestrator.lookup import open_store
from prunesweep.workers.location import Location


def ui(
    place: Annotated[
        Location | None,
        typer.Argument(metavar="[STORE]", parser=Location, help="As --store.", show_default=False),
    ] = None,
    store: StoreOption = STORE,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; beyond this machine the link has a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0 takes any that is free.")] = 8866,
) -> None:
    """Show the sweeps of a store in a browser, live: progress, comparison, plots, what runs, and what failed."""
    opened = open_store(place or store)
    from prunesweep.orchestrator.ui.serving import Serving

    serving = Serving(opened, host, port)
    say(f"{escape(serving.link)} shows {escape(str(opened.location))}; Ctrl-C ends it")
    try:
        serving.run()
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
