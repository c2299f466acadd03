"""What sweeps have cost, from the results of their stages: each stage is counted once, however many trials share it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.status.forecast import Bill, gpu_seconds
from prunesweep.workers.spec import Stage, path
from prunesweep.workers.store import State, Store


@dataclass(frozen=True)
class Work:
    """The work done on devices of one name: `train_seconds` are without evaluation, `elapsed_seconds` with everything.

    The seconds are summed over stages and replicas: where stages share a device, each counts in full.
    """

    device: str
    stages: int
    epochs: int
    train_seconds: float
    elapsed_seconds: float


@dataclass(frozen=True)
class Cost:
    """`work` by device; the unshared numbers are what the finished trials would have cost one by one.

    `gpu_seconds` are those of whole GPUs, by the share of one that each stage was given, with everything.
    `again` is the number of stages that were started more than once, `bytes` the size of the results in the store.
    """

    work: tuple[Work, ...]
    epochs_asked: int
    epochs_unshared: int
    train_seconds_unshared: float
    gpu_seconds: float
    trials: int
    again: int
    bytes: int
    peak_memory_bytes: int | None

    @property
    def epochs(self) -> int:
        """Trained, on all devices."""
        return sum(work.epochs for work in self.work)

    @property
    def train_seconds(self) -> float:
        """On all devices."""
        return sum(work.train_seconds for work in self.work)

    @property
    def elapsed_seconds(self) -> float:
        """On all devices."""
        return sum(work.elapsed_seconds for work in self.work)

    def bill(self, watts: float | None = None, price: float | None = None) -> Bill:
        """The GPU hours, and what they come to at a power of each and a price of an hour."""
        return Bill(self.gpu_seconds / 3600, watts, price)


NUMBERS = ("attempts", "bytes", "epochs", "train_seconds", "elapsed_seconds")
"""What a result says of its cost, as numbers."""

COSTS = (*NUMBERS, "device", "peak_memory_bytes")


def cost(plans: Sequence[Plan], store: Store) -> Cost:
    """The cost of all stages of the sweeps that are done, whichever sweep ran them."""
    stages: dict[str, Stage] = {key: stage for plan in plans for key, stage in plan.stages.items()}
    done = [key for key in stages if any(plan.states.get(key) is State.DONE for plan in plans)]
    results = _results(done, store)
    last = {trial.key: plan.last[trial.key] for plan in plans for trial in plan.sweep.trials}
    finished = [path(stages[key]) for key in last.values() if key in results]
    peaks = [peak for result in results.values() if (peak := result["peak_memory_bytes"]) is not None]
    return Cost(
        work=tuple(_work(results)),
        epochs_asked=sum(stage.epochs for stage in stages.values()),
        epochs_unshared=sum(stage.epochs for stages in finished for stage in stages),
        train_seconds_unshared=sum(_train_seconds(results.get(s.key)) for stages in finished for s in stages),
        gpu_seconds=_gpu_seconds(plans, results),
        trials=len(finished),
        again=sum(result["attempts"] > 1 for result in results.values()),
        bytes=sum(result["bytes"] for result in results.values()),
        peak_memory_bytes=max(peaks, default=None),
    )


def _gpu_seconds(plans: Sequence[Plan], results: Mapping[str, Mapping[str, Any]]) -> float:
    """A stage that several sweeps have counts with the first."""
    seconds, left = 0.0, {key: float(result["elapsed_seconds"]) for key, result in results.items()}
    for plan in plans:
        seconds += gpu_seconds(plan, {key: left.pop(key) for key in plan.stages if key in left})
    return seconds


def _results(keys: Sequence[str], store: Store) -> dict[str, Mapping[str, Any]]:
    results = zip(keys, store.results(keys), strict=True)
    return {key: result for key, result in results if _is_whole(result)}


def _is_whole(result: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a result says what a stage cost; one that somebody else has written may not."""
    if not isinstance(result, Mapping) or not isinstance(result.get("device"), str):
        return False
    peak = result.get("peak_memory_bytes")
    return isinstance(peak, int | float | None) and all(isinstance(result.get(name), int | float) for name in NUMBERS)


def _work(results: Mapping[str, Mapping[str, Any]]) -> Iterable[Work]:
    """The device with the most work first."""
    groups: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for result in results.values():
        count, device = _replicas(result["device"])
        groups.setdefault(device, []).append((count, result))
    work = (
        Work(
            device,
            len(same),
            sum(result["epochs"] for _, result in same),
            sum(count * _train_seconds(result) for count, result in same),
            sum(count * result["elapsed_seconds"] for count, result in same),
        )
        for device, same in groups.items()
    )
    return sorted(work, key=lambda share: (-share.elapsed_seconds, share.device))


def _train_seconds(result: Mapping[str, Any] | None) -> float:
    return float(result["train_seconds"]) if result else 0.0


def _replicas(device: str) -> tuple[int, str]:
    """`4 x NVIDIA H100` are four devices."""
    match = re.fullmatch(r"(\d+) x (.+)", device)
    return (int(match[1]), match[2]) if match else (1, device)
