"""The cost of orchestration: no-op stages through the whole driver, beside a plain Ray actor pool, in one run.

    python benchmarks/orchestration.py [--stages 100 1000 5000]

A no-op stage does what every stage does to the store (begin, publish) and no training. Half of the stages wait for the
other half, as pruning waits for its dense network. Both sides do the same work in the same number of processes on two
slots; only the driver differs. CPU is the driver process's own, Ray's threads in it included.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.util import ActorPool

from orchestrator import tune
from orchestrator.cluster import OBJECT_STORE
from orchestrator.plan import Plan, make_plan
from orchestrator.resources import Shares
from orchestrator.sweep import Sweep
from workers import data, methods, models
from workers.host import Where
from workers.spec import Stage, TrialSpec, decode_stage, path
from workers.store import Store

SLOTS = 2


def noop(stage: Stage, store: Store) -> None:
    """What every stage does to the store, without the training."""
    store.begin(stage)
    store.publish(stage, {"network.safetensors": b""}, {"metrics": {}, "elapsed_seconds": 0.0, "bytes": 0})


class Noop(tune.StageTrainable):
    """A worker whose stages take no time."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        given = json.loads(new_config["task"])
        self.work = decode_stage(given["stage"]), Store(given["store"])
        return True

    def step(self) -> dict[str, Any]:
        noop(*self.work)
        return {"epoch": 1, "done": True}


@ray.remote(num_cpus=1)
class PoolWorker:
    """The same work under a plain actor pool."""

    def run(self, stage: Stage, store: Store) -> None:
        noop(stage, store)


@dataclass(frozen=True)
class Cost:
    """Milliseconds a stage."""

    wall: float
    cpu: float


def measure(stages: int, work: Callable[[], None]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost((time.perf_counter() - wall) * 1000 / stages, (time.process_time() - cpu) * 1000 / stages)


def sweep_of(stages: int) -> Sweep:
    """As many dense networks as pruned ones."""
    imp = methods.method_class("imp")(retrain_epochs=1)
    base = TrialSpec(data.choose("digits", {}), models.choose("lenet300", {}), imp.choice("imp"), sparsity=0.9)
    trials = tuple(replace(base, seed=seed) for seed in range(stages // 2))
    return Sweep("noop", trials, 0, Shares({}), "", Path("noop.yaml"))


def prunesweep(plan: Plan, store: Store) -> None:
    tune.execute(plan, store, Where(), SLOTS, lambda event: None, trainable=Noop)


def actor_pool(plan: Plan, store: Store) -> None:
    """Level by level: an actor pool has no notion of what waits for what."""
    actors = [PoolWorker.remote() for _ in range(SLOTS)]
    pool = ActorPool(actors)
    for depth in (1, 2):
        level = [stage for stage in plan.stages.values() if len(path(stage)) == depth]
        for _ in pool.map_unordered(lambda actor, stage: actor.run.remote(stage, store), level):
            pass
    for actor in actors:
        ray.kill(actor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, nargs="+", default=[100, 1000, 5000])
    counts = parser.parse_args().stages
    ray.init(
        address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False, object_store_memory=OBJECT_STORE
    )
    print(f"{'stages':>7}  {'driver':<12}{'wall ms/stage':>14}{'CPU ms/stage':>14}")
    for stages in counts:
        for name, work in (("actor pool", actor_pool), ("prunesweep", prunesweep)):
            with tempfile.TemporaryDirectory() as folder:
                store = Store(folder)
                plan = make_plan(sweep_of(stages), store)
                cost = measure(stages, lambda work=work, plan=plan, store=store: work(plan, store))
                assert store.done(plan.stages) == set(plan.stages)
            print(f"{stages:>7}  {name:<12}{cost.wall:>14.1f}{cost.cpu:>14.1f}", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
