"""The one file that knows Ray Tune: a searcher that hands out a queue's stages, a trainable that runs one.

The store is the memory of a sweep and Tune only executes: every submission starts a fresh `Tuner.fit` over what the
store lacks, and nothing is ever restored from Tune's own state.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import ray.tune.registry
from ray import cloudpickle, tune
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError
from ray.tune import Callback, Trainable, TuneConfig, Tuner
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from orchestrator.events import Listener, Started, Tick
from orchestrator.plan import Plan
from orchestrator.queue import Ended, StageQueue
from orchestrator.replicas import Team, decode_task
from orchestrator.resources import Resources, request
from workers.causes import Cause
from workers.errors import ReplicaLost
from workers.host import Where
from workers.spec import Stage, encode
from workers.store import Store

REPORT_SECONDS = 1.0
"""A stage reports to the driver about this often: an epoch of a small network is cheaper than a report."""

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


class ReadyStages(Searcher):
    """Hands Tune the stages of a queue; a Tune trial is one try at a stage."""

    def __init__(self, queue: StageQueue, where: Where) -> None:
        super().__init__()
        self.queue, self.where = queue, where
        self.stages: dict[str, str] = {}

    def suggest(self, trial_id: str) -> Any:
        """A stage to run, None while none is ready, and `FINISHED` when none can become ready any more."""
        self.queue.look()
        key = self.queue.take()
        if key is None:
            self.queue.tell(Tick())  # while no stage runs Tune stays here, and its loop does not turn
            return Searcher.FINISHED if self.queue.over else None
        self.stages[trial_id] = key
        return {"task": self._task(key), "share": asdict(self.queue.share(key))}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """A report from a running stage."""
        self.queue.progressed(self.stages[trial_id], result["epoch"])

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """The worker has ended the stage; one that died is explained to `Reporter.on_trial_error` right afterwards."""
        if not error:
            said = result or {}
            self.queue.ended(
                self.stages.pop(trial_id),
                Ended(said.get("cause"), said.get("message"), claimed=bool(said.get("claimed"))),
            )

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the store remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: every submission starts afresh."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def _task(self, key: str) -> str:
        gone = (self.queue.gone[key],) if key in self.queue.gone else ()
        where = _at_home(self.where, self.queue.plan.shares[key])
        where = replace(where, gone=gone, gpu_share=self.queue.share(key).gpus)
        return task(self.queue.stages[key], self.queue.store, where)


class Unhurried(FIFOScheduler):
    """In the order of the queue, but a stage whose own worker is starting is left alone.

    Tune gives a worker that has become free to the first stage that waits, even where another is being started for it,
    and ends that one. With short stages, or many slots, no new worker would ever come up after the death of one.
    """

    def __init__(self, stages: ReadyStages) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stages = stages

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The first that waits and has no worker; one that has will run by itself."""
        controller = tune_controller._tune_controller
        live: dict[str, Trial] = {trial.trial_id: trial for trial in tune_controller.get_live_trials()}
        for name in self.stages.stages:
            trial = live.get(name)
            if trial is not None and trial.status == Trial.PENDING:
                worker = controller._trial_to_actor.get(trial)
                if worker is None or not controller._actor_manager.is_actor_started(worker):
                    return trial
        return None


class Reporter(Callback):
    """Tells that time passes, why a worker died, and when a stage really starts: Tune takes more than it has slots."""

    def __init__(self, stages: ReadyStages) -> None:
        self.stages = stages

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Tune's loop turns, several times a second."""
        self.stages.queue.look()
        self.stages.queue.tell(Tick())

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker has the stage now."""
        self.stages.queue.tell(Started(self.stages.stages[trial.trial_id]))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The worker of a stage is gone, or could not be started."""
        cause, message = why_it_died(_error(trial))
        self.stages.queue.ended(self.stages.stages.pop(trial.trial_id), Ended(cause, message, died=True))


def _error(trial: Trial) -> object:
    """What Tune has noted; it hands out errors only from the storage, to which it copies them later, or never."""
    if trial.pickled_error_file:
        return cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    return Path(trial.error_file).read_text() if trial.error_file else ""


