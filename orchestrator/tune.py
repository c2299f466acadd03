"""The one file that knows Ray Tune: a searcher that hands out stages which are ready, a trainable that runs one.

The store is the memory of a sweep and Tune only executes: every submission starts a fresh `Tuner.fit` over what the
store lacks, and nothing is ever restored from Tune's own state.
"""

from __future__ import annotations

import heapq
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from ray import tune
from ray.tune import Callback, Trainable, TuneConfig, Tuner
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from orchestrator.cluster import request
from orchestrator.events import Blocked, Failed, Finished, Listener, Progressed, Started, Tick
from orchestrator.plan import Plan
from orchestrator.sweep import Resources
from workers.host import Where
from workers.spec import Stage, decode_stage, encode
from workers.store import Store

REPORT_SECONDS = 1.0
"""A stage reports to the driver about this often: an epoch of a small network is cheaper than a report."""

RETRIES = 2
"""A worker that dies (killed, node lost) is started again so many times; errors of the stage itself are not retried."""

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
    """Hands out stages whose parent is done, those with the longest chain still before them first."""

    def __init__(self, plan: Plan, store: Store, where: Where, tell: Listener) -> None:
        super().__init__()
        self.store, self.where, self.tell = store, where, tell
        self.stages = dict(plan.to_run)
        self.children: dict[str, list[str]] = {key: [] for key in self.stages}
        for key, stage in self.stages.items():
            if stage.parent is not None and stage.parent.key in self.stages:
                self.children[stage.parent.key].append(key)
        self.remaining = _chain_lengths(self.stages, self.children)
        self.order = {key: number for number, key in enumerate(self.stages)}
        self.ready: list[tuple[int, int, str]] = []
        self.running: dict[str, str] = {}
        for key, stage in self.stages.items():
            if stage.parent is None or stage.parent.key not in self.stages:
                self._release(key)

    def suggest(self, trial_id: str) -> Any:
        """A stage to run, None while none is ready, and `FINISHED` when none can become ready any more."""
        if not self.ready:
            return None if self.running else Searcher.FINISHED
        key = heapq.heappop(self.ready)[2]
        self.running[trial_id] = key
        return {"task": task(self.stages[key], self.store, self.where)}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """A report from a running stage."""
        self.tell(Progressed(self.running[trial_id], result["epoch"]))

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Release the children if the result is really in the store; else the whole subtree is blocked."""
        key = self.running.pop(trial_id)
        if key in self.store.done([key]):
            self.tell(Finished(key))
            for child in self.children[key]:
                self._release(child)
            return
        self.tell(Failed(key, *_reason(self.store, key, died=error)))
        for descendant in self._descendants(key):
            self.tell(Blocked(descendant, key))

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the store remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: every submission starts afresh."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def _release(self, key: str) -> None:
        heapq.heappush(self.ready, (-self.remaining[key], self.order[key], key))

    def _descendants(self, key: str) -> Iterator[str]:
        for child in self.children[key]:
            yield child
            yield from self._descendants(child)


class Reporter(Callback):
    """Tells that time passes, and when a stage really starts: Tune takes more of them than there are slots."""

    def __init__(self, stages: ReadyStages) -> None:
        self.stages = stages

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Tune's loop turns, several times a second."""
        self.stages.tell(Tick())

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker has the stage now."""
        self.stages.tell(Started(self.stages.running[trial.trial_id]))


class StageTrainable(Trainable):
    """Runs stages one after the other in one process, so that starting Python and torch is paid once per slot.

    torch is imported by the worker process alone; the driver, which imports this class, does without.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """The first stage of this process."""
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next stage of this process."""
        from workers.run import run_stage

        given = json.loads(new_config["task"])
        self.epoch = 0
        self.stage = run_stage(decode_stage(given["stage"]), Store(given["store"]), Where(**given["where"]))
        return True

    def step(self) -> dict[str, Any]:
        """Run on for about a second, or to the end. A stage that fails has left its reason in the store."""
        from workers.run import StageFailed

        deadline = time.monotonic() + REPORT_SECONDS
        try:
            for progress in self.stage:
                self.epoch = progress.epoch
                if time.monotonic() > deadline:
                    return {"epoch": self.epoch, "done": False}
        except StageFailed:
            logging.getLogger("prunesweep").exception("stage failed")
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
    trainable: type[Trainable] = StageTrainable,
) -> None:
    """Run every stage that the store lacks on the cluster that Ray is connected to; returns when nothing is left to do.

    Failures are told and left in the store; they are not raised. `trainable` is replaced by benchmarks only.
    """
    where = _at_home(where, plan.sweep.resources)
    worker = tune.with_resources(trainable, request(plan.sweep.resources, where.loaders))
    settings = {**SETTINGS, "TUNE_MAX_PENDING_TRIALS_PG": str(slots)}
    stages = ReadyStages(plan, store, where, tell)
    with _environment(settings), _quiet(), tempfile.TemporaryDirectory(prefix="prunesweep-") as folder:
        Tuner(
            worker,
            tune_config=TuneConfig(search_alg=stages, num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(
                name=plan.sweep.name,
                storage_path=folder,
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[Reporter(stages)],
                verbose=0,
            ),
        ).fit()


def _at_home(where: Where, resources: Resources) -> Where:
    """As many threads as cores; `auto` is a GPU only where the trial was given one: Ray may leave others visible."""
    auto = "cuda" if resources.gpus else "cpu"
    device = auto if where.device == "auto" else where.device
    return replace(where, threads=max(1, int(resources.cpus)), device=device)


def _chain_lengths(stages: Mapping[str, Stage], children: Mapping[str, list[str]]) -> dict[str, int]:
    """Epochs from the start of each stage to the end of its longest chain of descendants."""
    lengths: dict[str, int] = {}
    for key in reversed(list(stages)):
        lengths[key] = stages[key].epochs + max((lengths[child] for child in children[key]), default=0)
    return lengths


def _reason(store: Store, key: str, *, died: bool) -> tuple[str, str]:
    """Why a stage has no result; a worker that died could not say it, so it is noted here."""
    attempts = store.attempts(key)
    last = attempts[-1] if attempts else None
    if last is not None and last.cause is None and died:
        last = replace(last, cause="worker died", message="killed, out of memory, or its node was lost")
        store.fail(key, last)
    if last is None or last.cause is None:
        return "error", "the worker gave no reason; see the logs of Ray"
    return last.cause, last.message or ""


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
