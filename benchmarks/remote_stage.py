"""Time a stage on S3 beside the local disk, in turns, in one run.

    python -m benchmarks.remote_stage [--seconds 10] [--rounds 5] [--model resnet8] [--store s3://bucket/prefix]

Without `--store` the endpoint is moto's server, in a thread of this process, for which training waits; but its answers
come from no distance, so that a real bucket has its own figure. A stage is a dense training on digits with a checkpoint
at every epoch end, as far as those cost at most 5 % of the time.
Reported are the seconds from a worker's look at the store until the stage's result is there, and their ratio round by
round.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from uuid import uuid4

from prunesweep.workers import data, methods, models
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.spec import Stage, TrainSpec, TrialSpec
from prunesweep.workers.store import Store
from tests.s3 import bucket


def stage_of(model: str, epochs: int, seed: int) -> Stage:
    dense = methods.method_class("dense")()
    train = TrainSpec(epochs=epochs, batch_size=64, lr=0.05)
    trial = TrialSpec(data.choose("digits", {}), models.choose(model, {}), dense.choice("dense"), seed, 0.0, train)
    return dense.stage(trial)


def seconds_of(stage: Stage, store: Store) -> float:
    begun = time.perf_counter()
    for _ in run_stage(stage, store, Where()):
        pass
    assert store.done([stage.key])
    return time.perf_counter() - begun


@contextmanager
def remote(url: str | None) -> Iterator[Store]:
    with nullcontext(url) if url else bucket() as place:
        store = Store(f"{place}/{uuid4().hex[:8]}")
        store.require_writable()
        yield store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="resnet8")
    parser.add_argument("--store")
    options = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, remote(options.store) as there:
        here = Store(folder)
        here.require_writable()
        seconds_of(stage_of(options.model, 2, 0), here)
        short = seconds_of(stage_of(options.model, 12, 1), here) / 12
        epochs = max(2, round(options.seconds / short))
        print(f"{options.model} on digits, {epochs} epochs, {options.rounds} rounds")
        times: dict[str, list[float]] = {"local": [], "remote": []}
        for seed in range(options.rounds):
            stage = stage_of(options.model, epochs, seed + 2)
            order = [("local", here), ("remote", there)]
            for name, store in order if seed % 2 else order[::-1]:
                times[name].append(seconds_of(stage, store))
        ratios = [b / a for a, b in zip(times["local"], times["remote"], strict=True)]
        for name, seconds in times.items():
            print(f"{name:<8}{statistics.median(seconds):>7.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})")
        print(f"ratio   {statistics.median(ratios):>7.2f}    ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
