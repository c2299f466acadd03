"""The verbs of `prunesweep`: each parses, calls, prints. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from orchestrator import show
from orchestrator.driver import Options, known, recall, require, run_sweep
from orchestrator.plan import as_json, estimate, make_plan
from orchestrator.sweep import Sweep, read_sweep, sweep_schema
from workers.errors import UserError
from workers.store import Store

FAILED, WRONG, INTERRUPTED = 1, 2, 130
"""Exit codes beside 0, all done: some trials failed or are missing; the request was wrong; interrupted."""

app = typer.Typer(
    help="Large sweeps over neural-network pruning methods: which way of making a network sparse is best?",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
"""A pipe has no width of its own; rich would take 80."""

SweepFile = Annotated[Path, typer.Argument(help="A sweep file, .yaml or .py.", show_default=False)]
SweepName = Annotated[str, typer.Argument(help="A sweep's name, or its file.", show_default=False)]
StoreOption = Annotated[
    str, typer.Option("--store", envvar="PRUNESWEEP_STORE", help="Folder or URL that holds all stages and tables.")
]
DataOption = Annotated[Path, typer.Option("--data-dir", envvar="PRUNESWEEP_DATA", help="Folder that holds datasets.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda.")]
AddressOption = Annotated[str | None, typer.Option(help="An existing Ray cluster; without it one is started here.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
def plan(sweep: SweepFile, store: StoreOption = "results", as_json_: JsonOption = False) -> None:
    """Show what a sweep would run: trials, shared stages, what is done, time and disk. Starts nothing."""
    opened = Store(store)
    made = make_plan(read_sweep(sweep), opened)
    forecast = estimate(made, opened)
    if as_json_:
        print(as_json(made, forecast))
    else:
        show.plan(console, made, forecast)


@app.command()
def run(
    sweep: SweepFile,
    store: StoreOption = "results",
    data_dir: DataOption = Path("data"),
    device: DeviceOption = "auto",
    address: AddressOption = None,
) -> None:
    """Run what the store lacks of a sweep, then show the comparison. Run it again to resume, retry or extend."""
    _run(read_sweep(sweep), Store(store), Options(address, str(data_dir), device))


@app.command()
def resume(
    name: Annotated[str, typer.Argument(help="A sweep's name.", show_default=False)],
    store: StoreOption = "results",
    data_dir: DataOption = Path("data"),
    device: DeviceOption = "auto",
    address: AddressOption = None,
) -> None:
    """Run again what is missing or failed of a sweep, by its name: the trials that were last submitted under it."""
    opened = Store(store)
    _run(require(name, opened), opened, Options(address, str(data_dir), device))


def _run(sweep: Sweep, store: Store, options: Options) -> None:
    before = make_plan(sweep, store)
    show.plan(console, before, estimate(before, store))
    try:
        after = run_sweep(sweep, store, options, console)
    except KeyboardInterrupt:
        console.print("interrupted: what is finished is kept; the same command continues from there")
        raise typer.Exit(INTERRUPTED) from None
    show.outcome(console, after, store)
    if after.to_run:
        raise typer.Exit(FAILED)


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="A sweep's name or file; all sweeps without it.")] = None,
    store: StoreOption = "results",
    as_json_: JsonOption = False,
) -> None:
    """Show how far a sweep is, and why what failed has failed. Needs the store only."""
    opened = Store(store)
    sweeps = [_sweep(name, opened)] if name else [require(each, opened) for each in known(opened)]
    plans = [make_plan(sweep, opened) for sweep in sweeps]
    if as_json_:
        print(show.status_json(plans, opened))
        return
    for each in plans:
        show.status(console, each, opened)
    if not plans:
        console.print(f"{opened.location} holds no sweep yet; run one with: prunesweep run FILE")


@app.command()
def results(
    names: Annotated[list[str], typer.Argument(help="Sweeps by name, or folders with results.", show_default=False)],
    store: StoreOption = "results",
    metric: Annotated[str, typer.Option(help="The column to compare.")] = "test_accuracy",
    by: Annotated[list[str] | None, typer.Option(help="Columns that make the rows; may be repeated.")] = None,
    where: Annotated[list[str] | None, typer.Option(help='Conditions such as "target_sparsity>=0.9".')] = None,
    format: Annotated[str, typer.Option(help="table, csv, markdown, latex or json.")] = "table",
    as_json_: JsonOption = False,
) -> None:
    """Compare methods: mean ± deviation (n) over seeds, a column for every sparsity and budget."""
    opened = Store(store)
    folders = [opened.url(name) if recall(name, opened) else name for name in names]
    for name, folder in zip(names, folders, strict=True):
        if name == folder and not Path(name).exists() and "://" not in name:
            require(name, opened)
    show.comparison(console, folders, metric, by or None, where or [], "json" if as_json_ else format)


@app.command()
def validate(sweep: SweepFile) -> None:
    """Check a sweep file; says what is wrong and where, or how many trials it makes."""
    read = read_sweep(sweep)
    merged = f" ({read.duplicates} equal ones merged)" if read.duplicates else ""
    console.print(f"{sweep}: valid, {len(read.trials)} trials{merged}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of sweep files, for editors."""
    print(show.as_json(sweep_schema()))


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, models or datasets.")],
    as_json_: JsonOption = False,
) -> None:
    """List methods with their hyperparameters, models or datasets."""
    rows = show.catalogue(what)
    if as_json_:
        print(show.as_json(rows))
    else:
        show.listing(console, what, rows)


@app.command()
def doctor(store: StoreOption = "results", data_dir: DataOption = Path("data"), as_json_: JsonOption = False) -> None:
    """Check this machine: packages, devices, store, datasets. Exit code 1 when something would stop a sweep."""
    from orchestrator import doctor as checks

    found = checks.examine(store, data_dir)
    if as_json_:
        print(show.as_json([check.__dict__ for check in found]))
    else:
        show.checks(console, found)
    if not all(check.good for check in found):
        raise typer.Exit(FAILED)


def _sweep(name: str, store: Store) -> Sweep:
    """By name if the store remembers it, else by file."""
    if recall(name, store) is None and Path(name).suffix in {".yaml", ".yml", ".py"}:
        return read_sweep(Path(name))
    return require(name, store)


def main() -> None:
    """The command `prunesweep`; `--debug` anywhere shows the traceback of a wrong request."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        app()
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(WRONG)
