"""What a search decides: a pure function of the results so far, made anew from nothing whenever it is asked.

No state is kept. Results count in the order of the candidates, whichever came first; ties go to the smaller key. So a
search that was killed and is run again, on two slots or two hundred, tries the same candidates and has the same winner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import dropwhile
from math import isnan, nan
from typing import Any

from prunesweep.orchestrator.search import halving
from prunesweep.orchestrator.search.adaptive import BATCH, Told, asked
from prunesweep.orchestrator.search.bisection import Trained, nearest, next_points
from prunesweep.orchestrator.search.sampling import listed_points, sobol_points
from prunesweep.orchestrator.search.space import Point
from prunesweep.orchestrator.search.spec import ADAPTIVE, Search
from prunesweep.workers.lineage import work
from prunesweep.workers.spec import Stage, TrialSpec

SPARSITY = "reached_sparsity"
"""The metric of a candidate's training that a target is about."""

Known = Mapping[str, Mapping[str, Any] | None]
"""By stage the metrics of its result, None where it diverged; what is not known yet is missing."""


@dataclass(frozen=True)
class Candidate:
    """A point of the space, and its stages with each of the search's seeds. The first that is drawn is number 1."""

    number: int
    point: Point
    paths: tuple[tuple[Stage, ...], ...]

    @property
    def key(self) -> str:
        """Of its last stage with the first seed, by which ties are broken."""
        return self.paths[0][-1].key


