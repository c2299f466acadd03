"""What a sweep needs: its trials as a forest of stages, what the store has of it, and what the rest will cost.

Imports neither torch nor Ray, so that `prunesweep plan` answers at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from prunesweep.orchestrator.counts import Counts as Counts
from prunesweep.orchestrator.counts import Size as Size
from prunesweep.orchestrator.forest import forest, in_order, last_stage, shorter_parts, whole_states
from prunesweep.orchestrator.index import trust
from prunesweep.orchestrator.resources import Resources
from prunesweep.orchestrator.search.decision import Decision
from prunesweep.orchestrator.search.replay import Memory, replay
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.workers.errors import UserError
from prunesweep.workers.lineage import needed, work
from prunesweep.workers.methods import METHODS
from prunesweep.workers.spec import PartStage, Stage, TrialSpec
from prunesweep.workers.store import State, Store


@dataclass(frozen=True)
class Plan:
    """A sweep's stages by key, parents before children, and their states in the store.

    Where the sweep has searches, its trials are those of the file and the winners that are decided; the stages are
    theirs, and those that searches have asked for so far. `asked` is then the sweep as its file has it.
    """

    sweep: Sweep
    stages: dict[str, Stage]
    last: dict[str, str]
    """Trial key -> key of its last stage."""
    states: dict[str, State]
    given_up: frozenset[str] = frozenset()
    """Stages that this run does not try: they failed in it already, or it is about others."""
    asked: Sweep | None = None
    decisions: tuple[Decision, ...] = ()

    @property
    def without_winner(self) -> list[Decision]:
        """The searches that lack results, or of which all candidates have diverged."""
        return [decision for decision in self.decisions if decision.winner is None]

    @property
    def question(self) -> Sweep:
        """The sweep as it was asked for, without what searches made of it."""
        return self.asked or self.sweep

    @cached_property
    def to_run(self) -> dict[str, Stage]:
        """The stages that lack a result; not those of a search's candidates that have diverged."""
        settled = self.settled
        states = self.states
        return {k: stage for k, stage in self.stages.items() if states[k] is not State.DONE and k not in settled}

    @cached_property
    def settled(self) -> frozenset[str]:
        """Stages that have diverged, or start from one that has, and are a search's alone: that is their result."""
        diverged = frozenset(key for decision in self.decisions for key in decision.diverged)
        if diverged:
            diverged -= {stage.key for key in self.last.values() for stage in work(self.stages[key])}
        return diverged

    @cached_property
    def parts(self) -> dict[str, list[PartStage]]:
        """Stage key -> the shorter parts of it in this plan, the shortest first: it continues from the longest."""
        return shorter_parts(self.stages)

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
        """The same plan with the states that the stages have now, and what searches decide by them."""
        if self.decisions:
            (again,) = make_plans([self.question], store)
            return replace(again, given_up=self.given_up.union(given_up))
        states = whole_states(self.stages, store.states(self.stages))
        return replace(self, states=states, given_up=self.given_up.union(given_up))

    def narrowed(self, trials: Iterable[TrialSpec]) -> Plan:
        """The same plan for a run of some of its trials only."""
        chosen = {trial.key: trial for trial in trials}
        if chosen.keys() == self.last.keys():
            return self
        wanted = {stage.key for trial in chosen.values() for stage in self.work(trial)}
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
            for decision in self.decisions:
                share = given.of(decision.search.base)
                shares |= {key: shares.get(key, share) | share for key in decision.stages}
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
            epochs_unshared=sum(_total_epochs(self.stages[key]) for key in self.last.values())
            + sum(decision.spent for decision in self.decisions),
            epochs=sum(map(self.epochs, self.stages)),
            epochs_to_run=sum(map(self.epochs, self.to_run)),
            per_seed=next(iter(self.sizes.values())) if len(set(self.sizes.values())) == 1 else None,
            searches=len(self.decisions),
            undecided=sum(decision.is_open for decision in self.decisions),
            candidates=sum(len(decision.candidates) for decision in self.decisions),
            epochs_undecided=sum(decision.left for decision in self.decisions),
        )

    @cached_property
    def sizes(self) -> dict[int, Size]:
        """What each seed asks for."""
        trials: dict[int, list[TrialSpec]] = {}
        for trial in self.sweep.trials:
            trials.setdefault(trial.seed, []).append(trial)
        return {seed: self._size(of_seed) for seed, of_seed in trials.items()}

    def with_decisions(self, decisions: Iterable[Decision], store: Store) -> Plan:
        """The plan with what searches have decided since, in the place of what they had decided before.

        Winners are in the order of the searches, whichever was decided first: so are the rows of the tables.
        """
        latest = {decision.search.key: decision for decision in (*self.decisions, *decisions)}
        asked = {trial.key for trial in self.question.trials}
        chosen = {trial.key: trial for d in latest.values() for trial in d.trials if trial.key not in asked}
        winners = {key: trial for key, trial in chosen.items() if key not in self.last}
        stages, last = dict(self.stages), dict(self.last)
        for trial in winners.values():
            stage = last_stage(trial, self.sweep)
            last[trial.key] = stage.key
            stages |= {step.key: step for step in work(stage) if step.key not in stages}
        for decision in latest.values():
            stages |= {key: stage for key, stage in decision.stages.items() if key not in stages}
        stages = in_order(stages)
        fresh = [key for key in stages if key not in self.stages] + [last[key] for key in winners]
        again = {step.key: step for key in fresh for step in work(stages[key])}
        states = {**self.states, **whole_states(again, store.states(again))}
        sweep = replace(self.sweep, trials=(*self.question.trials, *chosen.values()))
        return replace(
            self,
            sweep=sweep,
            stages=stages,
            last=last,
            states=states,
            asked=self.question,
            decisions=(*latest.values(),),
        )

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
    plans = []
    for sweep, stages, last in forests:
        plan = Plan(sweep, stages, last, whole_states(stages, states))
        try:
            plans.append(_replayed(plan, store) if sweep.searches else plan)
        except UserError as error:
            if refuse is None:
                raise
            refuse(error)
    return plans


def _replayed(plan: Plan, store: Store) -> Plan:
    """With what the sweep's searches have decided by the results of the store; raises `UserError`."""
    memory, decisions = Memory(store), []
    for search in plan.sweep.searches:
        if plan.sweep.recorded is not None and search.base.method.name not in METHODS:
            raise UserError(
                f"the record of {plan.sweep.name} searches for settings of {search.base.method.name}; nothing is "
                "imported because a store names it: run the sweep's file again"
            )
        decisions.append(replay(search, memory))
    return plan.with_decisions(decisions, store)


def _total_epochs(stage: Stage) -> int:
    return stage.start_epoch + stage.epochs - stage.root.start_epoch
