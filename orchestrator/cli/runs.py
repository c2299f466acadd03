"""The verbs `plan`, `run` and `resume`."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import typer
from rich.markup import escape

from prunesweep.orchestrator import versions
from prunesweep.orchestrator.cli.averages import short_averages
from prunesweep.orchestrator.cli.choosing import ALL_TRIALS, Choosing
from prunesweep.orchestrator.cli.exit_codes import FAILED
from prunesweep.orchestrator.cli.options import (
    STORE,
    AddressOption,
    AllowOption,
    AutoscalingOption,
    ChangesOption,
    DataOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    LoadersOption,
    MaxConcurrentOption,
    MaxFailuresOption,
    NotifyOption,
    OnlyOption,
    PriceOption,
    ResourceChangesOption,
    SameCodeOption,
    SmokeOption,
    StallLimitOption,
    StoreOption,
    SweepFile,
    SweepName,
    TrialKeyOption,
    WattsOption,
)
from prunesweep.orchestrator.cli.plans import show_plan
from prunesweep.orchestrator.cli.printing import console, say
from prunesweep.orchestrator.cli.rehearsals import show_rehearsed
from prunesweep.orchestrator.cli.results import show_means
from prunesweep.orchestrator.cli.status import troubles
from prunesweep.orchestrator.lookup import planned_sweep
from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.records import has_changed, leaving, recall
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.run.driver import Options, run_sweep
from prunesweep.orchestrator.run.notify import told
from prunesweep.orchestrator.run.preflight import absent_data
from prunesweep.orchestrator.run.rehearsal import rehearse
from prunesweep.orchestrator.run.stopping import CONTINUES, INTERRUPTED, TooManyFailures
from prunesweep.orchestrator.status.forecast import Bill, as_json, estimate
from prunesweep.orchestrator.sweepfile.read import Sweep, read_sweep, with_resources
from prunesweep.orchestrator.text import counted, size
from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import TrialSpec
from prunesweep.workers.store import Store


def plan(
    name: SweepName,
    store: StoreOption = STORE,
    data_dir: DataOption = Path("data"),
    changes: ChangesOption = None,
    watts: WattsOption = None,
    price: PriceOption = None,
    as_json_: JsonOption = False,
) -> None:
    """Show what a sweep would run: trials, shared stages, what is done, time and disk. Starts nothing."""
    opened = Store(store)
    asked = read_sweep(Path(name), changes) if changes else name
    plan_ = make_plan(planned_sweep(asked, opened, str(data_dir)), opened)
    forecast = estimate(plan_, opened)
    bill = Bill(forecast.gpu_seconds / 3600, watts, price) if forecast else None
    if as_json_:
        print(as_json(plan_, forecast, versions.changes(plan_.sweep, opened), bill))
    else:
        show_plan(plan_, forecast)
        if bill and (bill.gpu_hours or watts is not None or price is not None):
            say(f"  gpus      {bill}")
        _warn(plan_, str(data_dir))
        for problem in absent_data(plan_.question.exemplars, str(data_dir)):
            say(f"  [yellow]data[/]      {escape(problem)}")
        _show_changes(plan_.sweep, opened)


def run(
    sweep: SweepFile,
    store: StoreOption = STORE,
    data_dir: DataOption = Path("data"),
    device: DeviceOption = "auto",
    loaders: LoadersOption = 0,
    address: AddressOption = None,
    max_failures: MaxFailuresOption = None,
    stall_limit: StallLimitOption = None,
    max_concurrent: MaxConcurrentOption = None,
    autoscaling: AutoscalingOption = False,
    notify: NotifyOption = None,
    force: ForceOption = False,
    only: OnlyOption = None,
    trial: TrialKeyOption = None,
    changes: ChangesOption = None,
    same_code: SameCodeOption = False,
    smoke: SmokeOption = False,
) -> None:
    """Run what the store lacks of a sweep, then show the comparison. Run it again to resume, retry or extend."""
    options = Options(
        address, str(data_dir), device, loaders, max_failures, max_concurrent, autoscaling, notify, stall_limit
    )
    opened = Store(store)
    if not sweep.exists() and recall(str(sweep), opened) is not None:
        raise UserError(f"{sweep}: no such file; the store has a sweep of that name: prunesweep resume {sweep}")
    versioned = versions.versioned(read_sweep(sweep, changes or ()), opened, str(data_dir))
    if same_code:
        versioned = versions.accept(versioned, opened, str(data_dir))
    if smoke:
        _rehearse(versioned, opened, options, Choosing(only or (), trial))
        return
    _run(versioned, opened, options, force, Choosing(only or (), trial))


def resume(
    name: SweepName,
    store: StoreOption = STORE,
    data_dir: DataOption = Path("data"),
    device: DeviceOption = "auto",
    loaders: LoadersOption = 0,
    address: AddressOption = None,
    max_failures: MaxFailuresOption = None,
    stall_limit: StallLimitOption = None,
    max_concurrent: MaxConcurrentOption = None,
    autoscaling: AutoscalingOption = False,
    notify: NotifyOption = None,
    force: ForceOption = False,
    allow: AllowOption = None,
    changes: ResourceChangesOption = None,
) -> None:
    """Run what is missing or failed of a sweep. With a sweep's name: of the trials that were last run under it."""
    options = Options(
        address,
        str(data_dir),
        device,
        loaders,
        max_failures,
        max_concurrent,
        autoscaling,
        notify,
        stall_limit,
        allow or (),
    )
    opened = Store(store)
    sweep = planned_sweep(name, opened, str(data_dir))
    if has_changed(sweep):
        file = escape(str(sweep.path))
        say(f"[yellow]{file} has changed since {sweep.name} was run[/]; for what it asks now: prunesweep run {file}")
    _run(with_resources(sweep, changes) if changes else sweep, opened, options, force)


