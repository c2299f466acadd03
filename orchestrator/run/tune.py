"""What knows Ray Tune: its trials are workers, to which a scheduler gives a queue's stages.

The store is the memory of a sweep and Tune only executes: every submission starts a fresh `Tuner.fit` over what the
store lacks, and nothing is ever restored from Tune's own state.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune import Callback, Trainable, TuneConfig, Tuner
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from prunesweep.orchestrator.resources import Resources, request
from prunesweep.orchestrator.run.assignments import Assignments
from prunesweep.orchestrator.run.events import Tick
from prunesweep.orchestrator.run.failures import why_it_died
from prunesweep.orchestrator.run.queue import StageQueue
from prunesweep.orchestrator.run.ray_internals import (
    controller_of,
    error_of,
    mended_tune,
    process_of,
    train_on,
    withdraw,
)
from prunesweep.orchestrator.run.sessions import end_with_parent
from prunesweep.orchestrator.run.team import Team, decode_task
from prunesweep.workers.causes import Cause
from prunesweep.workers.errors import ReplicaLost
from prunesweep.workers.host import Where

if TYPE_CHECKING:
    from prunesweep.workers.checkpoint import Progress

REPORT_SECONDS = 1.0
"""A stage reports to the driver about this often: an epoch of a small network is cheaper than a report."""

IDLE_SECONDS = 30.0
"""A worker that has nothing to do is kept so long, where nobody else needs its place."""

MOUNT_SECONDS = 30.0
"""A node that has just joined may not have mounted the store yet; one that never will must not use up the stages."""

SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
"""Tune writes nothing that the store holds already, and leaves Ctrl-C to us."""


class WorkerRequests(Searcher):
    """Has Tune start workers while stages are ready that nobody takes."""

    def __init__(self, assignments: Assignments) -> None:
        super().__init__()
        self.assignments = assignments

    def suggest(self, trial_id: str) -> Any:
        """A worker to start, None while none is needed, and `FINISHED` when none will be needed any more."""
        queue = self.assignments.queue
        queue.look()
        share = self.assignments.share_wanted()
        if share is None:
            queue.tell(Tick())  # while no worker runs Tune stays here, and its loop does not turn
            return Searcher.FINISHED if queue.over else None
        self.assignments.request(trial_id, share)
        return {"share": asdict(share)}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """The scheduler takes the report."""

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """A worker that died is explained to `WorkerEvents.on_trial_error` right afterwards."""
        if not error:
            self.assignments.dismissed(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the store remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: every submission starts afresh."""


class StageScheduler(FIFOScheduler):
    """Gives each worker a stage after the other, and ends workers for which there is nothing to do."""

    def __init__(self, assignments: Assignments) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.assignments = assignments

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        """Go on, with the same stage or the next, or wait for one."""
        worker = trial.trial_id
        self.assignments.report(worker, result)
        if self.assignments.is_busy(worker) or self.assignments.assign_next(worker, process_of(trial)):
            return TrialScheduler.CONTINUE
        return TrialScheduler.NOOP

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Called at each turn of Tune's loop: idle workers are looked after here."""
        controller = controller_of(tune_controller)
        if self.assignments.queue.over:
            controller.request_stop_experiment()
        elif idle := self.assignments.idle_since():
            trials = {trial.trial_id: trial for trial in controller.get_live_trials()}
            for worker, since in idle.items():
                self._look_after(worker, since, trials, controller)
        chosen: Trial | None = super().choose_trial_to_run(tune_controller)
        return chosen

    def _look_after(self, worker: str, since: float, trials: Mapping[str, Trial], controller: Any) -> None:
        """Give an idle worker a stage, or end it when others need its place or it has been idle for long."""
        if self.assignments.assign_next(worker, process_of(trials[worker])):
            train_on(controller, trials[worker])
        elif self.assignments.queue.offers() or time.monotonic() > since + IDLE_SECONDS:
            for unneeded in self.assignments.unneeded_requests():
                withdraw(controller, trials[unneeded])
            controller.stop_trial(trials[worker])


class WorkerEvents(Callback):
    """Passes on that time passes, that a worker has started, and why one died."""

    def __init__(self, assignments: Assignments) -> None:
        self.assignments = assignments

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Tune's loop turns, several times a second."""
        self.assignments.queue.look()
        self.assignments.queue.tell(Tick())

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker has started; it runs next what it is given here."""
        self.assignments.started(trial.trial_id, process_of(trial))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker is gone, or could not be started."""
        self.assignments.died(trial.trial_id, *why_it_died(error_of(trial)))