@dataclass(frozen=True)
class Round:
    """Candidates that are compared with each other, after so many epochs on their paths.

    Of each the stages that it takes to get there, by seed, and its score: the mean over seeds, NaN where it diverged,
    None while that is not known. Of searches with a target likewise the sparsity that its training came to.
    """

    epoch: int
    candidates: tuple[Candidate, ...]
    paths: tuple[tuple[tuple[Stage, ...], ...], ...]
    scores: tuple[float | None, ...]
    sparsities: tuple[float | None, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether all scores are known, and sparsities where they matter."""
        return None not in self.scores and None not in self.sparsities

    def scored(self) -> list[tuple[Candidate, float]]:
        """The candidates whose scores are known."""
        pairs = zip(self.candidates, self.scores, strict=True)
        return [(candidate, score) for candidate, score in pairs if score is not None]

    def own_sparsities(self) -> list[tuple[Candidate, float]]:
        """The candidates of a search with a target whose sparsities are known, NaN where they diverged."""
        pairs = zip(self.candidates, self.sparsities, strict=bool(self.sparsities))
        return [(candidate, sparsity) for candidate, sparsity in pairs if sparsity is not None]

    def trained(self) -> list[Trained]:
        """The candidates of a search with a target whose sparsities and scores are known."""
        rows = zip(self.candidates, self.sparsities, self.scores, strict=True)
        return [Trained(c.point, own, score) for c, own, score in rows if own is not None and score is not None]


@dataclass(frozen=True)
class Decision:
    """What is known of a search: the rounds that have begun, and the winner once they are over.

    `winner` is None while rounds are missing, and when `failed`: all candidates have diverged or missed the target.
    """

    search: Search
    rounds: tuple[Round, ...]
    winner: Candidate | None
    failed: bool = False
    diverged: frozenset[str] = frozenset()
    """Stages that have diverged, and those behind them: nobody runs them again."""

    @property
    def is_open(self) -> bool:
        """Whether results are missing."""
        return self.winner is None and not self.failed

    @cached_property
    def trials(self) -> tuple[TrialSpec, ...]:
        """The winner with all seeds of the sweep."""
        if self.winner is None:
            return ()
        return tuple(self.search.candidate(self.winner.point, seed) for seed in self.search.final_seeds)

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """All stages that the search has asked for so far, parents before children."""
        stages: dict[str, Stage] = {}
        for step in self.rounds:
            for path in (path for paths in step.paths for path in paths):
                for stage in path:
                    stages.setdefault(stage.key, stage)
        return stages

    @property
    def candidates(self) -> list[Candidate]:
        """All that were drawn so far, each once."""
        return sorted({c.number: c for step in self.rounds for c in step.candidates}.values(), key=lambda c: c.number)

    def final_scores(self) -> list[tuple[Candidate, float]]:
        """The candidates that were trained to the end, and came to the target where there is one, with their scores."""
        return [pair for step in self.rounds if step.epoch == self.search.last_epoch for pair in self.eligible(step)]

    def eligible(self, step: Round) -> list[tuple[Candidate, float]]:
        """Of a round the candidates whose scores are known, without those that missed the target."""
        missed = {candidate.number for candidate, own in step.own_sparsities() if not self.search.hit(own)}
        return [(candidate, score) for candidate, score in step.scored() if candidate.number not in missed]

    @property
    def winner_sparsity(self) -> float | None:
        """What the winner of a search with a target came to by itself; None of others."""
        own = [(c, sparsity) for step in self.rounds for c, sparsity in step.own_sparsities()]
        return next((sparsity for candidate, sparsity in own if candidate == self.winner), None)

    @property
    def failure(self) -> str:
        """Why there is no winner, and what to do; empty where there is one, or may be."""
        return _failure(self) if self.failed else ""

    @property
    def spent(self) -> int:
        """The epochs of all candidates, each as far as it has been asked for, as if it were trained alone."""
        reached: dict[int, int] = {}
        for step in self.rounds:
            for candidate in step.candidates:
                reached[candidate.number] = max(step.epoch, reached.get(candidate.number, 0))
        return sum(epoch - self.search.first_epoch for epoch in reached.values()) * len(self.search.seeds)

    @property
    def left(self) -> int:
        """The epochs of the budget that are not asked for yet; 0 once the search is over."""
        return max(self.search.epochs - self.spent, 0) if self.is_open else 0


def decide(search: Search, known: Known) -> Decision:
    """Replay the search on what is known."""
    rounds: list[Round] = []
    for candidates, epoch in _asked(search, rounds):
        paths = tuple(tuple(tuple(work(halving.cut(path, epoch)[-1])) for path in c.paths) for c in candidates)
        scores = tuple(_score(paths_of, known, search.by, -1) for paths_of in paths)
        own = tuple(_score(paths_of, known, SPARSITY, 0) for paths_of in paths) if search.target else ()
        rounds.append(Round(epoch, candidates, paths, scores, own))
        if not rounds[-1].is_over:
            return Decision(search, tuple(rounds), None, diverged=_diverged(rounds, known))
    undecided = Decision(search, tuple(rounds), None, diverged=_diverged(rounds, known))
    ranked = ranking(search, undecided.final_scores())
    failed = not ranked or isnan(ranked[0][1])
    return replace(undecided, winner=None if failed else ranked[0][0], failed=failed)


def _diverged(rounds: Sequence[Round], known: Known) -> frozenset[str]:
    paths = (path for step in rounds for paths in step.paths for path in paths)
    behind = (dropwhile(lambda key: known.get(key, key) is not None, (s.key for s in path)) for path in paths)
    return frozenset(key for keys in behind for key in keys)


def ranking(search: Search, scored: Sequence[tuple[Candidate, float]]) -> list[tuple[Candidate, float]]:
    """The best first; those that diverged last."""
    return sorted(
        scored, key=lambda pair: (isnan(pair[1]), 0.0 if isnan(pair[1]) else -search.sign * pair[1], pair[0].key)
    )


def _asked(search: Search, rounds: list[Round]) -> Iterator[tuple[tuple[Candidate, ...], int]]:
    """Candidates and the epoch that they are to reach, round by round; what comes next depends on the `rounds` so far.

    It ends where the budget does, or where all that go on have diverged.
    """
    if search.target is not None:
        drawn = 0
        while points := next_points(search, [trained for step in rounds for trained in step.trained()]):
            yield _candidates(search, points, drawn), search.last_epoch
            drawn += len(points)
    elif search.algorithm == "halving":
        assert search.rungs is not None
        stops = halving.rungs_of(search)
        points = sobol_points(search.space, halving.affordable(search), search.sampling_seed)
        going = _candidates(search, points)
        for epoch, count in zip(stops, halving.survivors(len(points), search.rungs, len(stops)), strict=True):
            if rounds:
                best = ranking(search, rounds[-1].scored())[:count]
                going = tuple(sorted((c for c, score in best if not isnan(score)), key=lambda c: c.number))
            if not going:
                return
            yield going, epoch
    elif search.algorithm in ADAPTIVE:
        drawn = 0
        while drawn < search.trainings:
            told = tuple(Told(c.point, score) for step in rounds for c, score in step.scored())
            batch = asked(search, told, min(BATCH, search.trainings - drawn))
            if not batch:
                return
            yield _candidates(search, batch, drawn), search.last_epoch
            drawn += len(batch)
    else:
        yield _candidates(search, one_shot_points(search)), search.last_epoch


def _failure(decision: Decision) -> str:
    search = decision.search
    tried = f"{len(decision.candidates)} candidate{'s' * (len(decision.candidates) != 1)}"
    target = search.target
    trained = [one for step in decision.rounds for one in step.trained()] if target else []
    closest = nearest(search, trained)
    if target is None or closest is None:
        return f"all of {tried} have diverged; give another space"
    name, steer = target.steer.name, target.steer
    value = dict(closest.point)[name]
    ends = value in (target.value(0.0), target.value(1.0))
    remedy = "give it a wider range in the space" if ends else "give target more tries, or a larger `within`"
    return (
        f"none of {tried} came within {target.within:g} of sparsity {search.base.sparsity:g}: the nearest came to "
        f"{closest.sparsity:.4f} with {name} {value:g} of {steer.low:g} to {steer.high:g}; {remedy}"
    )


def one_shot_points(search: Search) -> list[Point]:
    """The points of a search that tries all of them at once."""
    if search.algorithm == "grid":
        return listed_points(search.space)
    return sobol_points(search.space, search.trainings, search.sampling_seed)


def _candidates(search: Search, points: Sequence[Point], drawn: int = 0) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(number, point, tuple(tuple(search.path(point, seed)) for seed in search.seeds))
        for number, point in enumerate(points, drawn + 1)
    )


def _score(paths: Sequence[Sequence[Stage]], known: Known, metric: str, place: int) -> float | None:
    """The mean over seeds of a number of the last stage or the first; NaN where any stage has diverged, or lacks it."""
    if any(stage.key in known and known[stage.key] is None for path in paths for stage in path):
        return nan
    values = []
    for path in paths:
        metrics = known.get(path[place].key)
        if metrics is None:
            return None
        value = metrics.get(metric)
        if value is None:
            return nan
        values.append(float(value))
    return sum(values) / len(values)
