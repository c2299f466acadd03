"""What the rest of a plan will cost, in time and disk, from finished stages in the store that are like it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from statistics import mean

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.versions import Change
from prunesweep.workers.decoding import decode_stage
from prunesweep.workers.listing import some
from prunesweep.workers.spec import Choice, PruneStage, Stage
from prunesweep.workers.store import State, Store

Kind = tuple[Choice, Choice, bool, bool]
"""Stages of one kind cost alike per epoch: dataset and model with their options, and whether it is a pruning stage."""

HISTORY = 60
"""So many finished stages are read to estimate time and disk."""


@dataclass(frozen=True)
class Estimate:
    """Forecast of what is still to do: seconds of work on one slot, those of whole GPUs, and bytes to store.

    `free_bytes` is what the store's disk has room for, None where that is not known.
    """

    seconds: float
    bytes: int
    free_bytes: int | None = None
    gpu_seconds: float = 0.0

    @property
    def fits(self) -> bool:
        """Whether there is room for it, as far as is known."""
        return self.free_bytes is None or self.bytes <= self.free_bytes


@dataclass(frozen=True)
class Bill:
    """What GPU hours come to: `watts` is taken to be the power of one while it works, `price` is that of its hour."""

    gpu_hours: float
    watts: float | None = None
    price: float | None = None

    @property
    def kilowatt_hours(self) -> float | None:
        """The energy, None where no power is assumed."""
        return None if self.watts is None else self.gpu_hours * self.watts / 1000

    @property
    def cost(self) -> float | None:
        """In the currency of the price, None without one."""
        return None if self.price is None else self.gpu_hours * self.price

    def __str__(self) -> str:
        energy = "" if self.kilowatt_hours is None else f", {self.kilowatt_hours:.3g} kWh at {self.watts:g} W each"
        cost = "" if self.cost is None else f", {self.cost:,.2f} at {self.price:g} an hour"
        return f"{self.gpu_hours:.3g} GPU hours{energy}{cost}"


def estimate(plan: Plan, store: Store) -> Estimate | None:
    """Time and disk of what is to run, from stages in the store that are like it; None where there are too few.

    Like means the same dataset and model with their options, pruned or not, trained or not; what is not alike is not
    guessed from.
    """
    if not plan.to_run:
        return Estimate(0.0, 0)
    seen: dict[Kind, list[tuple[float, float]]] = {}
    for stage, seconds, size in _history(plan, store):
        seen.setdefault(_kind(stage), []).append((seconds / max(stage.epochs, 1), size))
    if any(_kind(stage) not in seen for stage in plan.to_run.values()):
        return None
    means = {kind: (mean(s for s, _ in rows), mean(b for _, b in rows)) for kind, rows in seen.items()}
    taken = {key: means[_kind(stage)][0] * max(plan.epochs(key), 1) for key, stage in plan.to_run.items()}
    size = round(sum(means[_kind(stage)][1] for stage in plan.to_run.values()))
    return Estimate(sum(taken.values()), size, store.free_bytes(), gpu_seconds(plan, taken))


def gpu_seconds(plan: Plan, seconds: Mapping[str, float]) -> float:
    """Of whole GPUs: a quarter of one for four seconds is one second."""
    return sum(time * plan.shares[key].gpus * plan.shares[key].replicas for key, time in seconds.items())


def as_json(plan: Plan, forecast: Estimate | None, changes: Sequence[Change], bill: Bill | None = None) -> str:
    """The plan's figures for programs, and what has changed of one's own code and images."""
    figures = {"sweep": plan.sweep.name, **asdict(plan.counts), "damaged_stages": plan.damaged}
    figures["estimate"] = forecast and asdict(forecast)
    if bill is not None:
        figures["bill"] = {**asdict(bill), "kilowatt_hours": bill.kilowatt_hours, "cost": bill.cost}
    figures["changes"] = [asdict(change) for change in changes]
    return json.dumps(figures, indent=2)


def _kind(stage: Stage) -> Kind:
    dataset, model = (replace(choice, fingerprint=None) for choice in (stage.root.dataset, stage.root.model))
    return dataset, model, isinstance(stage, PruneStage), stage.epochs > 0


def _history(plan: Plan, store: Store) -> Iterator[tuple[Stage, float, float]]:
    """Finished stages with their seconds and bytes: this sweep's first, then others'."""
    own = [key for key in plan.stages if plan.states[key] is State.DONE]
    stages = [plan.stages[key] for key in islice(_spread(own, HISTORY), HISTORY)]
    if len(own) < HISTORY:
        names = some(store, HISTORY + len(plan.stages))
        others = list(islice((key for key in names if key not in plan.stages), HISTORY))
        stages += filter(None, store.at_once(lambda key: _spec(key, store), others))
    for stage, result in zip(stages, store.results([stage.key for stage in stages]), strict=True):
        if result is not None and {"elapsed_seconds", "bytes"} <= result.keys():
            yield stage, result["elapsed_seconds"], result["bytes"]


def _spec(key: str, store: Store) -> Stage | None:
    """What a stage of another sweep is; a `spec.json` that is damaged forecasts nothing."""
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return decode_stage(json.loads(store.read("stages", key, "spec.json") or b""))
    return None


def _spread(keys: list[str], count: int) -> Iterable[str]:
    """Some of the keys, evenly over the list: the beginning of a sweep is not typical of it."""
    return keys[:: max(1, len(keys) // count)]