def why_it_died(error: object) -> tuple[Cause, str]:
    """Ray's reason for the end of a worker, as a cause; by its words where the type says nothing."""
    words = str(error)
    if isinstance(error, OutOfMemoryError) or "running low on memory" in words:
        return Cause.HOST_MEMORY, "Ray ended it because the machine ran out of memory"
    if isinstance(error, NodeDiedError) or getattr(error, "preempted", False) or "node has died" in words:
        return Cause.NODE_LOST, "the machine that ran it was lost"
    if ReplicaLost.__name__ in words:
        return Cause.KILLED, "the process of one of its replicas was killed, or crashed"
    if isinstance(error, RayActorError) and not error.actor_init_failed:
        return Cause.KILLED, "its process was killed, or crashed"
    return Cause.INTERNAL, words


class StageTrainable(Trainable):
    """Runs stages one after the other in one process, so that starting Python and torch is paid once per slot.

    torch is imported by the worker process alone; the driver, which imports this class, does without.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """The first stage of this process."""
        self.team = Team(config["share"]["replicas"])
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next stage of this process."""
        self.epoch = 0
        stage, self.store, where = decode_task(new_config["task"])
        self.patience = time.monotonic() + MOUNT_SECONDS
        self.stage = self.team.run(new_config["task"], stage, self.store, where)
        return True

    def cleanup(self) -> None:
        """This process ends."""
        self.team.dismiss()

    def step(self) -> dict[str, Any]:
        """Run on for about a second, or to the end; raises where one of the stage's other processes is lost.

        Tune then ends this process, and looks for room for all of them anew.
        """
        from workers.claims import Claimed
        from workers.run import StageFailed

        if time.monotonic() < self.patience and self.store.problem() is not None:
            time.sleep(REPORT_SECONDS)
            return {"epoch": self.epoch, "done": False}
        self.patience = 0.0
        deadline = time.monotonic() + REPORT_SECONDS
        try:
            for progress in self.stage:
                self.epoch = progress.epoch
                if time.monotonic() > deadline:
                    return {"epoch": self.epoch, "done": False}
        except StageFailed as failure:
            if failure.cause is Cause.KILLED:
                raise ReplicaLost(failure.message) from failure
            logging.getLogger("prunesweep").exception("stage failed")
            return {**self._end(), "cause": str(failure.cause), "message": failure.message}
        except Claimed as claimed:
            logging.getLogger("prunesweep").info("%s", claimed)
            return {**self._end(), "claimed": True}
        return self._end()

    def _end(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "done": True}


def task(stage: Stage, store: Store, where: Where) -> str:
    """What a worker is told, as text, so that Tune has nothing to walk through."""
    return json.dumps({"stage": encode(stage), "store": store.location, "where": asdict(where)})


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
    stages = ReadyStages(StageQueue(plan, store, tell, node, max_concurrent), where)
    with _environment(settings), _quiet(), _light(), tempfile.TemporaryDirectory(prefix="prunesweep-") as folder:
        Tuner(
            worker,
            tune_config=TuneConfig(search_alg=stages, scheduler=Unhurried(stages), num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(
                name=plan.sweep.name,
                storage_path=folder,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[Reporter(stages)],
                verbose=0,
            ),
        ).fit()


def _at_home(where: Where, resources: Resources) -> Where:
    """As many threads as the sweep gives cores, also where a retry has more: the last bits depend on them.

    `auto` is a GPU only where the trial was given one: Ray may leave others visible.
    """
    auto = "cuda" if resources.gpus else "cpu"
    device = auto if where.device == "auto" else where.device
    return replace(where, threads=max(1, int(resources.cpus)), device=device)


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
def _light() -> Iterator[None]:
    """Without two habits of Tune that take a third of the driver's time.

    For each stage it fetches the trainable from Ray's key-value store five times, three of them to see that it is
    there; and at the end it writes down all trials, for a restoration that nobody asks for.
    """
    registry = ray.tune.registry._global_registry
    with (
        _replaced(registry, "get", cache(registry.get)),
        _replaced(registry, "contains", cache(registry.contains)),
        _replaced(TuneController, "_get_trial_checkpoints", lambda self: {}),
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
