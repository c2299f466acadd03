"""The verbs `plan`, `run` and `resume`."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from prunesweep.orchestrator.cli.status import trouble_lines
from prunesweep.orchestrator.lookup import load_sweep, planned_sweep
from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.records import has_changed, leaving, recall
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.run.driver import Options, run_sweep
from prunesweep.orchestrator.run.notify import told
from prunesweep.orchestrator.run.preflight import absent_data
from prunesweep.orchestrator.run.rehearsal import rehearse
from prunesweep.orchestrator.run.stopping import CONTINUES, INTERRUPTED, TooManyFailures
from prunesweep.orchestrator.status.forecast import Bill, as_json, estimate
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.orchestrator.text import counted, size
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location
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
    asked = load_sweep(name, changes) if changes else name
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
    choosing = Choosing(only or (), trial)
    asked = partial(_asked, sweep, opened, str(data_dir), changes or (), same_code)
    if smoke:
        _rehearse(asked(), opened, options, choosing)
    else:
        outcome = _run(asked(), opened, options, force, choosing)
        del asked, opened  # the store knows the files of all stages
        _show(outcome)


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
    outcome = _run(_asked_before(name, opened, str(data_dir), changes or ()), opened, options, force)
    del opened  # as in `run`
    _show(outcome)


def _asked(file: Path, store: Store, data_folder: str, changes: Sequence[str], same_code: bool) -> Sweep:
    versioned = versions.versioned(load_sweep(file, changes), store, data_folder)
    return versions.accept(versioned, store, data_folder) if same_code else versioned


def _asked_before(name: str, store: Store, data_folder: str, changes: Sequence[str]) -> Sweep:
    sweep = planned_sweep(name, store, data_folder)
    if has_changed(sweep):
        file = escape(str(sweep.path))
        say(f"[yellow]{file} has changed since {sweep.name} was run[/]; for what it asks now: prunesweep run {file}")
    if not changes:
        return sweep
    from prunesweep.orchestrator.sweepfile.read import with_resources

    return with_resources(sweep, changes)


@dataclass(frozen=True)
class Outcome:
    """What is shown after a run: where there are results the comparison of them, then these lines.

    That is done when plan and store are no longer in memory: with many trials they take as much as the comparison.
    """

    store: Location
    results: Location | None
    lines: tuple[str, ...]
    failed: bool = False


def _show(outcome: Outcome) -> None:
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # glibc keeps what was freed between small pieces that are still held
    if outcome.results is not None:
        show_means([outcome.results], Query(), outcome.store)
    for line in outcome.lines:
        say(line)
    if outcome.failed:
        raise typer.Exit(FAILED)


def _run(sweep: Sweep, store: Store, options: Options, force: bool, choosing: Choosing = ALL_TRIALS) -> Outcome:
    warn = partial(console.print, style="yellow", markup=False, soft_wrap=True)
    for line in leaving(sweep, store):
        warn(line)
    with told(options.notify, sweep, store, warn) as news:
        news.plan = make_plan(sweep, store)
        _show_changes(sweep, store)
        outcome = _run_plan(news.plan, store, options, force, choosing.trials(news.plan))
        news.failed = outcome.failed
    return outcome


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


def _run_plan(whole: Plan, store: Store, options: Options, force: bool, chosen: Sequence[TrialSpec]) -> Outcome:
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
        outcome = _outcome(before.refreshed(store), store, failed=True)
        return replace(outcome, lines=(*outcome.lines, f"{stopped}; {CONTINUES}"))
    whole_sweep = len(chosen) == len(whole.sweep.trials)
    trials = after.sweep.trials if whole_sweep else chosen
    lacks = any(after.trial_state(trial) != "done" for trial in trials) or (whole_sweep and after.without_winner)
    return _outcome(after, store, failed=bool(lacks))


def _outcome(plan: Plan, store: Store, *, failed: bool) -> Outcome:
    """After a run: where the tables are, and what is missing."""
    name, lines = plan.sweep.name, []
    if plan.counts.done:
        files = ", ".join(f"{table}.parquet" for table in ("trials", "curves", "layers", "classes"))
        done = f"{plan.counts.done:,} of {counted(plan.counts.trials, 'trial')} done"
        lines.append(f"{done}; tables in {escape(str(store.url(name)))}: {files}")
    if not plan.to_run:
        lines.append(f"next: prunesweep compare {name}, prunesweep plot {name}, prunesweep report {name}")
    return Outcome(
        store.location, store.url(name) if plan.counts.done else None, (*lines, *trouble_lines(plan, store)), failed
    )
