"""The one file that knows Ray Tune: its trials are workers, to which a scheduler gives a queue's stages.

The store is the memory of a sweep and Tune only executes: every submission starts a fresh `Tuner.fit` over what the
store lacks, and nothing is ever restored from Tune's own state.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray.tune.registry
from ray import cloudpickle, tune
from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune import Callback, Trainable, TuneConfig, Tuner
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.resources import Resources, request
from prunesweep.orchestrator.run.assignments import Desk
from prunesweep.orchestrator.run.events import Listener, Tick
from prunesweep.orchestrator.run.failures import why_it_died
from prunesweep.orchestrator.run.queue import StageQueue
from prunesweep.orchestrator.run.team import Team, decode_task
from prunesweep.workers.causes import Cause
from prunesweep.workers.errors import ReplicaLost
from prunesweep.workers.host import Where
from prunesweep.workers.store import Store

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


class Hiring(Searcher):
    """Has Tune look for workers while there is something to do."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk

    def suggest(self, trial_id: str) -> Any:
        """A worker to start, None while none is needed, and `FINISHED` when none will be needed any more."""
        self.desk.queue.look()
        share = self.desk.wanted()
        if share is None:
            self.desk.queue.tell(Tick())  # while no worker runs Tune stays here, and its loop does not turn
            return Searcher.FINISHED if self.desk.queue.over else None
        self.desk.ask(trial_id, share)
        return {"share": asdict(share)}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Heard by the scheduler."""

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """One that died is explained to `Reporter.on_trial_error` right afterwards."""
        if not error:
            self.desk.left(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the store remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: every submission starts afresh."""


class Foreman(FIFOScheduler):
    """Gives each worker a stage after the other, and sends away those for whom there is nothing to do."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.desk = desk

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        """Go on, with the same stage or the next, or wait for one."""
        self.desk.heard(trial.trial_id, result)
        if trial.trial_id in self.desk.stages or self.desk.give(trial.trial_id, _process(trial)):
            return TrialScheduler.CONTINUE
        return TrialScheduler.NOOP

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Called at each turn of Tune's loop: idle workers are looked after here."""
        controller, queue = tune_controller._tune_controller, self.desk.queue
        if queue.over:
            controller.request_stop_experiment()
        elif self.desk.idle:
            workers = {trial.trial_id: trial for trial in controller.get_live_trials()}
            for name, since in list(self.desk.idle.items()):
                if self.desk.give(name, _process(workers[name])):
                    controller._schedule_trial_train(workers[name])
                elif queue.offers() or time.monotonic() > since + IDLE_SECONDS:
                    for late in self.desk.surplus():
                        _withdraw(controller, workers[late])
                    controller.stop_trial(workers[name])
        chosen: Trial | None = super().choose_trial_to_run(tune_controller)
        return chosen


def _process(trial: Trial) -> Any:
    return trial.temporary_state.ray_actor


def _withdraw(controller: Any, worker: Trial) -> None:
    """One that has not started; Tune would keep another process for it."""
    controller.stop_trial(worker)
    if worker in controller._staged_trials:
        controller._unstage_trial_with_resources(worker)


class Reporter(Callback):
    """Tells that time passes, that a worker has come, and why one died."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Tune's loop turns, several times a second."""
        self.desk.queue.look()
        self.desk.queue.tell(Tick())

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker has started; it runs next what it is given here."""
        self.desk.arrived(trial.trial_id, _process(trial))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker is gone, or could not be started."""
        self.desk.died(trial.trial_id, *why_it_died(_error(trial)))


def _error(trial: Trial) -> object:
    """What Tune has noted; it hands out errors only from the storage, to which it copies them later, or never."""
    if trial.pickled_error_file:
        return cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    return Path(trial.error_file).read_text() if trial.error_file else ""


