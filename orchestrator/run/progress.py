"""What a person sees while a sweep runs: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from functools import cached_property

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from prunesweep.orchestrator.labels import labels
from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.run.events import Event, Failed, Grown, Retried, StoreLost, Tick
from prunesweep.orchestrator.run.pace import Pace
from prunesweep.orchestrator.run.reached import AllReached, shown
from prunesweep.orchestrator.run.states import BehindFailure, Done, GivenUp, Running, RunningElsewhere, StageStates
from prunesweep.orchestrator.status.eta import seconds_left
from prunesweep.orchestrator.text import duration

LINE_SECONDS, LINE_SHARE, LONGEST_LINE_SECONDS = 5.0, 0.01, 120.0
"""Where there is no terminal, a line this often; the longer it has run, the less often."""

RUNNING_SHOWN = 8
METHODS_SHOWN = 8
BAR_WIDTH = 60
SEPARATOR = " · "


class ProgressDisplay:
    """Counts of trials, stages and epochs, the pace, the time left, and how good methods are on validation images.

    Trials are all those of the sweep; stages and epochs are those that this run was to compute. What stages are doing
    is read from `states`. Of a `rehearsal` epochs and metrics say nothing, and are left out.
    """

    def __init__(self, plan: Plan, states: StageStates, console: Console, pace: Pace, rehearsal: bool = False) -> None:
        self.plan, self.states, self.console, self.pace, self.rehearsal = plan, states, console, pace, rehearsal
        self.reached = AllReached(plan)
        self.live = Live(console=console, get_renderable=self.__rich__, refresh_per_second=2, transient=True)
        self.next_line = time.monotonic() + LINE_SECONDS
        self.redraws = console.is_terminal and not console.is_dumb_terminal

    def __enter__(self) -> ProgressDisplay:
        if self.redraws:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.redraws:
            self.live.stop()

    def hear(self, event: Event) -> None:
        """Count the work that is done; failures, and a store that is lost, are said at once."""
        self.pace.hear(event)
        if not self.rehearsal:
            self.reached.hear(event)
        match event:
            case Grown(plan):
                self.plan = self.reached.plan = plan
                vars(self).pop("_labels", None)
            case Failed(key, _, message):
                self._say(f"failed: {self._labels[key]}: {message}", "red")
            case Retried(key, cause, message):
                self._say(f"{cause}: {self._labels[key]}: {message}; trying again", "yellow")
            case StoreLost(problem):
                self._say(f"waiting for the store: {problem}" if problem else "the store is there again", "yellow")
            case Tick():
                self._say_line_if_due()

    def _say(self, text: str, style: str) -> None:
        self.console.print(text, style=style, markup=False, soft_wrap=True)

    def _say_line_if_due(self) -> None:
        if not self.redraws and time.monotonic() >= self.next_line:
            wait = min(max(LINE_SECONDS, self.pace.seconds * LINE_SHARE), LONGEST_LINE_SECONDS)
            self.next_line = time.monotonic() + wait
            self.console.print(self.line(), highlight=False, soft_wrap=True)

    @cached_property
    def _labels(self) -> dict[str, str]:
        return labels(self.plan.stages, self.plan.stages)

    # --- figures

    def trials_done(self) -> int:
        """Of the whole sweep: those whose last stage has a result, and is not computed again."""
        open_keys = {key for key in self.states if key not in self.states.of(Done)}
        open_keys |= {key for key in self.plan.to_run if key not in self.states}
        return len(self.plan.sweep.trials) - sum(len(self.plan.trials_of.get(key, ())) for key in open_keys)

    def epochs_done(self) -> int:
        """Of the stages of this run, with those epochs that a checkpoint or another run had done."""
        plan, running = self.plan, self.states.of(Running)
        left = sum(min(plan.stages[key].epochs - state.epoch, plan.epochs(key)) for key, state in running.items())
        return sum(map(plan.epochs, [*running, *self.states.of(Done)])) - left

    def epochs(self) -> int:
        """Of all stages of this run."""
        return sum(map(self.plan.epochs, self.states))

    def seconds_left(self) -> float | None:
        """For the epochs that failures do not hold up, at the pace of this run; None before there is one."""
        held_up = [*self.states.of(GivenUp), *self.states.of(BehindFailure)]
        epochs = self.epochs() - self.epochs_done() - sum(map(self.plan.epochs, held_up))
        return seconds_left(epochs, self.pace.epochs_per_second)

    def line(self) -> str:
        """The whole state in one line."""
        best = ", ".join(f"{method} {reached}" for method, reached in self.reached.best.items())
        return SEPARATOR.join([*self.parts(), *([f"best on validation: {best}"] if best else [])])

    def parts(self) -> list[str]:
        """The whole state, figure by figure."""
        counts = {
            "running": len(self.states.of(Running)),
            "in another run": len(self.states.of(RunningElsewhere)),
            "failed": len(self.states.of(GivenUp)),
            "blocked": len(self.states.of(BehindFailure)),
        }
        done = [
            f"{self.trials_done()}/{len(self.plan.sweep.trials)} trials",
            f"{len(self.states.of(Done))}/{len(self.states)} stages",
            *(f"{count} {what}" for what, count in counts.items() if count or what == "running"),
        ]
        return done if self.rehearsal else [*done, *self._in_epochs()]

    def _in_epochs(self) -> list[str]:
        return [
            f"{self.epochs_done()}/{self.epochs()} epochs",
            f"{self.pace.epochs_per_second or 0.0:.1f} epochs/s",
            f"ETA {duration(self.seconds_left())}",
        ]

    def __rich__(self) -> Group:
        """A bar, the figures, and what runs; names that are too long for the terminal are cut, figures never are."""
        width = min(BAR_WIDTH, self.console.width)
        bar = Table.grid()  # a bar by itself ends no line
        bar.add_row(ProgressBar(total=max(self.epochs(), 1), completed=self.epochs_done(), width=width))
        figures = (Text(line) for line in _wrapped(self.parts(), self.console.width))
        return Group(bar, *figures, self._running(), self._methods())

    def _running(self) -> Table:
        """Epoch and primary metric, on validation images, of the stages that run."""
        rows = Table.grid(padding=(0, 1))
        rows.add_column(style="cyan", no_wrap=True)
        rows.add_column(justify="right", no_wrap=True)
        rows.add_column(justify="right", no_wrap=True)
        rows.add_column(no_wrap=True, overflow="ellipsis")
        running = self.states.of(Running)
        for key, state in list(running.items())[:RUNNING_SHOWN]:
            value = self.reached.now.get(key) if state.epoch else None
            metric = "" if value is None else shown(self.reached.metric, value)
            rows.add_row(" ▸", f"{state.epoch}/{self.plan.stages[key].epochs}", metric, Text(self._labels[key]))
        if len(running) > RUNNING_SHOWN:
            rows.add_row("", "", "", f"and {len(running) - RUNNING_SHOWN} more")
        return rows

    def _methods(self) -> Table:
        """What trials have come to, in the order in which methods first ended; figures are never cut."""
        rows = Table.grid(padding=(0, 2))
        rows.add_column(no_wrap=True, overflow="ellipsis")
        rows.add_column(no_wrap=True, min_width=23)
        rows.add_column(no_wrap=True, min_width=23)
        latest = self.reached.latest
        for method in list(latest)[:METHODS_SHOWN]:
            rows.add_row(Text(f" {method}"), f"best {self.reached.best[method]}", f"latest {latest[method]}")
        if len(latest) > METHODS_SHOWN:
            rows.add_row(f" and {len(latest) - METHODS_SHOWN} more methods", "", "")
        return rows


def _wrapped(parts: list[str], width: int) -> list[str]:
    """The figures on as few lines as hold them, none divided."""
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]}{SEPARATOR}{part}"
        lines = [*lines[:-1], longer] if len(longer) <= width else [*lines, part]
    return lines
