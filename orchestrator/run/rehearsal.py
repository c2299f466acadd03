"""A rehearsal of a sweep: of every distinct cell one trial, a few batches of each of its stages, as the sweep would.

It is a run like any other, with the same queue, placement and training, into a store of its own that is removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from prunesweep.orchestrator.forest import last_stage
from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.run.driver import Options, SweepRun, prepare
from prunesweep.orchestrator.search.decision import Decision
from prunesweep.orchestrator.search.space import Point, Space, Values
from prunesweep.orchestrator.search.spec import of_training
from prunesweep.orchestrator.status.forecast import gpu_seconds
from prunesweep.orchestrator.status.status import failures
from prunesweep.workers.rehearsal import PREFIX, Rates
from prunesweep.workers.spec import Choice, PartStage, PruneStage, Stage, TrainSpec, TrialSpec, path
from prunesweep.workers.store import Store

if TYPE_CHECKING:
    from rich.console import Console

SIZES = ("batch_size", "evaluation_batch_size")
"""Of all settings that are numbers these alone decide whether a cell works and how fast it is."""

Kind = tuple[Any, ...]


@dataclass(frozen=True)
class Cell:
    """All trials that differ in numbers alone, seeds included, and the one of them that is rehearsed.

    `settings` are dataset, model and method, every other setting that is a name or a switch, the batch sizes, and the
    resources.
    """

    settings: Mapping[str, Any]
    trial: TrialSpec
    trials: int


@dataclass(frozen=True)
class Outcome:
    """What is known of a cell. `problem` is why it does not work: a cause and a sentence.

    `memory` (bytes) is the most that a stage of it had, `epoch` the seconds of one of its last stage's.
    """

    cell: Cell
    problem: str | None = None
    memory: int | None = None
    epoch: float | None = None


@dataclass(frozen=True)
class Forecast:
    """Of the stages that the store lacks: seconds of work one after the other, of the longest chain, and bytes.

    `unknown` stages are of cells that do not work, and are left out. `slots` fit on the machines at once. `gpu_seconds`
    are those of whole GPUs. Part of them all are `undecided` epochs: those that searches may still ask for, and their
    winners'.
    """

    seconds: float
    chain: float
    bytes: int
    slots: int
    gpu_seconds: float
    stages: int
    unknown: int
    undecided: int = 0

    @property
    def wall_seconds(self) -> float:
        """With as many at once as fit."""
        return max(self.seconds / max(1, min(self.slots, self.stages)), self.chain)


@dataclass(frozen=True)
class Rehearsed:
    """What a rehearsal has found."""

    outcomes: Sequence[Outcome]
    forecast: Forecast

    @property
    def works(self) -> bool:
        """Whether every cell does."""
        return all(outcome.problem is None for outcome in self.outcomes)


def rehearse(plan: Plan, trials: Iterable[TrialSpec], store: Store, options: Options, console: Console) -> Rehearsed:
    """Rehearse those of the trials that `store` lacks; nothing of it stays there. `KeyboardInterrupt` passes through.

    Its networks and checkpoints lie on the disk of `store` while it lasts, where the machines that run them reach it.
    """
    asked = list(trials)
    wanted = [trial for trial in asked if plan.trial_state(trial) != "done"]
    is_whole = len(asked) == len(plan.sweep.trials)
    chosen = cells(plan, wanted, open_searches(plan) if is_whole else ())
    sweep = replace(plan.sweep, trials=tuple(cell.trial for cell in chosen), searches=())
    rehearsal = replace(options, rehearsal=True, max_failures=None)
    with _own_store(store) as own:
        prepare(make_plan(sweep, own), own, rehearsal)
        run = SweepRun(own, rehearsal, console)
        after = run.run(make_plan(sweep, own))
        results = dict(zip(after.stages, own.results(list(after.stages)), strict=True))
        outcomes = _outcomes(chosen, after, results, own)
    return Rehearsed(outcomes, forecast(plan if is_whole else plan.narrowed(wanted), after, results, run.slots))


@contextmanager
def _own_store(store: Store) -> Iterator[Store]:
    name = f"{PREFIX}{uuid4().hex[:8]}"
    try:
        yield Store(store.url(name))
    finally:
        store.remove_tree(name)
        if store.is_local:
            with suppress(OSError):  # it was there before, and has something
                Path(store.location.reveal()).rmdir()


# --- cells


def open_searches(plan: Plan) -> list[Decision]:
    """The searches that may still ask for something."""
    return [decision for decision in plan.decisions if decision.is_open]


def cells(plan: Plan, trials: Sequence[TrialSpec], searches: Iterable[Decision] = ()) -> list[Cell]:
    """The distinct ones, in the sweep's order. Of each the trial with the fewest stages, and then the sparsest.

    Of searches all cells that candidates may have; the trials of these are the candidates that are drawn so far.
    """
    alike: dict[Kind, list[TrialSpec]] = {}
    for trial in trials:
        alike.setdefault(_kind_of(plan, trial), []).append(trial)
    counts = {kind: len(same) for kind, same in alike.items()}
    for search, drawn in ((decision.search, decision.candidates) for decision in searches):
        for point in _variants(search.settings):
            trial = search.candidate(point, search.seeds[0])
            alike.setdefault(_kind_of(plan, trial), []).append(trial)
        for trial in (search.candidate(candidate.point, seed) for candidate in drawn for seed in search.seeds):
            counts[_kind_of(plan, trial)] = counts.get(_kind_of(plan, trial), 0) + 1
    return [
        Cell(dict(kind), min(same, key=lambda trial: _effort(plan, trial)), counts.get(kind, 0))
        for kind, same in alike.items()
    ]


def _variants(space: Space) -> Iterator[Point]:
    """Points with all names, switches and batch sizes of a space together, and one number for each other setting."""
    values = []
    for dimension in space:
        listed = dimension.values if isinstance(dimension, Values) else (dimension.at(0.5),)
        named = any(isinstance(value, str | bool) for value in listed)
        values.append(listed if named or of_training(dimension.name) in SIZES else listed[:1])
    for chosen in product(*values):
        yield tuple((dimension.name, value) for dimension, value in zip(space, chosen, strict=True))


def _kind_of(plan: Plan, trial: TrialSpec) -> Kind:
    return tuple(settings(plan, trial).items())


def _effort(plan: Plan, trial: TrialSpec) -> tuple[int, float]:
    return len(path(_last(plan, trial))), -trial.sparsity


def settings(plan: Plan, trial: TrialSpec) -> dict[str, Any]:
    """What tells a trial's cell from others."""
    root = _last(plan, trial).root
    return {
        "dataset": replace(trial.dataset, fingerprint=None),
        "model": replace(trial.model, fingerprint=None),
        "method": trial.method.name,
        **_names(trial.method.settings),
        **_train_names(root.train),
        "resources": str(plan.sweep.resources.of(trial)),
    }


