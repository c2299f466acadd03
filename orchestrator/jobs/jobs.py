"""A sweep as a job of a Ray cluster, which needs no terminal: submit it, read its log, end it.

The job is `prunesweep run` on the cluster's head, in a snapshot of the user's code.
"""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from prunesweep.orchestrator.jobs import dashboard, snapshot
from prunesweep.orchestrator.jobs.dashboard import PREFIX, Dashboard, Job, RequestRefused, Unreachable, jobs, require
from prunesweep.orchestrator.provenance import COMMIT, provenance
from prunesweep.orchestrator.resources import distinct, fitting
from prunesweep.orchestrator.run.driver import Options
from prunesweep.orchestrator.run.stopping import GRACE_SECONDS
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.orchestrator.text import counted, size
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location

STOP_SECONDS = GRACE_SECONDS + 35
"""Ray kills a job that is still there so long after SIGTERM; unless it is told, after 3 seconds."""

NOTIFY, STORE = "PRUNESWEEP_NOTIFY", "PRUNESWEEP_STORE"
"""Who knows the URL of a web hook can write there, and a store's may hold credentials: a job has both in its
environment, not in its command."""

LOG_CHARACTERS = 1_000_000
"""A log comes whole each time: one so long is read a second less often."""

AWAY_SECONDS = 120.0
"""So long `follow` goes on asking a cluster that does not answer."""


def submit(
    cluster: Dashboard,
    sweep: Sweep,
    store: Location,
    options: Options,
    force: bool,
    say: Callable[[str], None],
    same_code: bool = False,
) -> Job:
    """Start a job for a sweep, or find the one that does so already; raises `UserError` if that does otherwise."""
    # A head that has just started lists no nodes yet; the job looks again.
    if not options.autoscaling and (nodes := dashboard.nodes(cluster)):
        for share in distinct(map(sweep.resources.of, sweep.exemplars)):
            fitting(share, options.loaders, nodes)
    folder, file = snapshot.place(sweep.path)
    place, hook = shared("--store", store).reveal(), options.notify.reveal() if options.notify else ""
    entrypoint = shlex.join(_command(file, options, force, same_code))
    asked = "\n".join([entrypoint, sweep.text, place, hook])
    request = hashlib.sha256(asked.encode()).hexdigest()[:20]
    before = [job for job in jobs(cluster) if job.sweep == sweep.name]
    if before and before[-1].active:
        return _attached(before[-1], request, say)
    name = f"{PREFIX}{sweep.name}-{before[-1].attempt + 1 if before else 1}"
    commit = provenance(folder).commit
    told = {"RAY_JOB_STOP_WAIT_TIME_S": f"{STOP_SECONDS:.0f}", COMMIT: commit, NOTIFY: hook, STORE: place}
    with TemporaryDirectory() as made:
        archive = Path(made) / "snapshot.zip"
        files = snapshot.pack(folder, file, archive, weights_beside(sweep))
        say(f"{folder}: {counted(files, 'file')}, {size(archive.stat().st_size)} packed")
        try:
            cluster.submit_job(
                entrypoint=f"exec {entrypoint}",  # no shell between the signal and the run
                submission_id=name,
                metadata={"store": str(store), "request": request},
                runtime_env={"working_dir": str(archive), "env_vars": {k: v for k, v in told.items() if v}},
            )
        except RequestRefused as refused:
            if "already exists" not in str(refused):
                raise
            return _attached(require(cluster, name), request, say)  # of another who was quicker
    say(f"{name} is submitted")
    return require(cluster, name)


def weights_beside(sweep: Sweep) -> list[Path]:
    """The files with weights that a sweep file names by their path from it, and not by the whole one."""
    if sweep.path.suffix == ".py":  # names them as it likes
        return []
    asked = [trial.init.given for trial in sweep.exemplars if trial.init is not None]
    paths = dict.fromkeys(given["path"] for given in asked if given and "path" in given)
    return [Path(path) for path in paths if path not in sweep.text]


def _command(file: Path, options: Options, force: bool, same_code: bool) -> Iterator[str]:
    yield from ("prunesweep", "run", f"./{file.as_posix()}", "--address", "auto")
    if options.data_folder != Options.data_folder:
        yield from ("--data-dir", str(shared("--data-dir", Location(options.data_folder))))
    if options.device != Options.device:
        yield from ("--device", options.device)
    if options.loaders:
        yield from ("--loaders", str(options.loaders))
    if options.max_failures is not None:
        yield from ("--max-failures", str(options.max_failures))
    if options.stall_limit is not None:
        yield from ("--stall-limit", str(options.stall_limit))
    if options.max_concurrent is not None:
        yield from ("--max-concurrent", str(options.max_concurrent))
    if options.autoscaling:
        yield "--autoscaling"
    if force:
        yield "--force"
    if same_code:
        yield "--same-code"


def shared(option: str, place: Location) -> Location:
    """A place that means the same on every node; raises `UserError` for a relative one."""
    if not place.is_url and not Path(place).is_absolute():
        raise UserError(
            f"{option} {place} is relative, and a job runs on other machines, in a copy of this folder that is deleted "
            f"afterwards: name a place that all nodes see, such as /nfs/{Path(place).name} or s3://bucket/prefix"
        )
    return place


def _attached(job: Job, request: str, say: Callable[[str], None]) -> Job:
    if job.request != request:
        raise UserError(
            f"{job.id} is {job.state}, of the same name with another sweep file, store or options: wait for its end, "
            f"or end it with: prunesweep cancel {job.sweep}"
        )
    say(f"{job.id} is {job.state} already; nothing more is submitted")
    return job


def follow(cluster: Dashboard, job: Job, write: Callable[[str], None]) -> Job:
    """Hand on the log of a job as it grows, until the job has ended; raises `UserError` when the cluster is gone."""
    shown, heard = 0, time.monotonic()
    while True:
        try:
            job = require(cluster, job.id)  # before its log: what it wrote last is in there
            log = cluster.get_job_logs(job.id)
        except (Unreachable, RequestRefused):  # it may pass
            if time.monotonic() - heard > AWAY_SECONDS:
                raise
        else:
            write(log[shown:])
            shown, heard = len(log), time.monotonic()
            if not job.active:
                return job
        time.sleep(1 + shown / LOG_CHARACTERS)


def cancel(cluster: Dashboard, job: Job) -> Job:
    """Ask a job to stop, and wait until it has: its running stages finish an epoch and its checkpoint."""
    cluster.stop_job(job.id)
    deadline = time.monotonic() + STOP_SECONDS + 10
    while job.active and time.monotonic() < deadline:
        time.sleep(0.5)
        job = require(cluster, job.id)
    return job
