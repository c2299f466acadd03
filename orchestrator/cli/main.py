"""The verbs of `prunesweep`: each parses, calls, prints. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated

import typer

from prunesweep.orchestrator.cli import (
    datasets,
    jobs,
    listing,
    printing,
    results,
)
from prunesweep.orchestrator.cli.exports import export_app
from prunesweep.orchestrator.cli.options import (
    AddressOption,
    AutoscalingOption,
    DataOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    LoadersOption,
    MaxConcurrentOption,
    MaxFailuresOption,
    NotifyOption,
    StoreOption,
    SweepFile,
    SweepName,
    sweep_names,
)
from prunesweep.orchestrator.cli.printing import console
from prunesweep.orchestrator.lookup import find_sweep
from prunesweep.orchestrator.plan import Plan, as_json, estimate, make_plan
from prunesweep.orchestrator.records import known, require
from prunesweep.orchestrator.run import notify as webhook
from prunesweep.orchestrator.run.driver import Options, run_sweep
from prunesweep.orchestrator.run.stopping import CONTINUES, INTERRUPTED, TooManyFailures
from prunesweep.orchestrator.status import garbage
from prunesweep.orchestrator.status.status import Seen, look
from prunesweep.orchestrator.sweepfile.read import Sweep, read_sweep
from prunesweep.orchestrator.sweepfile.schema import sweep_schema
from prunesweep.orchestrator.text import counted, size
from prunesweep.workers.data import DATASETS
from prunesweep.workers.errors import UserError
from prunesweep.workers.store import Damaged, Store

FAILED, WRONG = 1, 2
"""Exit codes beside 0, all done, and `INTERRUPTED`: some trials failed or are missing; the request was wrong."""

app = typer.Typer(
    help="Large sweeps over neural-network pruning methods: which way of making a network sparse is best?",
    epilog="With --debug, any command shows the traceback of an error.",
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


@app.command()
def plan(name: SweepName, store: StoreOption = "results", as_json_: JsonOption = False) -> None:
    """Show what a sweep would run: trials, shared stages, what is done, time and disk. Starts nothing."""
    opened = Store(store)
    made = make_plan(find_sweep(name, opened), opened)
    forecast = estimate(made, opened)
    if as_json_:
        print(as_json(made, forecast))
    else:
        printing.plan(console, made, forecast)


@app.command()
def run(
    sweep: SweepFile,
    store: StoreOption = "results",
    data_dir: DataOption = Path("data"),
    device: DeviceOption = "auto",
    loaders: LoadersOption = 0,
    address: AddressOption = None,
    max_failures: MaxFailuresOption = None,
    max_concurrent: MaxConcurrentOption = None,
    autoscaling: AutoscalingOption = False,
    notify: NotifyOption = None,
    force: ForceOption = False,
) -> None:
    """Run what the store lacks of a sweep, then show the comparison. Run it again to resume, retry or extend."""
    options = Options(address, str(data_dir), device, loaders, max_failures, max_concurrent, autoscaling, notify)
    _run(read_sweep(sweep), Store(store), options, force)


@app.command()
def resume(
    name: SweepName,
    store: StoreOption = "results",
    data_dir: DataOption = Path("data"),
    device: DeviceOption = "auto",
    loaders: LoadersOption = 0,
    address: AddressOption = None,
    max_failures: MaxFailuresOption = None,
    max_concurrent: MaxConcurrentOption = None,
    autoscaling: AutoscalingOption = False,
    notify: NotifyOption = None,
    force: ForceOption = False,
) -> None:
    """Run again what is missing or failed of a sweep: by its name the trials that were last run under it."""
    options = Options(address, str(data_dir), device, loaders, max_failures, max_concurrent, autoscaling, notify)
    opened = Store(store)
    _run(find_sweep(name, opened), opened, options, force)


def _run(sweep: Sweep, store: Store, options: Options, force: bool) -> None:
    warn = partial(console.print, style="yellow", markup=False, soft_wrap=True)
    with webhook.told(options.notify, sweep, store, warn) as news:
        news.plan = make_plan(sweep, store)
        _run_and_show(news.plan, store, options, force)


def _run_and_show(before: Plan, store: Store, options: Options, force: bool) -> None:
    forecast = estimate(before, store)
    printing.plan(console, before, forecast)
    if forecast and not forecast.fits and not force:
        raise UserError(
            f"the sweep needs about {size(forecast.bytes)}, {store.location} has {size(forecast.free_bytes or 0)} "
            "free: make room (`prunesweep gc` may), choose another --store, or run with --force"
        )
    try:
        after = run_sweep(before, store, options, console)
    except KeyboardInterrupt:
        console.print(f"interrupted: {CONTINUES}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    except TooManyFailures as stopped:
        printing.outcome(console, before.refreshed(store), store)
        console.print(f"{stopped}; {CONTINUES}", soft_wrap=True)
        raise typer.Exit(FAILED) from None
    printing.outcome(console, after, store)
    if after.to_run:
        raise typer.Exit(FAILED)


for verb in (jobs.submit, jobs.logs, jobs.cancel, jobs.jobs):
    app.command()(verb)


@app.command()
def status(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="SWEEP",
            help="A sweep's name or file; without it a line for each sweep of the store.",
            autocompletion=sweep_names,
        ),
    ] = None,
    store: StoreOption = "results",
    as_json_: JsonOption = False,
) -> None:
    """Show how far a sweep is, what is unfinished, and why what failed has failed. Needs the store only."""
    opened = Store(store)
    sweeps = [find_sweep(name, opened)] if name else list(_remembered(opened))
    plans: Sequence[Plan] = [make_plan(sweep, opened) for sweep in sweeps]
    seen: Seen = {}
    if name or as_json_:
        plans, seen = look(plans, opened)
    if as_json_:
        print(printing.status_json(plans, opened, seen))
        return
    for each in plans:
        printing.status(console, each)
        if name:
            printing.troubles(console, each, opened, seen)
    if not plans:
        printing.say(console, "no sweep has been run in this store yet; run one with: prunesweep run FILE")


app.command()(results.results)
app.command()(results.compare)
app.command()(results.plot)
app.command()(results.report)


@app.command()
def validate(sweep: SweepFile) -> None:
    """Check a sweep file; says what is wrong and where, or how many trials it makes."""
    read = read_sweep(sweep)
    merged = f"; {counted(read.duplicates, 'equal trial')} merged" if read.duplicates else ""
    print(f"{sweep}: valid, {counted(len(read.trials), 'trial')}{merged}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of sweep files, for editors."""
    print(printing.as_json(sweep_schema()))


