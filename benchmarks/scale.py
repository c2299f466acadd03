"""The driver at scale: stages that only sleep, on fake GPUs, beside raw Ray Tune and a plain actor pool, in one run.

    python -m benchmarks.scale [--stages 500 2000 8000] [--slots 150] [--seconds 4] [--driver prunesweep]
    python -m benchmarks.scale --driver prunesweep --sweep trials searches [--stages 500] [--slots 8] [--seconds 0.5]
    python -m benchmarks.scale --occupancy [--stages 400] [--seconds 10]

A stage does what every stage does to the store (begin, publish) and sleeps instead of training; its result, curve and
layers are made up. For prunesweep they are chains of a dense network and three phases, as those of IMP, and one in a
hundred fails; its driver collects and writes the tables, shows its progress and heeds signals as that of `run` does.
Raw Tune (actors reused, its fastest settings) and the pool get the same stages in an order in which they may run; they
know of no chains, claims, retries or tables. Each driver is a process of its own with a Ray of its own. CPU is that
process's, Ray's threads in it included, from the first stage to the last table; wall time counts from the first stage
that ends. A worker takes 110 MB, so 150 want 17 GB. Raw Tune may be slow: it gives workers that are idle to trials
whose own worker is starting, and ends that one.

`--sweep` says what the stages are: `chains`, `trials` of one stage each, or `searches` by halving, of 39 stages each:
27 candidates at the first rung, 9 at the second, 3 at the end. Of searches the driver also decides what comes next.

With `--occupancy` a quarter and half a GPU are mixed on eight fake GPUs: of the time between the moment when all are
first taken and the start of the last stage, the share of the GPUs that is in use.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import ray
from ray.tune import Callback, CheckpointConfig, RunConfig, Trainable, TuneConfig, Tuner, grid_search, with_resources
from ray.util import ActorPool
from rich.console import Console

from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.resources import Shares
from prunesweep.orchestrator.run import tune
from prunesweep.orchestrator.run.assignments import task
from prunesweep.orchestrator.run.cluster import OBJECT_STORE, largest_node
from prunesweep.orchestrator.run.collect import Collector, collecting
from prunesweep.orchestrator.run.events import Event, Failed, Finished, Grown
from prunesweep.orchestrator.run.pace import Pace
from prunesweep.orchestrator.run.progress import ProgressDisplay
from prunesweep.orchestrator.run.queue import StageQueue
from prunesweep.orchestrator.run.searching import OpenSearches
from prunesweep.orchestrator.run.states import Done, StageStates
from prunesweep.orchestrator.run.stopping import Stopping
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.orchestrator.sweepfile.read import sweep_of as read_settings
from prunesweep.workers import data, models
from prunesweep.workers.causes import Cause
from prunesweep.workers.decoding import decode_stage
from prunesweep.workers.host import Where
from prunesweep.workers.methods.imp import IMP
from prunesweep.workers.spec import PruneStage, Stage, TrialSpec
from prunesweep.workers.store import CURVE, Store
from tests.orchestrator.finished import curve_of, result_of

PHASES = 3
FAILING = 25
"""One last phase in so many fails, which is one stage in a hundred."""

SHARE = {"cpus": 1, "gpus": 0.25}
MIXED = {**SHARE, "for": [{"model": "lenet5", "gpus": 0.5}]}
GPUS_MIXED = 8

STAGES_OF_SEARCH = 39
"""27 candidates to epoch 2, 9 to epoch 6, 3 to epoch 20."""

Ended = Callable[[], None]


def draw(stage: Stage) -> int:
    """A number that is the stage's own."""
    return int(hashlib.sha256(stage.key.encode()).hexdigest()[:8], 16)


def fails(stage: Stage) -> bool:
    return isinstance(stage, PruneStage) and stage.sparsity == SPARSITY and draw(stage) % FAILING == 0


