"""The command `prunesweep`: its verbs, and what holds for all of them. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated

import typer

from prunesweep.orchestrator.cli import (
    check,
    differences,
    doctor,
    gc,
    init,
    jobs,
    listing,
    results,
    runs,
    status,
    sweepfiles,
    ui,
    usage,
    watching,
)
from prunesweep.orchestrator.cli.datasets import data_app
from prunesweep.orchestrator.cli.exit_codes import FAILED, WRONG
from prunesweep.orchestrator.cli.exports import export_app
from prunesweep.orchestrator.cli.printing import show
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import public
from prunesweep.workers.store import Damaged

app = typer.Typer(
    help="Large sweeps over neural-network pruning methods: which way of making a network sparse is best?",
    epilog="Begin with: prunesweep init. With --debug, any command shows the traceback of an error.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"prunesweep {package_version('prunesweep')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options that are no verb's own."""


Verb = Callable[..., None]

GROUPS: Mapping[str, Sequence[tuple[Verb, str]]] = {
    "Before a run": (
        (init.init, "init flowers/"),
        (sweepfiles.validate, "validate sweep.yaml"),
        (runs.plan, "plan sweep.yaml --set train.lr=0.05,0.1"),
        (differences.diff, "diff sweep.yaml older"),
        (listing.list_, "list methods"),
        (sweepfiles.schema, "schema > sweep.schema.json"),
        (doctor.doctor, "doctor"),
    ),
    "Running": (
        (runs.run, "run sweep.yaml --smoke"),
        (runs.resume, "resume sweep"),
        (status.status, "status sweep"),
        (watching.watch, "watch sweep"),
        (jobs.logs, "logs sweep 3f9a"),
        (jobs.submit, "submit sweep.yaml --address http://head:8265 --store /shared/results"),
        (jobs.jobs, "jobs --address http://head:8265"),
        (jobs.cancel, "cancel sweep --address http://head:8265"),
    ),
    "Results": (
        (results.results, 'results sweep --where "target_sparsity>=0.9"'),
        (results.compare, "compare sweep --at target_sparsity=0.9 --against gmp"),
        (results.plot, "plot sweep --kind budget --output budget.pdf"),
        (results.report, "report sweep"),
        (ui.ui, "ui"),
    ),
    "The store": (
        (gc.gc, "gc --dry-run"),
        (check.check, "check --deep"),
    ),
}
"""The verbs as `--help` lists them, with an example of each."""

for group, verbs in GROUPS.items():
    for verb, example in verbs:
        name = verb.__name__.rstrip("_")
        app.command(name, rich_help_panel=group, epilog=f"Example: prunesweep {example}")(verb)
app.add_typer(data_app, name="data", rich_help_panel="Before a run", epilog="Example: prunesweep data fetch cifar10")
app.add_typer(
    export_app,
    name="export",
    rich_help_panel="Results",
    epilog="Example: prunesweep export onnx sweep --to networks",
)


def main() -> None:
    """The command `prunesweep`; `--debug` anywhere shows the traceback of an error that is not a bug of ours."""
    _open_streams()
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        _check_text(
            [
                str(Path.cwd()),
                *sys.argv,
                *(os.environ.get(name, "") for name in ("PRUNESWEEP_STORE", "PRUNESWEEP_DATA")),
            ]
        )
        sys.exit(app(prog_name="prunesweep", standalone_mode=False))
    except typer.TyperException as error:
        if said := usage.explained(error):
            show(f"error: {public(said)}", error=True)
        sys.exit(WRONG)
    except typer.Abort:
        show("aborted", error=True)
        sys.exit(FAILED)
    except (UserError, Damaged, OSError) as error:
        if debug:
            show(public(traceback.format_exc()), error=True, end="")
        show(f"error: {public(str(error))}", error=True)
        sys.exit(WRONG)
    finally:
        _flush()


def _check_text(arguments: Sequence[str]) -> None:
    """Raise `UserError` unless all are text: neither stores nor tables hold anything else."""
    for argument in arguments:
        if any("\ud800" <= character <= "\udfff" or character == "\0" for character in argument):
            raise UserError(f"{argument!a} is not text in UTF-8; give files, folders, stores and sweeps other names")


def _open_streams() -> None:
    """Python has no stream where the caller closed it, and stops at characters that the terminal does not know."""
    nowhere = os.devnull
    sys.stdout = sys.stdout or open(nowhere, "w")  # noqa: PTH123, SIM115 (for as long as the process lives)
    sys.stderr = sys.stderr or open(nowhere, "w")  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _flush() -> None:
    """Python would complain at its exit about a reader such as `head` that has gone, or a disk that is full."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
            sys.exit(WRONG)