class StageTrainable(Trainable):
    """Runs stages one after the other in one process, so that starting Python and torch is paid once per worker.

    torch is imported by the worker process alone; the driver, which imports this class, does without.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """The process has started."""
        end_with_parent()
        self.team = Team(config["share"]["replicas"])
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """It is another worker of the same share from now on."""
        self.stage: Iterator[Progress] = iter(())
        self.mounted_by = 0.0
        self.task: str | None = None
        self.began: int | None = None
        self.epoch = 0
        self.metric: float | None = None
        return True

    def proceed(self, task: str) -> None:
        """What to run next; whatever is wrong with it comes out as it runs, where someone listens."""
        self.task = task

    def cleanup(self) -> None:
        """This process ends."""
        self.team.dismiss()

    def step(self) -> dict[str, Any]:
        """Run on for about a second, or to the end; raises where one of the stage's other processes is lost.

        Tune then ends this process, and looks for room for all of them anew. `began` is None before the first epoch.
        """
        if self.task is not None:
            self._begin(self.task)
        if time.monotonic() < self.mounted_by and self.store.problem() is not None:
            time.sleep(REPORT_SECONDS)
            return self._report(ended=False)
        self.mounted_by = 0.0
        return self._run_on()

    def _run_on(self) -> dict[str, Any]:
        from prunesweep.workers.claims import Claimed
        from prunesweep.workers.run import StageFailed

        deadline = time.monotonic() + REPORT_SECONDS
        try:
            for progress in self.stage:
                self.began = progress.epoch - 1 if self.began is None else self.began
                self.epoch = progress.epoch
                self.metric = _validation(progress.curve)
                if time.monotonic() > deadline:
                    return self._report(ended=False)
        except StageFailed as failure:
            if failure.cause is Cause.KILLED:
                raise ReplicaLost(failure.message) from failure
            logging.getLogger("prunesweep").exception("stage failed")
            return self._report(ended=True, cause=str(failure.cause), message=failure.message)
        except Claimed as claimed:
            logging.getLogger("prunesweep").info("%s", claimed)
            return self._report(ended=True, claimed=True)
        return self._report(ended=True)

    def _report(
        self, *, ended: bool, cause: str | None = None, message: str | None = None, claimed: bool = False
    ) -> dict[str, Any]:
        """For `Assignments.report`."""
        how = {"ended": ended, "cause": cause, "message": message, "claimed": claimed}
        return {"began": self.began, "epoch": self.epoch, "metric": self.metric, **how}

    def _begin(self, task: str) -> None:
        stage, self.store, where = decode_task(task)
        self.task, self.began, self.epoch, self.metric = None, None, 0, None
        self.mounted_by = time.monotonic() + MOUNT_SECONDS
        self.stage = self.team.run(task, stage, self.store, where)


def _validation(curve: Sequence[Mapping[str, Any]]) -> float | None:
    """The primary metric on validation images after the last epoch so far."""
    from prunesweep.workers.activity import validation_column

    return curve[-1][validation_column(curve[-1])] if curve else None


def execute(queue: StageQueue, where: Where, slots: int, trainable: type[Trainable] = StageTrainable) -> None:
    """Run every stage of a queue on the cluster that Ray is connected to; returns when nothing is left to do.

    About `slots` stages fit on it. Failures are told and left in the store; they are not raised. `trainable` is
    replaced by benchmarks only.
    """
    worker = tune.with_resources(trainable, partial(_resources, loaders=where.loaders))
    assignments = Assignments(queue, where)
    settings = {**SETTINGS, "TUNE_MAX_PENDING_TRIALS_PG": str(slots)}
    own_folder = tempfile.TemporaryDirectory(prefix="prunesweep-", ignore_cleanup_errors=True)  # workers may yet write
    with _environment(settings), _quiet(), mended_tune(), own_folder as folder:
        Tuner(
            worker,
            tune_config=TuneConfig(
                search_alg=WorkerRequests(assignments),
                scheduler=StageScheduler(assignments),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=queue.plan.sweep.name,
                storage_path=folder,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[WorkerEvents(assignments)],
                verbose=0,
            ),
        ).fit()


def _resources(config: Mapping[str, Any], loaders: int) -> tune.PlacementGroupFactory:
    share = Resources(**config["share"])
    return tune.PlacementGroupFactory([request(share, loaders)] * share.replicas)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _quiet() -> Iterator[None]:
    """Tune would complain, stage by stage, that there are no result files of its own."""
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
