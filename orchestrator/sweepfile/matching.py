"""Whether patterns of parameters match any of the networks that a sweep trains. Imports neither torch nor Ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prunesweep.orchestrator.sweep import Sweep
from prunesweep.orchestrator.sweepfile.document import listed
from prunesweep.workers.models.parameters import parameter_names, remembered_names
from prunesweep.workers.parameter_patterns import patterns_of, problems
from prunesweep.workers.spec import Choice, TrainSpec, TrialSpec


def require_matching(sweep: Sweep, trials: Iterable[TrialSpec], data_folder: str) -> None:
    """Raise `UserError` with the places of patterns that match nothing, or what another matches too.

    A network is built once, and only where it is not known from before, or something seems to be wrong. `trials` are
    the sweep's with their versions.
    """
    networks: dict[tuple[Choice, Choice], dict[TrainSpec, None]] = {}
    for trial in trials:
        if patterns_of(trial.train):
            networks.setdefault((trial.model, trial.dataset), {})[trial.train] = None
    wrong: dict[str, None] = {}
    for (model, dataset), trainings in networks.items():
        names = remembered_names(model, dataset)
        if not names or any(True for train in trainings for _ in problems(train, names)):
            names = parameter_names(model, dataset, data_folder)
        wrong |= dict.fromkeys(_lines(sweep, trainings, names))
    if wrong:
        raise listed(wrong)


def _lines(sweep: Sweep, trainings: Iterable[TrainSpec], names: list[str]) -> Iterator[str]:
    for train in trainings if names else ():
        for setting, pattern, problem in problems(train, names):
            yield f"{sweep.places.get(f'{setting} {pattern}', f'{sweep.path}: {setting}')}: {problem}"
