"""The `search` of a trial block: its space against the method's settings, its budget, and the searches of its cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from prunesweep.orchestrator.search.adaptive import require_optuna
from prunesweep.orchestrator.search.cost import planned
from prunesweep.orchestrator.search.space import Point, Space, Values, point
from prunesweep.orchestrator.search.spec import (
    ADAPTIVE,
    LOSS,
    MOST_CANDIDATES,
    TRAINING,
    VALIDATION,
    Rungs,
    Search,
    of_training,
)
from prunesweep.orchestrator.sweepfile.cells import Cell, Element
from prunesweep.orchestrator.sweepfile.document import Loc, Problem, Rejected
from prunesweep.orchestrator.sweepfile.search_keys import BUDGETS, JUDGES, Request
from prunesweep.orchestrator.sweepfile.spaces import checked_space, of_method, require_listed
from prunesweep.orchestrator.sweepfile.targets import split
from prunesweep.orchestrator.sweepfile.trials import trials_of
from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import Choice, TrialSpec
from prunesweep.workers.tasks import metrics_of


def requested(search: Mapping[str, Any], method: str, methods: Sequence[str], loc: Loc) -> Request:
    """What a checked `search` at `loc` asks of a method; raises `Rejected`."""
    budgets = search["budget"]
    budget = of_method(budgets, method, methods, (*loc, "budget")) if isinstance(budgets, dict) else budgets
    algorithm = search.get("algorithm", "random")
    if "rungs" in search and algorithm != "halving":
        raise Rejected(Problem((*loc, "rungs"), f"rungs are halving's; the algorithm here is {algorithm}"))
    if algorithm in ADAPTIVE:
        try:
            require_optuna(algorithm)
        except UserError as error:
            raise Rejected(Problem((*loc, "algorithm"), str(error))) from error
    given = search.get("rungs", {})
    is_pruned = given.get("judge", JUDGES[0]) == JUDGES[0]
    rungs = Rungs(float(given.get("from", "10%").rstrip("%")) / 100, given.get("factor", 3), is_pruned)
    if rungs.start == 0:
        raise Rejected(Problem((*loc, "rungs", "from"), "0% of a training tells nothing: give more, such as 10%"))
    whole, at = checked_space(search["space"], method, methods, (*loc, "space"))
    target, space = split(search, method, whole, loc, at)
    if algorithm == "grid":
        require_listed(space, at)
    return Request(
        loc,
        space,
        budget,
        isinstance(budgets, dict),
        search.get("by"),
        algorithm,
        rungs if algorithm == "halving" else None,
        search.get("seeds", 1),
        target,
    )


def with_space(block: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """The block with a value for each setting of the space, so that cells are whole; raises `Rejected`."""
    made = {key: value for key, value in block.items() if key != "search"}
    for name, value in point(request.settings, [0.0] * len(request.settings)):
        key = of_training(name)
        holder = name.partition(".")[0] if key else ""
        inner = made.get(holder, {}) if key else made
        if (key or name) in inner:
            problem = f"{name} is searched for and given as well: leave one of the two out"
            raise Rejected(Problem((*request.loc, "space", name), problem))
        plain = list(value) if isinstance(value, tuple) else value
        made |= {holder: {**inner, key: plain}} if key else {name: plain}
    return made


# --- searches


def searches_of(cell: Cell, request: Request, loc: Loc, seeds: Sequence[int]) -> list[Search]:
    """The searches of one cell of the block at `loc`: one for each of its levels; raises `Rejected`."""
    if request.seeds > len(seeds):
        text = f"{request.seeds} seeds are more than the {len(seeds)} of the sweep"
        raise Rejected(Problem((*request.loc, "seeds"), text))
    for corner in _corners(request.settings):
        trials_of(_at(cell, corner, request.loc), loc, seeds[:1])
    bases = trials_of(cell, loc, seeds[:1])
    for base in bases:
        _require_own_training(base, request)
    return [_search(base, request, seeds) for base in bases]


def _require_own_training(base: TrialSpec, request: Request) -> None:
    """Raise `Rejected` where settings of the space are those of a training that the trial does not have."""
    before, from_init = TRAINING
    for name in (dimension.name for dimension in request.settings):
        loc, own = (*request.loc, "space", name), of_training(name)
        if name.startswith(from_init) and base.init is None:
            raise Rejected(Problem(loc, f"there is no init, so that nothing starts from it: write {before}{own}"))
        if name.startswith(from_init) and base.init is not None and not base.init.fine_tunes:
            text = f"{base.method.name} prunes the network as it is: leave {name} out, or search for how it retrains"
            raise Rejected(Problem(loc, text))
        if name.startswith(before) and base.init is not None:
            instead = f"write {from_init}{own}" if base.init.fine_tunes else "leave it out"
            raise Rejected(Problem(loc, f"{name} says how the weights of init were trained, which is over: {instead}"))


def _by(task: Choice, request: Request) -> tuple[str, bool]:
    """What the winner is best by, and whether that is a metric of which less is better; raises `Rejected`."""
    metrics = metrics_of(task)
    lower = {f"{VALIDATION}{metric.name}": metric.better == "lower" for metric in metrics}
    primary = next(iter(lower))
    by = request.by or primary
    if by != LOSS and by not in lower:
        names = ", ".join([*lower, LOSS])
        raise Rejected(Problem((*request.loc, "by"), f"task {task} has no {by.removeprefix(VALIDATION)}: {names}"))
    if request.algorithm == "halving" and by not in (primary, LOSS):
        text = f"halving compares candidates on their way, of which {primary} and {LOSS} are known: take one of these"
        raise Rejected(Problem((*request.loc, "by"), text))
    return by, lower.get(by, False)


def _corners(space: Space) -> Iterator[Point]:
    """The two ends of all ranges, and every value of the lists, in as few points as have them."""
    most = max(len(d.values) if isinstance(d, Values) else 2 for d in space)
    for step in range(most):
        yield tuple(
            (d.name, d.values[min(step, len(d.values) - 1)] if isinstance(d, Values) else d.at(min(step, 1 - 1e-9)))
            for d in space
        )


def _at(cell: Cell, values: Point, loc: Loc) -> Cell:
    return {**cell, **{name: Element(value, (*loc, "space", name)) for name, value in values}}


def _search(base: TrialSpec, request: Request, seeds: Sequence[int]) -> Search:
    by, lower = _by(base.task, request)
    number, unit = BUDGETS.fullmatch(request.budget).groups()  # type: ignore[union-attr]
    search = Search(
        base=replace(base, seed=0),
        space=request.space,
        epochs=0,
        algorithm=request.algorithm,
        by=by,
        lower_metric=lower,
        rungs=request.rungs,
        seeds=tuple(seeds[: request.seeds]),
        final_seeds=tuple(seeds),
        target=request.target,
    )
    try:
        search = replace(search, epochs=int(number) * (search.length if unit == "x" else 1))
        for corner in _corners(search.settings):
            search.path(corner, seeds[0])
        _check_budget(search, request)
    except UserError as error:
        raise Rejected(Problem((*request.loc, "space"), str(error))) from error
    return search


def _check_budget(search: Search, request: Request) -> None:
    """Raise `Rejected` where the budget pays for no candidate, or not for the whole grid, or a rung is no epoch."""
    loc, training = (*request.loc, "budget"), search.length * len(search.seeds)
    if search.epochs < training:
        with_seeds = f" with each of {len(search.seeds)} seeds" if len(search.seeds) > 1 else ""
        text = f"{request.budget} pays for no candidate: one takes {search.length} epochs{with_seeds}"
        raise Rejected(Problem(loc, text))
    if search.trainings > MOST_CANDIDATES or planned(search).candidates >= MOST_CANDIDATES:
        raise Rejected(Problem(loc, f"{request.budget} pays for {MOST_CANDIDATES:,} candidates or more: give less"))
    if search.rungs is not None:
        own = search.length - search.shared_epochs
        if search.rungs.start * own < 1:
            text = (
                f"{100 * search.rungs.start:g}% of {own} epochs is less than one; the smallest rung that makes an "
                f"epoch is {100 / own:.4g}%; or take random"
            )
            raise Rejected(Problem((*request.loc, "rungs"), text))
    tries = search.target.tries if search.target else 1
    if planned(search).candidates < 1 and search.target:
        text = f"{request.budget} pays for no bisection: one takes up to {tries} trainings of {training} epochs"
        raise Rejected(Problem(loc, f"{text}; give {tries}x, or target fewer tries"))
    if planned(search).candidates < 1:
        raise Rejected(Problem(loc, f"{request.budget} pays for no candidate"))
    if planned(search).epochs > search.epochs:
        count = planned(search).candidates
        text = (
            f"{request.budget} is {search.epochs // training} trainings, and the grid has {count} points"
            f"{f', each of up to {tries} tries' if search.target else ''}: give more "
            f"({count * tries * len(search.seeds)}x), fewer values, or another algorithm"
        )
        raise Rejected(Problem(loc, text))


def check_equal_cost(searches: Sequence[tuple[Search, Request]]) -> None:
    """Raise `Rejected` where methods of a block get unlike amounts of tuning, and it does not say so for each."""
    by_block = groupby(sorted(searches, key=lambda pair: str(pair[1].loc)), key=lambda pair: pair[1].loc)
    for loc, pairs in by_block:
        amounts: dict[str, set[int]] = {}
        for search, request in pairs:
            if not request.own_budget:
                spent = planned(search).epochs if search.algorithm == "grid" else search.epochs
                amounts.setdefault(search.base.method.name, set()).add(spent)
        if len({epochs for spent in amounts.values() for epochs in spent}) > 1:
            told = ", ".join(f"{method} {' and '.join(map(str, sorted(spent)))}" for method, spent in amounts.items())
            text = (
                f"tuning at unequal cost: epochs of each search are {told}; give a number of epochs that is the same "
                f"for all (budget: {min(map(min, amounts.values()))} epochs), or a budget for each method"
            )
            raise Rejected(Problem((*loc, "budget"), text))
