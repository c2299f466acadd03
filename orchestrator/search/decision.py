"""What a search decides: a pure function of the results so far, made anew from nothing whenever it is asked.

No state is kept. Results count in the order of the candidates, whichever came first; ties go to the smaller key. So a
search that was killed and is run again, on two slots or two hundred, tries the same candidates and has the same winner.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import dropwhile, zip_longest
from math import isnan

from prunesweep.orchestrator.search import halving
from prunesweep.orchestrator.search.adaptive import BATCH, Told, asked
from prunesweep.orchestrator.search.bisection import Trained, nearest, next_points
from prunesweep.orchestrator.search.numbers import SPARSITY, Known, as_it_is, first, last, mean_of
from prunesweep.orchestrator.search.sampling import listed_points, sobol_points
from prunesweep.orchestrator.search.space import Point
from prunesweep.orchestrator.search.spec import ADAPTIVE, LOSS, Search
from prunesweep.workers.lineage import work
from prunesweep.workers.spec import Stage, TrialSpec


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
    None while that is not known. Of searches with a target likewise the sparsity that its training came to, and where
    there are pruned copies their validation `losses`.
    """

    epoch: int
    candidates: tuple[Candidate, ...]
    paths: tuple[tuple[tuple[Stage, ...], ...], ...]
    scores: tuple[float | None, ...]
    sparsities: tuple[float | None, ...] = ()
    losses: tuple[float | None, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether all scores are known, and sparsities and losses where they matter."""
        return None not in (*self.scores, *self.sparsities, *self.losses)

    def scored(self) -> list[tuple[Candidate, float]]:
        """The candidates whose scores are known."""
        return self._known(self.scores)

    def best(self, sign: int, count: int) -> list[Candidate]:
        """So many that are best, without any that has diverged: by copy and as they are by turns, a copy first.

        `sign` is that of scores of which more is better.
        """
        rankings = [ranking(-1, self.copies()), ranking(sign, self.scored())]
        turns = (pair for pairs in zip_longest(*filter(None, rankings)) for pair in pairs if pair is not None)
        return [*dict.fromkeys(candidate for candidate, score in turns if not isnan(score))][:count]

    def copies(self) -> list[tuple[Candidate, float]]:
        """The candidates whose pruned copies are known, with their losses; none where there are no copies."""
        return self._known(self.losses)

    def own_sparsities(self) -> list[tuple[Candidate, float]]:
        """The candidates of a search with a target whose sparsities are known, NaN where they diverged."""
        return self._known(self.sparsities)

    def _known(self, values: Sequence[float | None]) -> list[tuple[Candidate, float]]:
        """With the values that are known; there may be none at all."""
        pairs = zip(self.candidates, values, strict=bool(values))
        return [(candidate, value) for candidate, value in pairs if value is not None]

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
        paths = tuple(_paths(search, candidate, epoch) for candidate in candidates)
        copied = epoch < search.last_epoch and search.copy(candidates[0].point) is not None
        scores = tuple(mean_of(paths_of, known, search.by, as_it_is if copied else last) for paths_of in paths)
        own = tuple(mean_of(paths_of, known, SPARSITY, first) for paths_of in paths) if search.target else ()
        losses = tuple(mean_of(paths_of, known, LOSS, last, copied=True) for paths_of in paths) if copied else ()
        rounds.append(Round(epoch, candidates, paths, scores, own, losses))
        if not rounds[-1].is_over:
            return Decision(search, tuple(rounds), None, diverged=_diverged(rounds, known))
    undecided = Decision(search, tuple(rounds), None, diverged=_diverged(rounds, known))
    ranked = ranking(search.sign, undecided.final_scores())
    failed = not ranked or isnan(ranked[0][1])
    return replace(undecided, winner=None if failed else ranked[0][0], failed=failed)


def _diverged(rounds: Sequence[Round], known: Known) -> frozenset[str]:
    paths = (path for step in rounds for paths in step.paths for path in paths)
    behind = (dropwhile(lambda key: known.get(key, key) is not None, (s.key for s in path)) for path in paths)
    return frozenset(key for keys in behind for key in keys)


def ranking(sign: int, scored: Sequence[tuple[Candidate, float]]) -> list[tuple[Candidate, float]]:
    """The best first, by scores of this sign (`Search.sign`); those that diverged last."""
    return sorted(scored, key=lambda pair: (isnan(pair[1]), 0.0 if isnan(pair[1]) else -sign * pair[1], pair[0].key))


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
                going = tuple(sorted(rounds[-1].best(search.sign, count), key=lambda c: c.number))
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


def _paths(search: Search, candidate: Candidate, epoch: int) -> tuple[tuple[Stage, ...], ...]:
    """A candidate's stages until this epoch, by seed; before its end with the copy that is compared there."""
    copy = search.copy(candidate.point) if epoch < search.last_epoch else None
    return tuple(tuple(work(halving.cut(path, epoch, copy)[-1])) for path in candidate.paths)
