"""The figures of a plan, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """How much is asked for; `epochs_unshared` is what it would cost to train trial by trial."""

    trials: int
    stages: int
    epochs_unshared: int
    epochs: int


@dataclass(frozen=True)
class Counts:
    """The figures of a plan.

    Trials are `done`, `failed`, `unfinished` (begun: running now, or interrupted), `blocked` behind a failed one, or
    `new`. `per_seed` is None where seeds differ in what they ask for. Of `searches` so many are `undecided`; they may
    ask for `epochs_undecided` more, and each winner for its trials.
    """

    trials: int
    duplicates: int
    seeds: int
    done: int
    new: int
    failed: int
    unfinished: int
    blocked: int
    stages: int
    stages_to_run: int
    epochs_unshared: int
    epochs: int
    epochs_to_run: int
    per_seed: Size | None
    searches: int = 0
    undecided: int = 0
    candidates: int = 0
    epochs_undecided: int = 0