@app.command("list")
def list_(
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", help="methods, models or datasets.", autocompletion=lambda: list(listing.KINDS)),
    ],
    as_json_: JsonOption = False,
) -> None:
    """List methods with their hyperparameters, models or datasets."""
    rows = listing.catalogue(kind)
    if as_json_:
        print(printing.as_json(rows))
    else:
        print("\n".join(listing.lines(kind, rows, console.width)))


@app.command()
def gc(
    store: StoreOption = "results",
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Only show.")] = False,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Remove without asking.")] = False,
) -> None:
    """Show what nothing in the store needs any more, and remove it after asking."""
    opened = Store(store)
    found = garbage.find(opened)
    printing.garbage(console, found)
    if dry_run or not found.kinds:
        return
    if not yes and not sys.stdin.isatty():
        printing.say(console, "nothing is removed: there is nobody to ask; --yes removes it")
    elif yes or typer.confirm("remove all of this?"):
        printing.say(console, f"removed {size(garbage.remove(found, opened))}")


@app.command()
def doctor(store: StoreOption = "results", data_dir: DataOption = Path("data"), as_json_: JsonOption = False) -> None:
    """Check this machine: packages, devices, store, datasets. Exit code 1 when something would stop every sweep."""
    from prunesweep.orchestrator.cli import doctor as checks

    found = checks.examine(store, data_dir)
    if as_json_:
        print(printing.as_json([check.__dict__ for check in found]))
    else:
        printing.checks(console, found)
    if any(check.state == "no" for check in found):
        raise typer.Exit(FAILED)


app.add_typer(export_app, name="export")

data_app = typer.Typer(help="Fetch and check datasets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

DatasetName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A dataset's name.", show_default=False, autocompletion=lambda: list(DATASETS)),
]


@data_app.command()
def fetch(name: DatasetName, data_dir: DataOption = Path("data")) -> None:
    """Download a dataset, or what is missing or damaged of it."""
    print(datasets.fetch(name, str(data_dir)))


@data_app.command()
def check(name: DatasetName, data_dir: DataOption = Path("data"), as_json_: JsonOption = False) -> None:
    """Show a dataset's images, and whether its files are whole. Exit code 2 when they are not."""
    found = datasets.check(name, str(data_dir))
    if as_json_:
        print(printing.as_json(found))
    else:
        print("\n".join(datasets.lines(found)))


def _remembered(store: Store) -> Iterator[Sweep]:
    """All sweeps of the store; one whose record is damaged is said."""
    for name in known(store):
        try:
            yield require(name, store)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)


def main() -> None:
    """The command `prunesweep`; `--debug` anywhere shows the traceback of an error that is not a bug of ours."""
    _open_streams()
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    # A user's own `module:name` lies in the folder where the command is run, as with `python -m`; Ray's workers look
    # there by themselves.
    sys.path.append(str(Path.cwd()))
    try:
        _check_text([*sys.argv, *(os.environ.get(name, "") for name in ("PRUNESWEEP_STORE", "PRUNESWEEP_DATA"))])
        app()
    except (UserError, Damaged, OSError) as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(WRONG)
    finally:
        _flush()


def _check_text(arguments: Sequence[str]) -> None:
    """Raise `UserError` unless all are text: neither stores nor tables hold anything else."""
    for argument in arguments:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise UserError(f"{argument!a} is not text in UTF-8; give files, stores and sweeps other names")


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