def work(stage: Stage, store: Store, seconds: float) -> bool:
    """What every stage does to the store, and sleep, half to one and a half times as long; false when it fails."""
    attempt = store.begin(stage)
    begun = time.time()
    time.sleep(seconds * (0.5 + draw(stage) % 1000 / 1000))
    if fails(stage):
        store.fail(stage.key, replace(attempt, cause=Cause.USER_CODE, message="as it should"))
        return False
    result = {**result_of(stage), "begun": begun, "ended": time.time()}
    store.publish(stage, {"network.safetensors": b"", CURVE: curve_of(stage)}, result)
    return True


class Sleeper(tune.StageTrainable):
    """Ours, without the training."""

    def step(self) -> dict[str, Any]:
        if self.task is None:
            return {"ended": True}
        given, self.task = json.loads(self.task), None
        done = work(decode_stage(given["stage"]), Store(given["store"]), float(given["where"]["device"]))
        return {"ended": True} if done else {"ended": True, "cause": Cause.USER_CODE, "message": "as it should"}


class RawSleeper(Trainable):
    """The same work as a user of Ray Tune would wrap it."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.task = new_config["task"]
        return True

    def step(self) -> dict[str, Any]:
        given = json.loads(self.task)
        done = work(decode_stage(given["stage"]), Store(given["store"]), float(given["where"]["device"]))
        return {"well": done, "done": True}


@ray.remote(num_cpus=SHARE["cpus"], num_gpus=SHARE["gpus"])
class PoolSleeper:
    """The same work under a plain actor pool."""

    def run(self, task: str) -> bool:
        given = json.loads(task)
        return work(decode_stage(given["stage"]), Store(given["store"]), float(given["where"]["device"]))


# --- the drivers


def prunesweep(plan: Plan, store: Store, where: Where, slots: int, ended: Ended) -> None:
    """As `orchestrator.run.driver` does it."""
    states, collector, stopping = StageStates(plan.runnable), Collector(plan, store), Stopping(print)
    stopping.states = states
    progress = ProgressDisplay(plan, states, Console(file=sys.stderr), Pace())
    with stopping.heeding_signals(), progress, collecting(collector) as collect:

        def tell(event: Event) -> None:
            if isinstance(event, Grown):
                collector.grow(event.plan)
            for hear in (progress.hear, collect, stopping.hear):
                hear(event)
            if isinstance(event, Finished | Failed):
                ended()

        searches = OpenSearches(plan, store, tell)
        queue = searches.queue = StageQueue(plan, store, states, searches.hear, largest_node())
        tune.execute(queue, where, slots, trainable=Sleeper)
    collector.catch_up()
    collector.write()
    rows = parquet.read_metadata(store.path(plan.sweep.name, "trials.parquet")).num_rows
    assert rows == sum(len(queue.plan.trials_of.get(key, ())) for key in states.of(Done)), rows


def raw_tune(plan: Plan, store: Store, where: Where, slots: int, ended: Ended) -> None:
    class Count(Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            ended()

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it would miss each trial's result.json
    os.environ.update(tune.SETTINGS | {"TUNE_MAX_PENDING_TRIALS_PG": str(slots)})
    tasks = [task(stage, store, where) for stage in plan.stages.values()]
    with tempfile.TemporaryDirectory() as folder:
        Tuner(
            with_resources(RawSleeper, {"cpu": SHARE["cpus"], "gpu": SHARE["gpus"]}),
            param_space={"task": grid_search(tasks)},
            tune_config=TuneConfig(reuse_actors=True),
            run_config=RunConfig(
                storage_path=folder,
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
                callbacks=[Count()],
                verbose=0,
            ),
        ).fit()


def actor_pool(plan: Plan, store: Store, where: Where, slots: int, ended: Ended) -> None:
    sleepers: Any = PoolSleeper
    pool = ActorPool([sleepers.remote() for _ in range(slots)])
    tasks = [task(stage, store, where) for stage in plan.stages.values()]
    for _ in pool.map_unordered(lambda actor, task: actor.run.remote(task), tasks):
        ended()


DRIVERS: Mapping[str, Callable[[Plan, Store, Where, int, Ended], None]] = {
    "actor pool": actor_pool,
    "raw Tune": raw_tune,
    "prunesweep": prunesweep,
}

SPARSITY = 0.9


def sweep_of(stages: int, resources: Mapping[str, Any], names: tuple[str, ...]) -> Sweep:
    """Chains of a dense network and `PHASES` phases; on models by turns."""
    imp = IMP(phases=PHASES, retrain_epochs=PHASES)
    base = TrialSpec(data.choose("digits", {}), models.choose(names[0], {}), imp.choice("imp"), sparsity=SPARSITY)
    trials = tuple(
        replace(base, seed=seed, model=models.choose(names[seed % len(names)], {}))
        for seed in range(stages // (PHASES + 1))
    )
    return Sweep("sleep", trials, 0, Shares(resources), "", Path("sleep.yaml"))


def of_gmp(searches: int, block: Mapping[str, Any]) -> Sweep:
    """As many sparsities as there are to be searches."""
    sparsities = [round(0.1 + 0.8 * k / searches, 6) for k in range(searches)]
    settings = {"name": "sleep", "dataset": "digits", "model": "lenet300", "train": {"epochs": 20}, "resources": SHARE}
    return read_settings({**settings, "trials": [{"method": "gmp", "sparsity": sparsities, **block}]})


def trials(stages: int) -> Sweep:
    rates = [round(0.01 * (k + 1), 2) for k in range(STAGES_OF_SEARCH)]
    return of_gmp(stages // STAGES_OF_SEARCH, {"train": {"lr": rates}})


def searches(stages: int) -> Sweep:
    search = {"space": {"train.lr": {"log": [0.01, 0.5]}}, "budget": "132 epochs", "algorithm": "halving"}
    return of_gmp(stages // STAGES_OF_SEARCH, {"search": search})


def chains(stages: int) -> Sweep:
    return sweep_of(stages, SHARE, ("lenet300",))


SWEEPS: Mapping[str, Callable[[int], Sweep]] = {"chains": chains, "trials": trials, "searches": searches}


def levels(plan: Plan) -> Plan:
    """Parents before children by whole generations, so that who knows no chains does not start a child too early."""
    depth = {key: sum(1 for _ in _path(stage)) for key, stage in plan.stages.items()}
    return replace(plan, stages=dict(sorted(plan.stages.items(), key=lambda item: depth[item[0]])))


def _path(stage: Stage | None) -> Any:
    while stage is not None:
        yield stage
        stage = stage.parent


def drive(name: str, sweep: str, stages: int, slots: int, seconds: float) -> dict[str, float]:
    """One driver from its first to its last stage."""
    start_ray(cpus=slots, gpus=slots * SHARE["gpus"])
    wall, cpu = [], []

    def ended() -> None:
        wall.append(time.perf_counter())
        cpu.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        store.require_writable()
        plan = levels(make_plan(SWEEPS[sweep](stages), store))
        before = time.process_time()
        DRIVERS[name](plan, store, Where(device=str(seconds)), slots, ended)
        spent = time.process_time()
        plan = plan.refreshed(store)
        stages = len(plan.stages)
        part = min(1000, stages // 3)
        well = {key for key, stage in plan.stages.items() if not fails(stage)}
        assert store.done(plan.stages) == well, "every stage that should have a result has one, and no other"
        assert len(cpu) == len(plan.stages), (len(cpu), len(plan.stages))
    ray.shutdown()
    return {
        "stages": stages,
        "wall": (wall[-1] - wall[0]) * 1000 / stages,
        "cpu": (spent - before) * 1000 / stages,
        "first": (cpu[2 * part - 1] - cpu[part - 1]) * 1000 / part,
        "last": (cpu[-1] - cpu[-1 - part]) * 1000 / part,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def start_ray(cpus: float, gpus: float) -> None:
    ray.init(
        address="local",
        num_cpus=int(cpus),
        num_gpus=ceil(gpus),
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=OBJECT_STORE,
    )


def compare(names: Iterable[str], sweeps: Iterable[str], counts: Iterable[int], slots: int, seconds: float) -> None:
    print(f"stages of {seconds:g} s on {slots} slots: with nothing but sleep {seconds * 1000 / slots:.1f} ms a stage")
    parts = f"{'2nd part':>10}{'last part':>11}  ms a stage"
    print(f"{'':<12}{'':<10}{'stages':>8}{'wall':>8}{'CPU':>8}{parts}{'memory':>9} MB")
    for name, sweep, stages in product(names, sweeps, counts):
        alone = [sys.executable, "-m", "benchmarks.scale", "--only", name, "--sweep", sweep]
        numbers = ["--stages", str(stages), "--slots", str(slots), "--seconds", str(seconds)]
        said = subprocess.run([*alone, *numbers], stdout=subprocess.PIPE, text=True, check=True).stdout
        cost = json.loads(said.splitlines()[-1])
        figures = f"{cost['wall']:>8.2f}{cost['cpu']:>8.2f}{cost['first']:>10.2f}{cost['last']:>11.2f}"
        print(f"{name:<12}{sweep:<10}{cost['stages']:>8,}{figures}{'':<12}{cost['memory']:>9.0f}", flush=True)


def occupancy(stages: int, seconds: float) -> None:
    start_ray(cpus=64, gpus=GPUS_MIXED)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        store.require_writable()
        plan = make_plan(sweep_of(stages, MIXED, ("lenet300", "lenet5")), store)
        prunesweep(plan, store, Where(device=str(seconds)), int(GPUS_MIXED / SHARE["gpus"]), lambda: None)
        found = [(plan.shares[key].gpus, store.result(key)) for key in plan.stages]
        spans = [(share, each["begun"], each["ended"]) for share, each in found if each]
    ray.shutdown()
    full = first_full(spans)
    last = max(begun for _, begun, _ in spans)
    used = sum(share * max(0.0, min(ended, last) - max(begun, full)) for share, begun, ended in spans)
    print(f"{len(spans)} stages of about {seconds:g} s with 0.25 and 0.5 of {GPUS_MIXED} GPUs: ", end="")
    print(f"{used / (GPUS_MIXED * (last - full)):.1%} of the GPUs in use for {last - full:.0f} s")


def first_full(spans: list[tuple[float, float, float]]) -> float:
    changes = sorted([(begun, share) for share, begun, _ in spans] + [(ended, -share) for share, _, ended in spans])
    used = 0.0
    for moment, change in changes:
        used += change
        if used >= GPUS_MIXED:
            return moment
    raise SystemExit("the GPUs were never all in use: give more --stages or --seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, nargs="+")
    parser.add_argument("--slots", type=int, default=150)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--occupancy", action="store_true")
    parser.add_argument("--driver", choices=DRIVERS, nargs="+", default=[*DRIVERS])
    parser.add_argument("--sweep", choices=SWEEPS, nargs="+", default=["chains"])
    parser.add_argument("--only", choices=DRIVERS, help=argparse.SUPPRESS)  # one driver, its figures as JSON
    options = parser.parse_args()
    counts, seconds = options.stages or [500, 2000, 8000], 4.0 if options.seconds is None else options.seconds
    if options.occupancy:
        occupancy(counts[0] if options.stages else 400, options.seconds or 10.0)
    elif options.only:
        print(json.dumps(drive(options.only, options.sweep[0], counts[0], options.slots, seconds)))
    else:
        compare(options.driver, options.sweep, counts, options.slots, seconds)


if __name__ == "__main__":
    main()
