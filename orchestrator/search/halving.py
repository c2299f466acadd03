"""Successive halving (Jamieson & Talwalkar 2016): all candidates are trained a little, the best of them longer.

Rungs are synchronous: a candidate goes on when all have reached the rung, and it is among the best third. Many methods
are dense until late, and how good a dense network is says little of the pruned one. So at a rung a copy of each network
is pruned in one go to the sparsity asked, and those go on whose copies have the smallest validation losses, and those
that are best as they are, by turns. The loss tells apart copies that have lost nearly all accuracy. The training itself
goes on as it would without.
"""

from __future__ import annotations

from collections.abc import Sequence

from prunesweep.orchestrator.search.spec import MOST_CANDIDATES, Rungs, Search
from prunesweep.workers.spec import PartStage, PrunedCopy, PruneStage, Stage, TrainStage


def rung_epochs(rungs: Rungs, length: int, shared: int = 0) -> tuple[int, ...]:
    """At which epochs of a path candidates are compared; the last is its end.

    Shares are of the epochs in which candidates can differ: those that all have in common tell nothing. The last rung
    before the end is a training's `factor`-th part of it or less.
    """
    own, epochs, share = length - shared, [], rungs.start
    while share * rungs.factor <= 1 + 1e-9:
        epochs.append(shared + max(1, round(share * own)))
        share *= rungs.factor
    return tuple(dict.fromkeys([*(epoch for epoch in epochs if epoch < length), length]))


def survivors(count: int, rungs: Rungs, stops: int) -> tuple[int, ...]:
    """How many candidates are trained to each of so many rungs: `factor` times fewer from one to the next."""
    counts = [count]
    while len(counts) < stops:
        counts.append(max(1, counts[-1] // rungs.factor))
    return tuple(counts)


def cost(count: int, rungs: Rungs, epochs: Sequence[int], first: int = 0) -> int:
    """The epochs that are trained, on the whole paths from epoch `first` on, when so many candidates begin."""
    begun = [first, *epochs[:-1]]
    counts = survivors(count, rungs, len(epochs))
    return sum(number * (end - start) for number, start, end in zip(counts, begun, epochs, strict=True))


def affordable(search: Search) -> int:
    """How many candidates a halving may begin with, so that all its rungs together stay within the budget."""
    assert search.rungs is not None
    count = 0
    while count < MOST_CANDIDATES and epochs_of(search, count + 1) <= search.epochs:
        count += 1
    return count


def epochs_of(search: Search, count: int) -> int:
    """What a halving costs that begins with so many candidates, with all seeds."""
    assert search.rungs is not None
    return cost(count, search.rungs, rungs_of(search), search.first_epoch) * len(search.seeds)


def rungs_of(search: Search) -> tuple[int, ...]:
    """The epochs of a search's rungs."""
    assert search.rungs is not None
    stops = rung_epochs(search.rungs, search.length, search.shared_epochs)
    return tuple(search.first_epoch + epoch for epoch in stops)


def cut(stages: Sequence[Stage], epoch: int, copy: PrunedCopy | None = None) -> list[Stage]:
    """The path until this epoch; where that is in the middle of a stage, its first part.

    With a `copy` what was trained until then is pruned to its sparsity: behind a whole stage that is another one.
    """
    before: list[Stage] = []
    for stage in stages:
        end = stage.start_epoch + stage.epochs
        if epoch < end:
            assert isinstance(stage, TrainStage | PruneStage)
            return [*before, PartStage(stage, epoch - stage.start_epoch, copy)]
        before.append(stage)
        if epoch == end and stages[-1].start_epoch + stages[-1].epochs > epoch:
            break
    if copy is not None and before[-1].sparsity < copy.sparsity:
        assert isinstance(stage, TrainStage | PruneStage)
        before.append(PruneStage(stage, copy.sparsity, None, "magnitude", copy.allocation, prune=copy.prune))
    return before
