"""What a sweep needs: its trials as a forest of stages, what the store has of it, and what the rest will cost.

Imports neither torch nor Ray, so that `prunesweep plan` answers at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from prunesweep.orchestrator.index import trust
from prunesweep.orchestrator.resources import Resources
from prunesweep.orchestrator.sweepfile.read import Sweep
from prunesweep.workers.errors import UserError
from prunesweep.workers.lineage import needed, work
from prunesweep.workers.methods import METHODS, create
from prunesweep.workers.spec import PartStage, Stage, TrialSpec
from prunesweep.workers.store import State, Store

MAX_STAGES = 200_000
"""Planning so many takes a minute or two, and with `MAX_TRIALS` trials less than 500 MB."""


@dataclass(frozen=True)
class Size:
    """How much is asked for; `epochs_unshared` is what it would cost to train trial by trial."""

    trials: int
    stages: int
    epochs_unshared: int
    epochs: int


@dataclass(frozen=True)
class Counts:
    """The figures of a plan.

    Trials are `done`, `failed`, `unfinished` (begun: running now, or interrupted), `blocked` behind a failed one, or
    `new`. `per_seed` is None where seeds differ in what they ask for.
    """

    trials: int
    duplicates: int
    seeds: int
    done: int
    new: int
    failed: int
    unfinished: int
    blocked: int
    stages: int
    stages_to_run: int
    epochs_unshared: int
    epochs: int
    epochs_to_run: int
    per_seed: Size | None


@dataclass(frozen=True)
class Plan:
    """A sweep's stages by key, parents before children, and their states in the store."""

    sweep: Sweep
    stages: dict[str, Stage]
    last: dict[str, str]
    """Trial key -> key of its last stage."""
    states: dict[str, State]
    given_up: frozenset[str] = frozenset()
    """Stages that this run does not try: they failed in it already, or it is about others."""

    @cached_property
    def to_run(self) -> dict[str, Stage]:
        """The stages that lack a result."""
        return {key: stage for key, stage in self.stages.items() if self.states[key] is not State.DONE}

    @cached_property
    def parts(self) -> dict[str, list[PartStage]]:
        """Stage key -> the shorter parts of it in this plan, the shortest first: it continues from the longest."""
        return _shorter_parts(self.stages)

    def needs(self, key: str) -> list[str]:
        """The stages that a stage starts from, and the part from which it continues, where this run does that one."""
        continued = [part.key for part in self.parts.get(key, [])[-1:] if part.key in self.runnable]
        return [*(stage.key for stage in needed(self.stages[key])), *continued]

    def epochs(self, key: str) -> int:
        """The epochs that a stage trains itself, which are not those of the part from which it continues."""
        return self.stages[key].epochs - sum(part.epochs for part in self.parts.get(key, [])[-1:])

    @cached_property
    def runnable(self) -> dict[str, Stage]:
        """Of the stages to run those that are not given up, nor start from one that is."""
        runnable: dict[str, Stage] = {}
        for key, stage in self.to_run.items():
            if key not in self.given_up and all(n.key in runnable or n.key not in self.to_run for n in needed(stage)):
                runnable[key] = stage
        return runnable

    def refreshed(self, store: Store, given_up: Iterable[str] = ()) -> Plan:
        """The same plan with the states that the stages have now."""
        states = _whole(self.stages, store.states(self.stages))
        return replace(self, states=states, given_up=self.given_up.union(given_up))

    def narrowed(self, trials: Iterable[TrialSpec]) -> Plan:
        """The same plan for a run of some of its trials only."""
        wanted = {stage.key for trial in trials for stage in self.work(trial)}
        return replace(self, given_up=self.given_up | (self.stages.keys() - wanted))

    @property
    def damaged(self) -> list[str]:
        """The stages whose result is damaged; they are computed again."""
        return [key for key, state in self.states.items() if state is State.DAMAGED]

    @cached_property
    def blocked(self) -> dict[str, str]:
        """Stages that wait for a failed one: key -> the nearest failed ancestor's key."""
        failed = {key for key, state in self.states.items() if state is State.FAILED}
        culprits = {}
        for key, stage in self.to_run.items():
            culprit = next((a.key for a in reversed(work(stage)[:-1]) if a.key in failed), None)
            if culprit is not None:
                culprits[key] = culprit
        return culprits

    @cached_property
    def shares(self) -> dict[str, Resources]:
        """Stage key -> what it may occupy: enough for each of the trials that need it."""
        given, shares = self.sweep.resources, dict.fromkeys(self.stages, self.sweep.resources.default)
        if given.rules:
            shares = {}
            for trial in self.sweep.trials:
                share = given.of(trial)
                for stage in self.work(trial):
                    shares[stage.key] = shares.get(stage.key, share) | share
        return shares

    @cached_property
    def trials_of(self) -> dict[str, list[TrialSpec]]:
        """Stage key -> the trials whose result it is."""
        trials_of: dict[str, list[TrialSpec]] = {}
        for trial in self.sweep.trials:
            trials_of.setdefault(self.last[trial.key], []).append(trial)
        return trials_of

    def work(self, trial: TrialSpec) -> list[Stage]:
        """All stages that are done for a trial."""
        return work(self.stages[self.last[trial.key]])

    def trial_state(self, trial: TrialSpec) -> str:
        """`done`, `failed`, `blocked`, `started` or `new`."""
        key = self.last[trial.key]
        if key in self.blocked:
            return "blocked"
        names = {State.ABSENT: "new", State.DAMAGED: "started"}
        return names.get(self.states[key], str(self.states[key]))

    @cached_property
    def counts(self) -> Counts:
        """The figures that `plan` prints."""
        states = Counter(self.trial_state(trial) for trial in self.sweep.trials)
        return Counts(
            trials=len(self.sweep.trials),
            duplicates=self.sweep.duplicates,
            seeds=len(self.sizes),
            done=states["done"],
            new=states["new"],
            failed=states["failed"],
            unfinished=states["started"],
            blocked=states["blocked"],
            stages=len(self.stages),
            stages_to_run=len(self.to_run),
            epochs_unshared=sum(_total_epochs(self.stages[key]) for key in self.last.values()),
            epochs=sum(map(self.epochs, self.stages)),
            epochs_to_run=sum(map(self.epochs, self.to_run)),
            per_seed=next(iter(self.sizes.values())) if len(set(self.sizes.values())) == 1 else None,
        )

    @cached_property
    def sizes(self) -> dict[int, Size]:
        """What each seed asks for."""
        trials: dict[int, list[TrialSpec]] = {}
        for trial in self.sweep.trials:
            trials.setdefault(trial.seed, []).append(trial)
        return {seed: self._size(of_seed) for seed, of_seed in trials.items()}

    def _size(self, trials: list[TrialSpec]) -> Size:
        epochs = {stage.key: self.epochs(stage.key) for trial in trials for stage in self.work(trial)}
        unshared = sum(_total_epochs(self.stages[self.last[trial.key]]) for trial in trials)
        return Size(len(trials), len(epochs), unshared, sum(epochs.values()))


