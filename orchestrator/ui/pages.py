"""Pages of a store as HTML, in parts: whoever has a page open asks for those parts alone that have changed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version as package_version
from typing import Any

from jinja2 import Environment, PackageLoader, Template
from markupsafe import Markup

from prunesweep.orchestrator.figures.charts import Chart
from prunesweep.orchestrator.records import known
from prunesweep.orchestrator.report.contents import summary_of
from prunesweep.orchestrator.report.fairness import MET
from prunesweep.orchestrator.report.plotly_charts import plotly_chart
from prunesweep.orchestrator.report.rendering import environment
from prunesweep.orchestrator.results.units import scale
from prunesweep.orchestrator.ui import curves
from prunesweep.orchestrator.ui.pacing import RESTING_SECONDS, Part, Readings, Tempo
from prunesweep.orchestrator.ui.sweeps import Moment, NoSuchSweep, Progress, Watch, trial_of_stage
from prunesweep.orchestrator.ui.trials import TrialMoment, TrialWatch
from prunesweep.orchestrator.ui.watching import WatchedStore
from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import TrialSpec
from prunesweep.workers.store import Store

OWN = "prunesweep.orchestrator.ui"

LOCAL_SECONDS, REMOTE_SECONDS = 2.0, 10.0
"""A store is read again after so long at the earliest, however many look at it."""

ODD = (ValueError, KeyError, TypeError, AttributeError)
"""What reading a sweep may raise whose files are sealed and are not what prunesweep writes: another has made them."""

MOST_TRIALS = 2000
"""More are counted, and found through the tables."""

SWEEP_PARTS = (
    *("progress", "running", "growing", "failures", "comparison", "figures", "differences", "cells", "trials", "cost"),
    "asked",
)
TRIAL_PARTS = ("trial", "growing", "steps", "layers", "settings")


def _none() -> str:
    return ""


@dataclass(frozen=True)
class Page:
    """The HTML of each part, and after how many seconds it is worth asking again; `per_seed` makes a CSV file."""

    title: str
    parts: Mapping[str, str]
    seconds: float
    per_seed: Callable[[], str] = _none

    @property
    def versions(self) -> Mapping[str, str]:
        """By part: equal for equal HTML."""
        return {name: hashlib.sha256(html.encode()).hexdigest()[:16] for name, html in self.parts.items()}


@dataclass(frozen=True)
class Line:
    """A sweep in the list of all, or what is wrong with it."""

    name: str
    title: str
    progress: Progress | None
    problem: str = ""


class Pages:
    """The pages of one store. Each is read once for all who look at it, and not at all while nobody does."""

    def __init__(self, store: Store) -> None:
        self.store = WatchedStore(store)
        self.seconds = LOCAL_SECONDS if store.is_local else REMOTE_SECONDS
        self._pages: Readings[Page] = Readings(self.seconds)
        self._watches: dict[str, Watch] = {}
        self._tempo = Tempo(self.seconds)

    def index(self) -> Page:
        """All sweeps of the store."""
        return self._pages.latest("sweeps", lambda: self._index)

    def sweep(self, name: str) -> Page:
        """One sweep; raises `NoSuchSweep`."""
        return self._pages.latest(("sweep", name), lambda: _Sweep(name, self).page)

    def seeds(self, name: str) -> str:
        """The values of every seed of a sweep, as CSV."""
        return self.sweep(name).per_seed()

    def trial(self, name: str, key: str) -> Page:
        """One trial; raises `NoSuchSweep` or `NoSuchTrial`."""
        return self._pages.latest(("trial", name, key), lambda: _Trial(name, key, self).page)

    def _index(self) -> Page:
        lines = [self._line(name) for name in known(self.store)]
        html = template("sweeps.html").render(lines=lines, store=str(self.store.location))
        runs = any(line.progress.running for line in lines if line.progress)
        return Page("Sweeps", {"sweeps": html}, self._tempo.seconds(html, runs, time.monotonic()))

    def _line(self, name: str) -> Line:
        try:
            if name not in self._watches:
                self._watches[name] = Watch(name, self.store)
            watch = self._watches[name]
            plan = watch.plan()
            return Line(name, plan.sweep.about.title, watch.progress(plan))
        except ODD as error:
            return Line(name, "", None, _said(error))


def _said(error: Exception) -> str:
    odd = "something in its folder or stages is not what prunesweep writes"
    return str(error) if isinstance(error, UserError) else f"{odd} ({type(error).__name__}: {error})"


class _Sweep:
    """The page of one sweep, part by part; what takes long to make is made in a tenth of the time at the most."""

    def __init__(self, name: str, pages: Pages) -> None:
        self.name, self.pages, self.watch = name, pages, Watch(name, pages.store)
        self._results: Part[Mapping[str, str]] = Part()
        self._trials: Part[str] = Part()
        self._tempo = Tempo(pages.seconds)

    def page(self) -> Page:
        try:
            moment = self.watch.moment()
        except NoSuchSweep:
            raise
        except ODD as error:
            html = template("problem.html").render(name=self.name, problem=_said(error))
            return Page(self.name, {"progress": html, **dict.fromkeys(SWEEP_PARTS[1:], "")}, RESTING_SECONDS)
        states = tuple(moment.plan.states.values())
        parts = dict(self._parts(moment, (states, moment.outcome)))
        is_shown = self._results.is_current(moment.outcome) and self._trials.is_current((states, moment.outcome))
        is_busy = bool(moment.progress.running) or not (moment.is_settled and is_shown)
        seconds = self._tempo.seconds(states, is_busy, time.monotonic())
        answer = moment.outcome.answer
        per_seed = answer.per_seed if answer else _none
        return Page(self.name, {name: parts[name] for name in SWEEP_PARTS}, seconds, per_seed)

    def _parts(self, moment: Moment, basis: Hashable) -> Iterator[tuple[str, str]]:
        said = {"moment": moment, "name": self.name, "trial_of": lambda key: trial_of_stage(moment.plan, key)}
        for part in ("progress", "running", "failures", "asked"):
            yield part, template(f"{part}.html").render(said, summary=summary_of(moment.plan.sweep.trials))
        chart = curves.of_running(moment.stages, moment.plan.sweep.exemplars[0].task)
        yield "growing", growing(chart, "Learning curves of what runs")
        yield from self._results.made(moment.outcome, lambda: dict(self._of_results(moment))).items()
        yield "trials", self._trials.made(basis, lambda: _trials(moment, said))

    def _of_results(self, moment: Moment) -> Iterator[tuple[str, str]]:
        answer = moment.outcome.answer
        charts = [(kind, plotly_chart(chart)) for kind, chart in answer.charts] if answer else []
        met = sum(item.verdict == MET for item in answer.checks) if answer else 0
        for part in ("comparison", "figures", "differences", "cells", "cost"):
            yield (
                part,
                template(f"{part}.html").render(
                    outcome=moment.outcome, answer=answer, charts=charts, met=met, name=self.name
                ),
            )


def _trials(moment: Moment, said: Mapping[str, Any]) -> str:
    rows = [Row.of(trial, moment) for trial in moment.plan.sweep.trials[:MOST_TRIALS]]
    return template("trials.html").render(said, rows=rows)


@dataclass(frozen=True)
class Row:
    """A trial in the list of all."""

    key: str
    method: str
    settings: str
    sparsity: str
    seed: int
    state: str
    score: str
    number: float | None

    @classmethod
    def of(cls, trial: TrialSpec, moment: Moment) -> Row:
        """As the moment has it."""
        state, score = moment.plan.trial_state(trial), moment.outcome.scores.get(trial.key)
        options = (f"{_plain(value)}" for name, value in trial.method.options if value is not None)
        return cls(
            key=trial.key,
            method=trial.method.name,
            settings=", ".join([trial.model.name, trial.dataset.name, *options]),
            sparsity=f"{100 * trial.sparsity:.6g}%" if trial.sparsity else "",
            seed=trial.seed,
            state=state,
            score="" if score is None else scale(moment.outcome.metric).number(score),
            number=score,
        )


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


class _Trial:
    """The page of one trial."""

    def __init__(self, name: str, key: str, pages: Pages) -> None:
        self.name, self.pages = name, pages
        self.watch = TrialWatch(name, key, Watch(name, pages.store))
        self._tempo = Tempo(pages.seconds)

    def page(self) -> Page:
        moment = self.watch.moment()
        rows = [row for step in moment.steps for row in step.rows]
        written = ("trial", "steps", "layers", "settings")
        parts = {part: template(f"{part}.html").render(moment=moment, name=self.name) for part in written}
        parts["growing"] = growing(
            curves.of_trial(rows, moment.trial.task), "", "There are none before the first epoch."
        )
        states = tuple(step.state for step in moment.steps)
        seconds = self._tempo.seconds(states, "running" in states, time.monotonic())
        return Page(_title(moment), {name: parts[name] for name in TRIAL_PARTS}, seconds)


def _title(moment: TrialMoment) -> str:
    trial = moment.trial
    at = f" at {100 * trial.sparsity:.6g}%" if trial.sparsity else ""
    return f"{trial.method.name}{at}, seed {trial.seed}"


def growing(chart: Chart | None, heading: str, otherwise: str = "") -> str:
    """Learning curves, or what to say where there are none."""
    drawn = plotly_chart(chart) if chart else None
    return template("growing.html").render(chart=drawn, heading=heading, otherwise=otherwise)


@cache
def _environment() -> Environment:
    made = environment(PackageLoader(OWN, "templates"))
    made.filters["measured"], made.filters["head"] = measured, head
    made.globals["version"] = package_version("prunesweep")
    return made


def measured(value: float, name: str) -> str:
    """`88.50 percent`."""
    unit = scale(name)
    return " ".join(filter(None, [unit.number(value), unit.name]))


def head(name: str) -> str:
    """`test accuracy, percent`."""
    return ", ".join(filter(None, [name.replace("_", " "), scale(name).name]))


def template(name: str) -> Template:
    """A template of the live page, or of the report."""
    return _environment().get_template(name)


def whole(page: Page, kind: str, **said: Any) -> str:
    """A whole HTML page around its parts."""
    parts = {name: Markup(html) for name, html in page.parts.items()}
    return template(kind).render(page=page, parts_of=parts, **said)
