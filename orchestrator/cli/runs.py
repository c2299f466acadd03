"""The verbs `plan`, `run` and `resume`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import typer
from rich.markup import escape

from prunesweep.orchestrator import versions
from prunesweep.orchestrator.cli.exit_codes import FAILED
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
    SameCodeOption,
    StoreOption,
    SweepFile,
    SweepName,
)
from prunesweep.orchestrator.cli.plans import show_plan
from prunesweep.orchestrator.cli.printing import console, say
from prunesweep.orchestrator.cli.results import show_means
from prunesweep.orchestrator.cli.status import troubles
from prunesweep.orchestrator.lookup import planned_sweep
from prunesweep.orchestrator.plan import Plan, as_json, estimate, make_plan
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.run.driver import Options, run_sweep
from prunesweep.orchestrator.run.notify import told
from prunesweep.orchestrator.run.stopping import CONTINUES, INTERRUPTED, TooManyFailures
from prunesweep.orchestrator.sweepfile.read import Sweep, read_sweep
from prunesweep.orchestrator.text import counted, size
from prunesweep.workers.errors import UserError
from prunesweep.workers.store import Store


def plan(
    name: SweepName, store: StoreOption = "results", data_dir: DataOption = Path("data"), as_json_: JsonOption = False
) -> None:
    """Show what a sweep would run: trials, shared stages, what is done, time and disk. Starts nothing."""
    opened = Store(store)
    plan_ = make_plan(planned_sweep(name, opened, str(data_dir)), opened)
    forecast = estimate(plan_, opened)
    if as_json_:
        print(as_json(plan_, forecast))
    else:
        show_plan(plan_, forecast)
        _show_changes(plan_.sweep, opened)


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
    same_code: SameCodeOption = False,
) -> None:
    """Run what the store lacks of a sweep, then show the comparison. Run it again to resume, retry or extend."""
    options = Options(address, str(data_dir), device, loaders, max_failures, max_concurrent, autoscaling, notify)
    opened = Store(store)
    versioned = versions.versioned(read_sweep(sweep), opened, str(data_dir))
    if same_code:
        versioned = versions.accept(versioned, opened, str(data_dir))
    _run(versioned, opened, options, force)


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
    _run(planned_sweep(name, opened, str(data_dir)), opened, options, force)


def _run(sweep: Sweep, store: Store, options: Options, force: bool) -> None:
    warn = partial(console.print, style="yellow", markup=False, soft_wrap=True)
    with told(options.notify, sweep, store, warn) as news:
        news.plan = make_plan(sweep, store)
        _show_changes(sweep, store)
        _run_and_show(news.plan, store, options, force)


def _show_changes(sweep: Sweep, store: Store) -> None:
    for line in versions.lines(versions.changes(sweep, store)):
        console.print(line, style="yellow", markup=False, soft_wrap=True)


def _run_and_show(before: Plan, store: Store, options: Options, force: bool) -> None:
    forecast = estimate(before, store)
    show_plan(before, forecast)
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
        _show_outcome(before.refreshed(store), store)
        console.print(f"{stopped}; {CONTINUES}", soft_wrap=True)
        raise typer.Exit(FAILED) from None
    _show_outcome(after, store)
    if after.to_run:
        raise typer.Exit(FAILED)


def _show_outcome(plan: Plan, store: Store) -> None:
    """After a run: the comparison, where the tables are, and what is missing."""
    folder = store.url(plan.sweep.name)
    if plan.counts.done:
        show_means([folder], Query())
        files = ", ".join(f"{name}.parquet" for name in ("trials", "curves", "layers"))
        done = f"{plan.counts.done:,} of {counted(plan.counts.trials, 'trial')} done"
        say(f"{done}; tables in {escape(folder)}: {files}")
    troubles(plan, store)
