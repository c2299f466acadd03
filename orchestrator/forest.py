"""A sweep's trials as a forest of stages. Imports neither torch nor Ray."""

from __future__ import annotations

from collections.abc import Mapping

from prunesweep.orchestrator.sweep import Sweep
from prunesweep.workers import methods
from prunesweep.workers.errors import UserError
from prunesweep.workers.lineage import work
from prunesweep.workers.methods import METHODS
from prunesweep.workers.spec import PartStage, Stage, TrialSpec
from prunesweep.workers.store import State

MAX_STAGES = 200_000
"""Planning so many takes a minute or two, and with `MAX_TRIALS` trials less than 500 MB."""


def forest(sweep: Sweep) -> tuple[dict[str, Stage], dict[str, str]]:
    """A sweep's stages by key, parents before children, and the last one's key by trial; raises `UserError`."""
    stages: dict[str, Stage] = {}
    last: dict[str, str] = {}
    for trial in sweep.trials:
        stage = last_stage(trial, sweep)
        last[trial.key] = stage.key
        for step in work(stage):
            stages.setdefault(step.key, step)
        if len(stages) > MAX_STAGES:
            raise UserError(
                f"{sweep.path}: {len(sweep.trials):,} trials need more than {MAX_STAGES:,} stages: "
                "take fewer phases, or make several sweeps of it"
            )
    return in_order(stages), last


def in_order(stages: dict[str, Stage]) -> dict[str, Stage]:
    """With every part before what continues from it."""
    parts = shorter_parts(stages)
    ordered: dict[str, Stage] = {}
    for key, stage in stages.items():
        for step in (*parts.get(key, ()), stage):
            ordered.setdefault(step.key, step)
    return ordered


def shorter_parts(stages: Mapping[str, Stage]) -> dict[str, list[PartStage]]:
    """By stage the shorter parts of it that are among these, the shortest first."""
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


def last_stage(trial: TrialSpec, sweep: Sweep) -> Stage:
    """The stage whose result is the trial's. Of a remembered sweep no code is imported for it (docs/security.md)."""
    if sweep.recorded is None:
        return methods.last_stage(trial)
    if trial.method.name not in METHODS:
        if trial.key in sweep.recorded:
            return sweep.recorded[trial.key]
        raise UserError(
            f"the record of {sweep.name} names the method {trial.method.name}, and does not hold what it asks for; "
            "nothing is imported because a store names it: run the sweep's file again"
        )
    try:
        return methods.last_stage(trial)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"the record of {sweep.name} asks {trial.method.name} for what it cannot do ({error}): "
            "run the sweep's file again"
        ) from error


def whole_states(stages: Mapping[str, Stage], states: Mapping[str, State]) -> dict[str, State]:
    """A result counts only with those that it stands on: a row needs its whole path, and a lost parent is run again."""
    whole: dict[str, State] = {}
    for key, stage in stages.items():
        orphaned = stage.parent is not None and whole[stage.parent.key] is not State.DONE
        whole[key] = State.STARTED if orphaned and states[key] is State.DONE else states[key]
    return whole
