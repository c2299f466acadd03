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
from prunesweep.orchestrator.run.events import (
    Blocked,
    Elsewhere,
    Event,
    Failed,
    Finished,
    Progressed,
    Retried,
    Started,
    Tick,
    Waiting,
)
from prunesweep.orchestrator.text import duration
from prunesweep.workers.spec import label

LINE_SECONDS, LINE_SHARE, LONGEST_LINE_SECONDS = 5.0, 0.01, 120.0
"""Where there is no terminal, a line this often; the longer it has run, the less often."""

RUNNING_SHOWN = 8


class Progress:
    """Counts of stages and epochs, the rate, and the time left."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.plan, self.stages = plan, dict(plan.runnable)
        self.total = sum(stage.epochs for stage in self.stages.values())
        self.done, self.epochs_finished = 0, 0
        self.running: dict[str, int] = {}
        self.causes: dict[str, str] = {}
        self.blocked_keys: set[str] = set()
        self.elsewhere: set[str] = set()
        self.begun: float | None = None
        self.console = console
        self.live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)
        self.next_line = 0.0

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def hear(self, event: Event) -> None:
        """Take note of what happens; failures are said at once."""
        match event:
            case Started(key):
                self.begun = self.begun or time.monotonic()
                self.running[key] = 0
                self.elsewhere.discard(key)
                self._add(key)
            case Progressed(key, epoch):
                self.running[key] = epoch
            case Finished(key):
                self._add(key)
                self.running.pop(key, None)
                self.elsewhere.discard(key)
                self.done += 1
                self.epochs_finished += self.stages[key].epochs
            case Failed(key, cause, message):
                self.running.pop(key, None)
                self.causes[key] = cause
                said = f"failed: {self._labels[key]}: {message}"
                self.console.print(said, style="red", markup=False, soft_wrap=True)
            case Retried(key, cause, message):
                self.running.pop(key, None)
                said = f"{cause}: {self._labels[key]}: {message}; trying again"
                self.console.print(said, style="yellow", markup=False, soft_wrap=True)
            case Elsewhere(key):
                self.running.pop(key, None)
                self.elsewhere.add(key)
            case Waiting(problem):
                said = f"waiting for the store: {problem}" if problem else "the store is there again"
                self.console.print(said, style="yellow", markup=False, soft_wrap=True)
            case Blocked(key):
                self.blocked_keys.add(key)
            case Tick():
                self._say_line_if_due()

    def _add(self, key: str) -> None:
        """A stage that was done, was lost, and is computed again."""
        if key not in self.stages:
            self.stages[key] = self.plan.stages[key]
            self.total += self.stages[key].epochs

    def _say_line_if_due(self) -> None:
        if not self.console.is_terminal and time.monotonic() >= self.next_line:
            elapsed = time.monotonic() - self.begun if self.begun else 0.0
            self.next_line = time.monotonic() + min(max(LINE_SECONDS, elapsed * LINE_SHARE), LONGEST_LINE_SECONDS)
            self.console.print(self.line(), highlight=False, soft_wrap=True)

    # --- what it says

    @cached_property
    def _labels(self) -> dict[str, str]:
        return labels(self.plan.stages, self.plan.stages)

    @property
    def epochs(self) -> int:
        """Epochs finished in this run."""
        return self.epochs_finished + sum(self.running.values())

    def rate(self) -> float:
        """Epochs per second since the first stage began."""
        elapsed = time.monotonic() - self.begun if self.begun else 0.0
        return self.epochs / elapsed if elapsed > 0 else 0.0

    def seconds_left(self) -> float | None:
        """Remaining epochs at the present rate; None before there is one."""
        lost = sum(self.stages[key].epochs for key in (*self.blocked_keys, *self.causes))
        return (self.total - lost - self.epochs) / self.rate() if self.rate() else None

    def line(self) -> str:
        """The whole state in one line."""
        parts = [f"{self.done}/{len(self.stages)} stages", f"{len(self.running)} running"]
        parts += [f"{len(self.elsewhere)} in another run"] if self.elsewhere else []
        parts += [f"{len(self.causes)} failed"] if self.causes else []
        parts += [f"{len(self.blocked_keys)} blocked"] if self.blocked_keys else []
        parts += [
            f"{self.epochs}/{self.total} epochs",
            f"{self.rate():.1f} epochs/s",
            f"ETA {duration(self.seconds_left())}",
        ]
        return " · ".join(parts)

    def _render(self) -> Group:
        bar = ProgressBar(total=max(self.total, 1), completed=self.epochs, width=40)
        rows = Table.grid(padding=(0, 2))
        for key, epoch in list(self.running.items())[:RUNNING_SHOWN]:
            rows.add_row(Text("  ▸", style="cyan"), label(self.stages[key]), f"{epoch}/{self.stages[key].epochs}")
        return Group(bar, Text(self.line()), rows)
