"""The settings that sweeps asked for, taken from their trials, whether or not these have results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from prunesweep.orchestrator.results.filtering import spelled
from prunesweep.workers.models.folder_config import shown
from prunesweep.workers.spec import Choice, TrialSpec

SHOWN = 12
"""Up to so many values of a setting are listed; more are counted."""


@dataclass(frozen=True)
class Setting:
    """A setting with its values in the order of the sweep; `method` is the one that has it, or empty."""

    method: str
    name: str
    values: tuple[str, ...]

    @property
    def text(self) -> str:
        """The values, of many the first ones."""
        more = len(self.values) - SHOWN
        return ", ".join(self.values[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def choices(trials: Iterable[TrialSpec], kind: str) -> list[str]:
    """Datasets or models, with their options: `resnet8 (depth 8, width 16)`."""
    return list(dict.fromkeys(_described(getattr(trial, kind)) for trial in trials))


def _described(choice: Choice) -> str:
    options = ", ".join(f"{name} {_text(value)}" for name, value in shown(choice).items() if value is not None)
    return f"{choice.name} ({options})" if options else choice.name


def training(trials: Sequence[TrialSpec]) -> list[Setting]:
    """The settings of `train` that are set in any trial."""
    specs = list(dict.fromkeys(trial.train for trial in trials))
    values = {f.name: [getattr(spec, f.name) for spec in specs] for f in fields(specs[0])} if specs else {}
    return [Setting("", name, _texts(used)) for name, used in values.items() if set(used) != {None}]


def methods(trials: Sequence[TrialSpec]) -> list[Setting]:
    """The sparsities and hyperparameters of each method; those that no trial sets are left out."""
    by_method: dict[str, list[TrialSpec]] = {}
    for trial in trials:
        by_method.setdefault(trial.method.name, []).append(trial)
    return [setting for name, same in by_method.items() for setting in _method(name, same)]


def _method(method: str, trials: Sequence[TrialSpec]) -> Iterator[Setting]:
    sparsities = _texts(f"{100 * trial.sparsity:.6g}%" for trial in trials if trial.sparsity)
    yield Setting(method, "sparsity", sparsities or ("none",))
    distinct: Mapping[str, list[Any]] = {name: [] for trial in trials for name, _ in trial.method.options}
    for trial in trials:
        for name, value in trial.method.options:
            distinct[name].append(value)
    for name, values in distinct.items():
        if any(value is not None for value in values):
            yield Setting(method, name, _texts(values))


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_text(value) for value in values))


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else spelled(value)
