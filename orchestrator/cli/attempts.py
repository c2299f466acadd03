"""What `logs` prints of a store: why stages failed, with tracebacks and the last lines that they wrote."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from prunesweep.orchestrator.cli.printing import console, say
from prunesweep.orchestrator.labels import labels
from prunesweep.orchestrator.lookup import open_store, stored_name
from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.records import require
from prunesweep.orchestrator.run.failures import policy
from prunesweep.workers.claims import newest
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location
from prunesweep.workers.spec import path
from prunesweep.workers.store import Attempt, State, Store


def show_attempts(sweep: str, store: Location, key: str | None) -> None:
    """Of each failed stage the last attempt; with the beginning of a trial's or a stage's key all attempts at that."""
    opened = open_store(store)
    plan = make_plan(require(stored_name(sweep, opened), opened), opened)
    keys = _failed(plan) if key is None else _stages(plan, key)
    if not keys:
        say(f"no stage of {plan.sweep.name} has failed; with the beginning of a key any trial or stage is shown")
    names = labels(plan.stages, keys)
    for stage in keys:
        say(f"[bold]{stage}[/]  {escape(names[stage])}: {plan.states[stage]}")
        attempts = opened.attempts(stage)
        for attempt in attempts[-1:] if key is None else attempts:
            _show(attempt, _ending(attempt, plan.states[stage], opened, stage, last=attempt is attempts[-1]))
        if not attempts:
            say("  not tried yet")


def _failed(plan: Plan) -> list[str]:
    return [key for key, state in plan.states.items() if state is State.FAILED]


def _stages(plan: Plan, beginning: str) -> Sequence[str]:
    trials = [trial for trial in plan.sweep.trials if trial.key.startswith(beginning)]
    stages = [stage.key for trial in trials for stage in path(plan.stages[plan.last[trial.key]])]
    stages += [key for key in plan.stages if key.startswith(beginning)]
    if not stages:
        raise UserError(f'no trial and no stage of {plan.sweep.name} has a key that begins with "{beginning}"')
    return list(dict.fromkeys(stages))


def _ending(attempt: Attempt, state: State, store: Store, stage: str, *, last: bool) -> str:
    if attempt.cause:
        return f"[red]{escape(attempt.cause)}[/]: {policy(attempt.cause).hint}"
    if last and state is State.DONE:
        return "finished"
    claim = newest(store, stage)[1] if last else None
    if claim is not None and not claim.orphaned:
        return "still running, as far as is known"
    return "cut off: its run was stopped or killed, or its machine was lost; the next run goes on"


def _show(attempt: Attempt, ending: str) -> None:
    began = f"{attempt.started_at[:19].replace('T', ' ')} UTC" if attempt.started_at else "at an unknown time"
    say(f"  attempt {escape(attempt.name)}, {began} on {escape(attempt.host or 'an unknown host')}: {ending}")
    said = [*attempt.log, *(attempt.traceback or attempt.message or "").splitlines()]
    for line in said:
        console.print(f"    {line}", markup=False, highlight=False, soft_wrap=True)