class StageTrainable(Trainable):
    """Runs stages one after the other in one process, so that starting Python and torch is paid once per worker.

    torch is imported by the worker process alone; the driver, which imports this class, does without.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """The process has started."""
        self.team = Team(config["share"]["replicas"])
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """It is another worker of the same share from now on."""
        self.stage: Iterator[Progress] = iter(())
        self.patience = 0.0
        self.task: str | None = None
        self.epoch = 0
        return True

    def proceed(self, task: str) -> None:
        """What to run next; whatever is wrong with it comes out as it runs, where someone listens."""
        self.task = task

    def cleanup(self) -> None:
        """This process ends."""
        self.team.dismiss()

    def step(self) -> dict[str, Any]:
        """Run on for about a second, or to the end; raises where one of the stage's other processes is lost.

        Tune then ends this process, and looks for room for all of them anew.
        """
        from prunesweep.workers.claims import Claimed
        from prunesweep.workers.run import StageFailed

        if self.task is not None:
            self._begin(self.task)
        if time.monotonic() < self.patience and self.store.problem() is not None:
            time.sleep(REPORT_SECONDS)
            return {"epoch": self.epoch, "ended": False}
        self.patience = 0.0
        deadline = time.monotonic() + REPORT_SECONDS
        try:
            for progress in self.stage:
                self.epoch = progress.epoch
                if time.monotonic() > deadline:
                    return {"epoch": self.epoch, "ended": False}
        except StageFailed as failure:
            if failure.cause is Cause.KILLED:
                raise ReplicaLost(failure.message) from failure
            logging.getLogger("prunesweep").exception("stage failed")
            return {"ended": True, "cause": str(failure.cause), "message": failure.message}
        except Claimed as claimed:
            logging.getLogger("prunesweep").info("%s", claimed)
            return {"ended": True, "claimed": True}
        return {"ended": True}

    def _begin(self, task: str) -> None:
        stage, self.store, where = decode_task(task)
        self.task, self.epoch = None, 0
        self.patience = time.monotonic() + MOUNT_SECONDS
        self.stage = self.team.run(task, stage, self.store, where)


def execute(
    plan: Plan,
    store: Store,
    where: Where,
    slots: int,
    tell: Listener,
    node: Resources,
    max_concurrent: int | None = None,
    trainable: type[Trainable] = StageTrainable,
) -> None:
    """Run every stage that the store lacks on the cluster that Ray is connected to; returns when nothing is left to do.

    About `slots` stages fit on it, one can have at most what `node` has, and at most `max_concurrent` run at once.
    Failures are told and left in the store; they are not raised. `trainable` is replaced by benchmarks only.
    """
    worker = tune.with_resources(trainable, partial(_resources, loaders=where.loaders))
    settings = {**SETTINGS, "TUNE_MAX_PENDING_TRIALS_PG": str(slots)}
    desk = Desk(StageQueue(plan, store, tell, node, max_concurrent), where)
    with _environment(settings), _quiet(), _mended(), tempfile.TemporaryDirectory(prefix="prunesweep-") as folder:
        Tuner(
            worker,
            tune_config=TuneConfig(search_alg=Hiring(desk), scheduler=Foreman(desk), num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(
                name=plan.sweep.name,
                storage_path=folder,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[Reporter(desk)],
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
def _mended() -> Iterator[None]:
    """Tune without two habits that take a third of the driver's time, and a mistake that ends it.

    For each worker it fetches the trainable from Ray's key-value store five times, three of them to see that it is
    there; and at the end it writes down all trials, for a restoration that nobody asks for. And it stops everything
    when Ray has ended a worker because the machine ran out of memory.
    """
    registry = ray.tune.registry._global_registry
    failed = RayActorManager._actor_task_failed

    def task_failed(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        foreseen = isinstance(exception, RayActorError | RayTaskError) or not isinstance(exception, RayError)
        failed(self, tracked_actor_task, exception if foreseen else RayActorError(error_msg=str(exception)))

    with (
        _replaced(registry, "get", cache(registry.get)),
        _replaced(registry, "contains", cache(registry.contains)),
        _replaced(TuneController, "_get_trial_checkpoints", lambda self: {}),
        _replaced(RayActorManager, "_actor_task_failed", task_failed),
    ):
        yield


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


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