def _last(plan: Plan, trial: TrialSpec) -> Stage:
    return plan.stages[plan.last[trial.key]] if trial.key in plan.last else last_stage(trial, plan.sweep)


def _train_names(train: TrainSpec) -> dict[str, Any]:
    return _names({field.name: getattr(train, field.name) for field in fields(train)})


def _names(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if isinstance(value, str | bool | Choice) or name in SIZES}


# --- what came of them


def _outcomes(
    chosen: Sequence[Cell], after: Plan, results: Mapping[str, Mapping[str, Any] | None], store: Store
) -> list[Outcome]:
    problems = {failure.stage: f"{failure.cause}: {failure.attempt.message}" for failure in failures(after, store)}
    return [_outcome(cell, after, results, problems) for cell in chosen]


def _outcome(
    cell: Cell, after: Plan, results: Mapping[str, Mapping[str, Any] | None], problems: Mapping[str, str]
) -> Outcome:
    stages = path(_last(after, cell.trial))
    problem = next((problems[stage.key] for stage in stages if stage.key in problems), None)
    own = [results[stage.key] for stage in stages]
    whole = [result for result in own if result is not None]
    if len(whole) < len(own):
        return Outcome(cell, problem or "it did not come to an end")
    memory = max((result["peak_memory_bytes"] or 0 for result in whole), default=0)
    timed = [(stage, result) for stage, result in zip(stages, whole, strict=True) if stage.epochs]
    return Outcome(cell, None, memory or None, timed[-1][1]["rehearsal"]["epoch"] if timed else None)


