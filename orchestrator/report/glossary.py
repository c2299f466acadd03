"""What the names of methods and retraining schedules mean, for readers of a report who have never seen them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import getdoc

from prunesweep.workers.methods import METHODS, method_class
from prunesweep.workers.spec import TrialSpec

SCHEDULES: Mapping[str, str] = {
    "FT": "fine-tuning: the last learning rate of dense training, held constant (Han et al. 2015)",
    "LRW": "learning rate rewinding: the last epochs of the dense schedule once more (Renda et al. 2020)",
    "SLR": "scaled learning rate restarting: the whole dense schedule, squeezed into the retraining (Le & Hua 2021)",
    "CLR": "cyclic learning rate restarting: a cosine from the largest dense rate to the smallest (Le & Hua 2021)",
    "LLR": "linear learning rate restarting: a line from the largest dense rate to zero (Zimmer et al. 2023)",
    "ALLR": "adaptive linear restarting: LLR, lower where pruning changed little or retraining is short "
    "(Zimmer et al. 2023)",
    "constant": "one learning rate, given in the sweep file",
    "stepped": "a learning rate that falls in steps from a value given in the sweep file",
    "cosine": "a cosine from a value given in the sweep file to zero",
    "linear": "a line from a value given in the sweep file to zero",
}
"""Of every retraining schedule, what the learning rate does."""

TERMS: Mapping[str, str] = {
    "sparsity": "the share of the prunable weights that are zero",
    "20+2 epochs": "20 epochs of training before the first prune, and 2 of retraining after it",
    "theoretical speedup": "multiply-adds of the dense network by those of the weights that are left; not a time",
    "compression": "parameters of the dense network by those that are not zero",
}


def methods(trials: Iterable[TrialSpec]) -> dict[str, str]:
    """The methods of these trials with the first sentences of their descriptions; one's own are not described.

    A report imports no code that a store names, so that only methods that come with prunesweep are looked up.
    """
    names = dict.fromkeys(trial.method.name for trial in trials)
    return {name: (getdoc(method_class(name)) or "").partition("\n")[0] for name in names if name in METHODS}


def schedules(trials: Iterable[TrialSpec]) -> dict[str, str]:
    """The retraining schedules of these trials."""
    options = (dict(trial.method.options).get("retrain_schedule") for trial in trials)
    names = dict.fromkeys(name for name in options if isinstance(name, str))
    return {name: SCHEDULES[name] for name in names if name in SCHEDULES}
