"""What is said while a sweep runs: counts of trials and stages, the pace of this run, and the time left."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.resources import Resources, Shares
from prunesweep.orchestrator.run.events import Finished, Progressed, Started, Tick
from prunesweep.orchestrator.run.pace import Pace
from prunesweep.orchestrator.run.progress import ProgressDisplay
from prunesweep.orchestrator.run.queue import StageQueue
from prunesweep.orchestrator.run.reasons import Ended
from prunesweep.orchestrator.run.states import StageStates
from prunesweep.orchestrator.status.eta import seconds_left
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.workers.causes import Cause
from prunesweep.workers.spec import TrialSpec
from prunesweep.workers.store import Store
from tests.cases import trial


class Run:
    """A queue without workers, its display, and what that printed."""

    def __init__(
        self, folder: Path, *trials: TrialSpec, terminal_width: int | None = None, rehearsal: bool = False
    ) -> None:
        self.store = Store(folder / "store")
        self.store.require_writable()
        plan = make_plan(Sweep("x", trials, 0, Shares({}), "", Path("x.yaml")), self.store)
        states, self.printed = StageStates(plan.runnable), io.StringIO()
        console = Console(file=self.printed, width=terminal_width or 200, force_terminal=terminal_width is not None)
        self.display = ProgressDisplay(plan, states, console, Pace(), rehearsal)
        self.queue = StageQueue(plan, self.store, states, self.display.hear, Resources(cpus=4))

    def begin(self) -> str:
        key = self.queue.take()
        assert key is not None
        self.display.hear(Started(key))
        return key

    def finish(self, key: str) -> None:
        self.store.publish(self.queue.stages[key], {}, {"metrics": {}})
        self.queue.ended(key, Ended())

    def line(self) -> str:
        """Without what depends on the clock."""
        return self.display.line().partition(" epochs/s")[0].rpartition(" · ")[0]


def test_the_line_counts_trials_and_stages(tmp_path: Path):
    """IMP takes three stages of 6, 1 and 2 epochs, as `tests.cases` has it; GMP one of 6."""
    run = Run(tmp_path, trial("imp"), trial("gmp"))
    epochs = sum(stage.epochs for stage in run.queue.stages.values())
    assert run.line() == f"0/2 trials · 0/4 stages · 0 running · 0/{epochs} epochs"
    dense, gmp = run.begin(), run.begin()
    run.queue.progressed(dense, 2)
    assert run.line() == f"0/2 trials · 0/4 stages · 2 running · 2/{epochs} epochs"
    run.finish(gmp)
    done = 2 + run.queue.stages[gmp].epochs
    assert run.line() == f"1/2 trials · 1/4 stages · 1 running · {done}/{epochs} epochs"
    run.queue.ended(dense, Ended(Cause.DIVERGED, "loss is nan"))
    done = run.queue.stages[gmp].epochs
    assert run.line() == f"1/2 trials · 1/4 stages · 0 running · 1 failed · 2 blocked · {done}/{epochs} epochs"
    assert "loss is nan" in run.printed.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_on_a_terminal_nothing_is_cut_but_names(tmp_path: Path, width: int):
    run = Run(tmp_path, *(replace(trial("gmp"), seed=seed) for seed in range(12)), terminal_width=width)
    for _ in range(10):
        run.begin()
    console = run.display.console
    with console.capture() as capture:
        console.print(run.display)
    lines = Text.from_ansi(capture.get()).plain.splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for part in run.display.parts():
        assert any(part in line for line in lines), f"{part} is cut in\n{text}"
    assert sum(" ▸ " in line and "0/6 " in line for line in lines) == 8
    assert "and 2 more" in text


def test_a_dumb_terminal_gets_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "dumb")
    run = Run(tmp_path, trial("gmp"), terminal_width=80)
    run.display.next_line = 0.0
    with run.display:
        run.display.hear(Tick())
    assert run.printed.getvalue() == run.display.line() + "\n"


def test_what_is_done_before_counts_among_the_trials(tmp_path: Path):
    run = Run(tmp_path, trial("gmp"))
    run.finish(run.begin())
    again = Run(tmp_path, trial("gmp"), replace(trial("gmp"), seed=7))
    assert again.line().startswith("1/2 trials · 0/1 stages")


def test_the_time_left_is_that_of_work_done_now():
    """A stage of 90 epochs that a checkpoint had brought to 80: the 81st is the first that was computed."""
    pace = Pace()
    pace.hear(Started("a"))
    pace.hear(Progressed("a", 81, 80))
    assert pace.epochs == 1
    pace.hear(Progressed("a", 84, 80))
    assert pace.epochs == 4
    pace.hear(Started("a"))  # its worker died, and the checkpoint is of epoch 83
    pace.hear(Progressed("a", 84, 83))
    assert pace.epochs == 5
    pace.hear(Finished("another run's"))
    assert pace.epochs == 5
    assert seconds_left(9, 0.5) == pytest.approx(18)
    assert seconds_left(9, None) is None
    assert Pace().epochs_per_second is None


def test_best_and_latest_accuracy_by_method(tmp_path: Path):
    """Of trials that are finished; GMP of sparsity 0.9 is the first, that of 0.5 the second and better one."""
    run = Run(tmp_path, trial("gmp", 0.9), trial("gmp", 0.5), trial("imp"), terminal_width=60)
    first, second, dense = run.begin(), run.begin(), run.begin()
    dense, first, second = sorted((first, second, dense), key=lambda key: run.queue.stages[key].sparsity)
    first, second = second, first
    run.queue.progressed(dense, 3, metric=0.5)
    run.queue.progressed(first, 6, metric=0.8125)
    run.queue.progressed(second, 1, metric=0.25)
    assert run.display.reached.best == {}, "nothing is finished"
    run.finish(first)
    run.queue.progressed(second, 6, metric=0.95)
    assert run.display.line().endswith(" · best on validation: gmp 81.2% at 90%")
    run.finish(second)
    run.queue.progressed(dense, 6, metric=0.99)
    run.finish(dense)
    assert run.display.line().endswith(" · best on validation: gmp 95.0% at 50%"), "imp goes on"
    again = run.begin()
    assert "▸ 0/1  prune" in shown(run)
    run.queue.progressed(again, 1, metric=0.4)
    assert "▸ 1/1 40.0% prune" in shown(run)
    assert " ".join(shown(run).splitlines()[-1].split()) == "gmp best 95.0% at 50% latest 95.0% at 50%"


def shown(run: Run) -> str:
    console = run.display.console
    with console.capture() as capture:
        console.print(run.display)
    return Text.from_ansi(capture.get()).plain


def test_a_rehearsal_shows_no_epochs(tmp_path: Path):
    run = Run(tmp_path, trial("gmp"), rehearsal=True)
    key = run.begin()
    run.queue.progressed(key, 6, metric=0.5)
    run.finish(key)
    assert run.display.line() == "1/1 trials · 1/1 stages · 0 running"
