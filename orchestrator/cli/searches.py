"""What is printed of searches: what they cost, what is decided, and how far the others are."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan
from typing import Any

from rich.markup import escape

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.search.cost import planned
from prunesweep.orchestrator.search.decision import Decision, ranking
from prunesweep.orchestrator.search.spec import Search
from prunesweep.orchestrator.search.target import Target
from prunesweep.orchestrator.status.forecast import Estimate
from prunesweep.orchestrator.text import counted, duration

SHOWN = 20


def plan_lines(plan: Plan, forecast: Estimate | None) -> Iterator[str]:
    """How many searches there are, and what each method is tuned with; nothing for a sweep without searches."""
    counts = plan.counts
    if not counts.searches:
        return
    decided = f"{counts.searches - counts.undecided:,} decided"
    yield f"  searches  {counts.searches:,}, {decided}; {counted(counts.candidates, 'candidate')} drawn so far"
    if counts.undecided:
        winners = sum(len(decision.search.final_seeds) for decision in plan.decisions if decision.is_open)
        left = f"up to {counted(counts.epochs_undecided, 'epoch')} of candidates"
        yield f"            not decided yet: {left}, and {counted(winners, 'trial')} of winners"
    yield f"  tuning    {'; '.join(_by_method(plan, forecast))}"
    yield from _target_lines(plan)


def _target_lines(plan: Plan) -> Iterator[str]:
    """What is looked for by bisection, a line for each method."""
    targets: dict[tuple[str, Target], list[float]] = {}
    for search in (decision.search for decision in plan.decisions):
        if search.target is not None:
            targets.setdefault((search.base.method.name, search.target), []).append(search.base.sparsity)
    for (method, target), sparsities in targets.items():
        wanted = ", ".join(f"{sparsity:g}" for sparsity in dict.fromkeys(sparsities))
        steer = f"{target.steer.name} of {target.steer.low:g} to {target.steer.high:g}"
        near = f"within {target.within:g} by {steer}, up to {target.tries} tries each"
        yield f"  target    {method}: sparsity {wanted} {near}"


def _by_method(plan: Plan, forecast: Estimate | None) -> Iterator[str]:
    """The epochs of each method's candidates, each trained alone, and the time that they take here."""
    epochs: dict[str, int] = {}
    for decision in plan.decisions:
        method = decision.search.base.method.name
        epochs[method] = epochs.get(method, 0) + planned(decision.search).epochs
    known = forecast is not None and forecast.seconds and plan.counts.epochs_to_run
    for method, count in epochs.items():
        seconds = forecast.seconds / plan.counts.epochs_to_run * count if forecast and known else None
        yield f"{method} {counted(count, 'epoch')}" + (f" ({duration(seconds)})" if seconds else "")


def status_lines(plan: Plan) -> Iterator[str]:
    """A line for each search: how far it is, or what it chose."""
    for decision in plan.decisions[:SHOWN]:
        yield f"  {escape(name_of(decision.search))}: {escape(_how_far(decision))}"
    if len(plan.decisions) > SHOWN:
        yield f"  and {len(plan.decisions) - SHOWN:,} searches more; `status --json` lists all"


def search_record(decision: Decision) -> dict[str, Any]:
    """A search for programs: what it is, how far it is, and the winner's settings, None while there is none."""
    search, step = decision.search, decision.rounds[-1]
    return {
        "search": search.key,
        "name": name_of(search),
        "algorithm": search.algorithm,
        "by": search.by,
        "budget_epochs": search.epochs,
        "spent_epochs": decision.spent,
        "candidates": len(decision.candidates),
        "round": len(decision.rounds),
        "round_epoch": step.epoch,
        "round_candidates": len(step.candidates),
        "round_scored": sum(score is not None for score in step.scores),
        "target": None if search.target is None else search.base.sparsity,
        "within": None if search.target is None else search.target.within,
        "winner_sparsity": decision.winner_sparsity,
        "failed": decision.failed,
        "failure": decision.failure or None,
        "winner": None if decision.winner is None else dict(decision.winner.point),
    }


def name_of(search: Search) -> str:
    """`gmp 0.9 resnet8 digits`."""
    base = search.base
    sparsity = [f"{base.sparsity:g}"] if base.sparsity else []
    return " ".join([base.method.name, *sparsity, base.model.name, base.dataset.name])


def _how_far(decision: Decision) -> str:
    tried = counted(len(decision.candidates), "candidate")
    if decision.failed:
        return decision.failure
    if decision.winner is not None:
        settings = ", ".join(f"{name} {_short(value)}" for name, value in decision.winner.point)
        own = decision.winner_sparsity
        reached = "" if own is None else f"; by itself at sparsity {own:.4f}"
        return f"{settings} ({_best(decision)}), the best of {tried}{reached}"
    step = decision.rounds[-1]
    done = sum(score is not None for score in step.scores)
    best = f"; best so far {_best(decision)}" if any(map(decision.eligible, decision.rounds)) else ""
    return f"{done} of {counted(len(step.candidates), 'candidate')} at epoch {step.epoch}{best}"


def _best(decision: Decision) -> str:
    latest = (decision.eligible(step) for step in reversed(decision.rounds))
    scored = decision.final_scores() if decision.search.target else next(pairs for pairs in latest if pairs)
    score = ranking(decision.search.sign, scored)[0][1]
    if isnan(score):
        return "diverged"
    from prunesweep.orchestrator.results.schemas import unit

    return f"{100 * score:.2f}%" if unit(decision.search.by) == "fraction" else f"{score:.4g}"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
