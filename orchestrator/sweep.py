"""A sweep, as all who plan, run, remember or show one know it; `orchestrator.sweepfile.read` reads it from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prunesweep.orchestrator.resources import Shares
from prunesweep.orchestrator.search.spec import Search
from prunesweep.workers.init.resolving import Supply
from prunesweep.workers.spec import Stage, TrialSpec

NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}"
"""Of a sweep, and so of its folder in the store: nothing that leads out of it."""


@dataclass(frozen=True)
class About:
    """What a report says of a sweep beside its results; it changes no trial."""

    title: str = ""
    authors: tuple[str, ...] = ()
    notes: str = ""


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read: its distinct trials in the file's order; `duplicates` were asked for more than once.

    `recorded` is None of a file, which is its author's program. Of a sweep that a store remembers it holds the last
    stages of trials with other people's methods, by the trials' keys: nothing is imported by a name out of a store.
    What `searches` choose becomes trials when it is planned.

    `places` are those in the file that name trained weights and patterns of parameters. Of the weights that are there
    (`orchestrator.versions`) `supplies` say by the hash where a run gets them from, and `starts` what starts from them.
    """

    name: str
    trials: tuple[TrialSpec, ...]
    duplicates: int
    resources: Shares
    text: str
    path: Path
    recorded: Mapping[str, Stage] | None = None
    about: About = About()
    places: Mapping[str, str] = field(default_factory=dict)
    supplies: Mapping[str, Supply] = field(default_factory=dict)
    starts: tuple[str, ...] = ()
    searches: tuple[Search, ...] = ()

    @property
    def exemplars(self) -> list[TrialSpec]:
        """Its trials, and of each search one of those that it may try: all datasets, models and methods are there."""
        return [*self.trials, *(search.base for search in self.searches)]