def _run(sweep: Sweep, store: Store, options: Options, force: bool, choosing: Choosing = ALL_TRIALS) -> None:
    warn = partial(console.print, style="yellow", markup=False, soft_wrap=True)
    for line in leaving(sweep, store):
        warn(line)
    with told(options.notify, sweep, store, warn) as news:
        news.plan = make_plan(sweep, store)
        _show_changes(sweep, store)
        _run_and_show(news.plan, store, options, force, choosing.trials(news.plan))


def _rehearse(sweep: Sweep, store: Store, options: Options, choosing: Choosing) -> None:
    plan = make_plan(sweep, store)
    _show_changes(sweep, store)
    trials = choosing.trials(plan)
    if all(plan.trial_state(trial) == "done" for trial in trials) and not (plan.sweep.searches and plan.to_run):
        say("nothing to rehearse: all trials are done")
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # its store is removed, also when nothing has begun
    try:
        rehearsed = rehearse(plan, trials, store, options, console)
    except KeyboardInterrupt:
        say("interrupted: nothing of the rehearsal is kept")
        raise typer.Exit(INTERRUPTED) from None
    show_rehearsed(rehearsed)
    if not rehearsed.works:
        raise typer.Exit(FAILED)


def _warn(plan: Plan, data_folder: str) -> None:
    for line in short_averages(plan, data_folder):
        say(f"  [yellow]average[/]   {escape(line)}")


def _show_changes(sweep: Sweep, store: Store) -> None:
    for line in versions.lines(versions.changes(sweep, store)):
        console.print(line, style="yellow", markup=False, soft_wrap=True)


def _run_and_show(whole: Plan, store: Store, options: Options, force: bool, chosen: Sequence[TrialSpec]) -> None:
    forecast = estimate(whole, store)
    show_plan(whole, forecast)
    _warn(whole, options.data_folder)
    before = whole.narrowed(chosen)
    if len(chosen) < len(whole.sweep.trials):
        say(f"  only      {counted(len(chosen), 'trial')}, {counted(len(before.runnable), 'stage')} to run")
    elif forecast and not forecast.fits and not force:
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
    whole_sweep = len(chosen) == len(whole.sweep.trials)
    trials = after.sweep.trials if whole_sweep else chosen
    if any(after.trial_state(trial) != "done" for trial in trials) or (whole_sweep and after.without_winner):
        raise typer.Exit(FAILED)


def _show_outcome(plan: Plan, store: Store) -> None:
    """After a run: the comparison, where the tables are, and what is missing."""
    folder = store.url(plan.sweep.name)
    if plan.counts.done:
        show_means([folder], Query(), store.location)
        files = ", ".join(f"{name}.parquet" for name in ("trials", "curves", "layers", "classes"))
        done = f"{plan.counts.done:,} of {counted(plan.counts.trials, 'trial')} done"
        say(f"{done}; tables in {escape(str(folder))}: {files}")
    if not plan.to_run:
        name = plan.sweep.name
        say(f"next: prunesweep compare {name}, prunesweep plot {name}, prunesweep report {name}")
    troubles(plan, store)
