"""Small trials that the tests of both packages share."""

from __future__ import annotations

from prunesweep.workers import data, methods, models
from prunesweep.workers.spec import Stage, TrainSpec, TrialSpec

TINY = data.choose("synthetic", {"shape": (1, 8, 8), "classes": 4, "images": 200, "test_images": 60})
RESNET = models.choose("cifar_resnet", {"depth": 8, "width": 4})
TRAIN = TrainSpec(epochs=6, batch_size=32, lr=0.05, warmup_epochs=1)

TAYLOR = "taylor:Taylor"
"""A method that is in no registry: the documented example of one's own."""

SETTINGS: dict[str, dict[str, object]] = {
    "dense": {},
    "small_dense": {},
    "imp": {"retrain_epochs": 3, "phases": 2},
    "bimp": {"pretrain_epochs": 3},
    "random": {"retrain_epochs": 2},
    "gmp": {"pruning_interval": 1},
    "gsm": {"momentum": 0.95},
    "dpf": {"pruning_interval": 1, "mask_interval": 4},
    "dnw": {},
    "lc": {"penalty": 1e-3, "penalty_growth": 1.5},
    "str": {"s_initial": -3.0},
    "dst": {"penalty": 1e-3},
    "cs": {"s_initial": 0.1, "beta_final": 50.0, "penalty": 1e-3},
    "static": {},
    "set": {"update_interval": 4, "drop_fraction": 0.05},
    "rigl": {"update_interval": 4},
    "snip": {},
    "grasp": {},
    "synflow": {"rounds": 10},
    "acdc": {"warmup": 1, "phase": 1, "final_dense": 1, "final_compressed": 1},
    "granet": {"update_interval": 5, "prune_until": 0.75},
    "sr_ste": {"pattern": "1:2", "refinement": 1e-2},
    TAYLOR: {"when": 0.5},
}
"""For every method of the registry, and one that is not in it, settings that exercise it on `TRAIN`."""


def trial(method: str, sparsity: float = 0.75, *, train: TrainSpec = TRAIN, seed: int = 0) -> TrialSpec:
    """A trial of a method on tiny data."""
    found = methods.method_class(method)
    settings = found(**SETTINGS.get(method, {}))
    made = TrialSpec(TINY, RESNET, settings.choice(method), seed, sparsity if found.takes_sparsity else 0.0, train)
    settings.check(made)
    return made


def last_stage(trial: TrialSpec) -> Stage:
    """The stage whose result is the trial's."""
    return methods.create(trial.method).stage(trial)
