"""What is printed of a plan: its trials and epochs, what is done, and what the rest will cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.markup import escape

from prunesweep.orchestrator.cli.printing import say
from prunesweep.orchestrator.cli.searches import plan_lines
from prunesweep.orchestrator.plan import Counts, Plan
from prunesweep.orchestrator.resources import Resources
from prunesweep.orchestrator.status.forecast import Estimate
from prunesweep.orchestrator.text import counted, duration, size
from prunesweep.workers.host import usable_cores

KEYS_SHOWN = 5

COLOURS = {"done": "green", "new": "cyan", "unfinished": "yellow", "failed": "red", "blocked": "red"}


def show_plan(plan: Plan, forecast: Estimate | None) -> None:
    """The figures of a plan, in a few lines."""
    counts = plan.counts
    merged = f"; {counted(counts.duplicates, 'equal trial')} merged" if counts.duplicates else ""
    say(f"[bold]{plan.sweep.name}[/]: {_size(counts)} in {counted(counts.stages, 'stage')}{merged}")
    say(f"  trials    {states(counts) or 'none known yet'}")
    say(f"  epochs    {_epochs(counts)}")
    for line in plan.sweep.starts or dict.fromkeys(str(trial.init) for trial in plan.sweep.trials if trial.init):
        say(f"  init      {escape(line)}")
    for line in (*(f"  {line}" for line in (*_frozen_lines(plan), *damaged_lines(plan))), *plan_lines(plan, forecast)):
        say(line)
    if not plan.to_run:
        say("  to train  nothing")
        return
    epochs, stages = counted(counts.epochs_to_run, "epoch"), counted(counts.stages_to_run, "stage")
    say(f"  to train  {epochs} in {stages}")
    say(f"  estimate  {_forecast(plan, forecast)}")
    if forecast is not None and not forecast.fits:
        say(f"  [red]disk[/]      only {size(forecast.free_bytes or 0)} are free: `run` refuses without --force")


def _frozen_lines(plan: Plan) -> Iterator[str]:
    """What does not train, where a sweep freezes something."""
    counts = Counter(trial.train.freeze for trial in plan.sweep.trials)
    for patterns, trials in counts.items():
        if patterns:
            whose = "" if len(counts) == 1 else f" in {counted(trials, 'trial')}"
            yield f"frozen    {escape(', '.join(patterns))}{whose}"


def damaged_lines(plan: Plan) -> Iterator[str]:
    """The stages whose result is damaged, where there are any."""
    if plan.damaged:
        shown = ", ".join(plan.damaged[:KEYS_SHOWN]) + (", ..." if len(plan.damaged) > KEYS_SHOWN else "")
        what = counted(len(plan.damaged), "stage")
        yield f"[red]damaged[/]   the result of {what}, to be set aside and computed again: {shown}"


def _size(counts: Counts) -> str:
    """`108 trials (54 with each of 2 seeds)`."""
    by_seed = f" ({counts.per_seed.trials:,} with each of {counts.seeds} seeds)" if counts.per_seed else ""
    return counted(counts.trials, "trial") + (by_seed if counts.seeds > 1 else "")


def states(counts: Counts) -> str:
    """`3 done, 4 new`, in colours."""
    numbers = {state: getattr(counts, state) for state in COLOURS}
    return ", ".join(f"[{COLOURS[state]}]{number:,} {state}[/]" for state, number in numbers.items() if number)


def _epochs(counts: Counts) -> str:
    if counts.epochs == counts.epochs_unshared:
        return f"{counts.epochs:,}; no two trials share a stage"
    less = f"({counts.epochs_unshared / counts.epochs:.1f}x less)"
    text = f"{counts.epochs:,} instead of {counts.epochs_unshared:,} without sharing {less}"
    if counts.per_seed and counts.seeds > 1:
        text += f"; {counts.per_seed.epochs:,} instead of {counts.per_seed.epochs_unshared:,} a seed"
    return text


def _forecast(plan: Plan, forecast: Estimate | None) -> str:
    if forecast is None:
        return "unknown: the store has no stages like these yet; `run --smoke` measures some"
    at_once = min((_at_once(plan.shares[key]) for key in plan.to_run), default=0)
    at_once = min(at_once, len(plan.to_run))
    here = f", {duration(forecast.seconds / at_once)} with {at_once} at a time on this machine" if at_once > 1 else ""
    return f"{duration(forecast.seconds)} of work{here}; {size(forecast.bytes)} of disk"


def _at_once(resources: Resources) -> int:
    """How many stages this machine runs side by side; 0 where a GPU is asked for, which only the cluster can count."""
    return 0 if resources.gpus else int(usable_cores() / (resources.cpus * resources.replicas))