# --- what the whole will take


def kind(stage: Stage) -> Kind:
    """Stages of one kind take the same time for an epoch."""
    stage = stage.whole if isinstance(stage, PartStage) else stage
    root = stage.root
    network = replace(root.dataset, fingerprint=None), replace(root.model, fingerprint=None)
    how = root.method.name, *_names(root.method.settings).items(), *_train_names(root.train).items()
    pruned = (stage.criterion, stage.allocation) if isinstance(stage, PruneStage) else ()
    return (*network, *how, *pruned)


def forecast(plan: Plan, after: Plan, results: Mapping[str, Mapping[str, Any] | None], slots: int) -> Forecast:
    ended = {kind(after.stages[key]): result for key, result in results.items() if result is not None}
    rates = _rates(ended)
    known = {key: stage for key, stage in plan.runnable.items() if kind(stage) in rates}
    seconds = {key: rates[kind(stage)].seconds(plan.epochs(key)) for key, stage in known.items()}
    whole = Forecast(
        sum(seconds.values()),
        _longest_chain(known, seconds),
        sum(ended[kind(stage)]["bytes"] for stage in known.values()),
        slots,
        gpu_seconds(plan, seconds),
        len(known),
        len(plan.runnable) - len(known),
    )
    for decision in open_searches(plan) if not plan.given_up else ():
        whole = _with_search(whole, plan, decision, rates, {same: result["bytes"] for same, result in ended.items()})
    return whole


def _with_search(
    whole: Forecast, plan: Plan, decision: Decision, rates: Mapping[Kind, Rates], sizes: Mapping[Kind, int]
) -> Forecast:
    """With what the search may still ask for, at the rates of its first candidate, and the winner's other seeds."""
    search = decision.search
    point = next(_variants(search.settings))
    stages = [stage for stage in search.path(point, search.seeds[0]) if kind(stage) in rates]
    training = sum(rates[kind(stage)].seconds(stage.epochs) for stage in stages)
    trainings = decision.left / search.length + len({*search.final_seeds} - {*search.seeds})
    share = plan.sweep.resources.of(search.base)
    return replace(
        whole,
        seconds=whole.seconds + trainings * training,
        bytes=whole.bytes + round(trainings * sum(sizes[kind(stage)] for stage in stages)),
        gpu_seconds=whole.gpu_seconds + trainings * training * share.gpus * share.replicas,
        undecided=whole.undecided + round(trainings * search.length),
    )


def _rates(ended: Mapping[Kind, Mapping[str, Any]]) -> dict[Kind, Rates]:
    """A process that has loaded a dataset sets up faster than the first time, and most stages find one that has."""
    rates = {kind: Rates(**result["rehearsal"]) for kind, result in ended.items()}
    setups: dict[Kind, float] = {}
    for same, rate in rates.items():
        setups[same[:2]] = min(rate.setup, setups.get(same[:2], rate.setup))
    return {kind: replace(rate, setup=setups[kind[:2]]) for kind, rate in rates.items()}


def _longest_chain(stages: Mapping[str, Stage], seconds: Mapping[str, float]) -> float:
    ends: dict[str, float] = {}
    for key, stage in stages.items():
        begins = ends.get(stage.parent.key, 0.0) if stage.parent is not None else 0.0
        ends[key] = begins + seconds[key]
    return max(ends.values(), default=0.0)
