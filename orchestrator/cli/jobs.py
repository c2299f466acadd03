"""The verbs for sweeps as jobs of a Ray cluster."""

from __future__ import annotations

import signal
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import typer

from prunesweep.orchestrator.cli.attempts import show_attempts
from prunesweep.orchestrator.cli.options import (
    STORE,
    AutoscalingOption,
    DashboardOption,
    DeviceOption,
    FollowOption,
    ForceOption,
    JobName,
    JsonOption,
    LoadersOption,
    MaxConcurrentOption,
    MaxFailuresOption,
    NotifyOption,
    OptionalDashboardOption,
    SameCodeOption,
    SharedDataOption,
    SharedStoreOption,
    StallLimitOption,
    StoreOption,
    SweepFile,
    TrialArgument,
)
from prunesweep.orchestrator.cli.printing import as_json, show
from prunesweep.orchestrator.lookup import load_sweep, sweep_name
from prunesweep.orchestrator.run.driver import Options
from prunesweep.orchestrator.run.stopping import GRACE_SECONDS, INTERRUPTED
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location

if TYPE_CHECKING:
    from prunesweep.orchestrator.jobs.dashboard import Dashboard, Job


def submit(
    sweep: SweepFile,
    address: DashboardOption,
    store: SharedStoreOption,
    data_dir: SharedDataOption = "data",
    device: DeviceOption = "auto",
    loaders: LoadersOption = 0,
    max_failures: MaxFailuresOption = None,
    stall_limit: StallLimitOption = None,
    max_concurrent: MaxConcurrentOption = None,
    autoscaling: AutoscalingOption = False,
    force: ForceOption = False,
    notify: NotifyOption = None,
    follow: FollowOption = False,
    same_code: SameCodeOption = False,
) -> None:
    """Run a sweep as a job on a Ray cluster, without a terminal; submitted again while it runs, it is the same job."""
    read = load_sweep(sweep)
    head = Location("auto")
    options = Options(head, data_dir, device, loaders, max_failures, max_concurrent, autoscaling, notify, stall_limit)
    from prunesweep.orchestrator.jobs import dashboard
    from prunesweep.orchestrator.jobs import jobs as cluster_jobs

    cluster = dashboard.connect(address)
    job = cluster_jobs.submit(cluster, read, store, options, force, print, same_code)
    if follow:
        _follow(cluster, job)
    else:
        print(f"its log: prunesweep logs {job.sweep} --follow --address {address}")


def logs(
    name: JobName,
    trial: TrialArgument = None,
    address: OptionalDashboardOption = None,
    store: StoreOption = STORE,
    follow: FollowOption = False,
) -> None:
    """Print tracebacks and last lines of what failed, from the store; with --address what a sweep's job has written."""
    if address is None or trial is not None:
        if follow:
            raise UserError("--follow prints the log of a job on a cluster: give its --address, and no trial")
        show_attempts(name, store, trial)
        return
    from prunesweep.orchestrator.jobs import dashboard

    cluster = dashboard.connect(address)
    job = dashboard.require(cluster, sweep_name(name))
    if follow:
        _follow(cluster, job)
    else:
        show(cluster.get_job_logs(job.id), end="")


def _follow(cluster: Dashboard, job: Job) -> None:
    from prunesweep.orchestrator.jobs import jobs as cluster_jobs

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ended = cluster_jobs.follow(cluster, job, partial(show, end=""))
    except KeyboardInterrupt:
        again = f"prunesweep logs {job.sweep} --follow --address {cluster.place}"
        print(f"\n{job.id} goes on; look in again with: {again}")
        raise typer.Exit(INTERRUPTED) from None
    show(str(ended))
    raise typer.Exit(ended.code)


def cancel(name: JobName, address: DashboardOption) -> None:
    """Stop a sweep's job: its running stages finish an epoch and its checkpoint. Submitted again, it continues."""
    from prunesweep.orchestrator.jobs import dashboard
    from prunesweep.orchestrator.jobs import jobs as cluster_jobs

    cluster = dashboard.connect(address)
    job = dashboard.require(cluster, sweep_name(name))
    if job.active:
        print(f"stopping {job.id}: running stages finish an epoch, which takes {GRACE_SECONDS:.0f} s at the most")
        job = cluster_jobs.cancel(cluster, job)
    show(str(job))


def jobs(address: DashboardOption, as_json_: JsonOption = False) -> None:
    """List the jobs of sweeps on a Ray cluster. How far a sweep is, `status` says, from its store alone."""
    from prunesweep.orchestrator.jobs import dashboard

    all_jobs = dashboard.jobs(dashboard.connect(address))
    if as_json_:
        print(as_json([asdict(job) for job in all_jobs]))
    else:
        show("\n".join(map(str, all_jobs)) or "no sweep has been submitted to this cluster yet")