def make_plan(sweep: Sweep, store: Store) -> Plan:
    """Expand a sweep into stages and look up their states; a `UserError` when there are more than `MAX_STAGES`."""
    (plan,) = make_plans([sweep], store)
    return plan


def make_plans(
    sweeps: Iterable[Sweep], store: Store, refuse: Callable[[UserError], object] | None = None
) -> list[Plan]:
    """As `make_plan`, of several; the store is asked once for all, and read only where an index differs.

    With `refuse`, a sweep that cannot be expanded is left out, and why is told to it.
    """
    forests = []
    for sweep in sweeps:
        try:
            forests.append((sweep, *forest(sweep)))
        except UserError as error:
            if refuse is None:
                raise
            refuse(error)
    trust((sweep.name for sweep, _, _ in forests), store)
    states = store.states({key: None for _, stages, _ in forests for key in stages})
    return [Plan(sweep, stages, last, _whole(stages, states)) for sweep, stages, last in forests]


def forest(sweep: Sweep) -> tuple[dict[str, Stage], dict[str, str]]:
    """A sweep's stages by key, parents before children, and the last one's key by trial; raises `UserError`."""
    stages: dict[str, Stage] = {}
    last: dict[str, str] = {}
    for trial in sweep.trials:
        stage = _last_stage(trial, sweep)
        last[trial.key] = stage.key
        for step in work(stage):
            stages.setdefault(step.key, step)
        if len(stages) > MAX_STAGES:
            raise UserError(
                f"{sweep.path}: {len(sweep.trials):,} trials need more than {MAX_STAGES:,} stages: "
                "take fewer phases, or make several sweeps of it"
            )
    return _in_order(stages), last


def _in_order(stages: dict[str, Stage]) -> dict[str, Stage]:
    """With every part before what continues from it."""
    parts = _shorter_parts(stages)
    ordered: dict[str, Stage] = {}
    for key, stage in stages.items():
        for step in (*parts.get(key, ()), stage):
            ordered.setdefault(step.key, step)
    return ordered


def _shorter_parts(stages: Mapping[str, Stage]) -> dict[str, list[PartStage]]:
    own: dict[str, list[PartStage]] = {}
    for stage in stages.values():
        if isinstance(stage, PartStage):
            own.setdefault(stage.whole.key, []).append(stage)
    shorter: dict[str, list[PartStage]] = {}
    for whole, parts in own.items():
        ordered = sorted(parts, key=lambda part: part.until)
        shorter[whole] = ordered
        shorter |= {part.key: ordered[:place] for place, part in enumerate(ordered) if place}
    return shorter


def _last_stage(trial: TrialSpec, sweep: Sweep) -> Stage:
    """The stage whose result is the trial's. Of a remembered sweep no code is imported for it (docs/security.md)."""
    if sweep.recorded is None:
        return create(trial.method).stage(trial)
    if trial.method.name not in METHODS:
        if trial.key in sweep.recorded:
            return sweep.recorded[trial.key]
        raise UserError(
            f"the record of {sweep.name} names the method {trial.method.name}, and does not hold what it asks for; "
            "nothing is imported because a store names it: run the sweep's file again"
        )
    try:
        return create(trial.method).stage(trial)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"the record of {sweep.name} asks {trial.method.name} for what it cannot do ({error}): "
            "run the sweep's file again"
        ) from error


def _whole(stages: Mapping[str, Stage], states: Mapping[str, State]) -> dict[str, State]:
    """A result counts only with those that it stands on: a row needs its whole path, and a lost parent is run again."""
    whole: dict[str, State] = {}
    for key, stage in stages.items():
        orphaned = stage.parent is not None and whole[stage.parent.key] is not State.DONE
        whole[key] = State.STARTED if orphaned and states[key] is State.DONE else states[key]
    return whole


def _total_epochs(stage: Stage) -> int:
    return stage.start_epoch + stage.epochs
