"""Learning rates and sparsities as pure functions of the iteration; no torch, nothing to step, nothing to checkpoint.

docs/methods.md lists the formulas; `peak` is eta, `epoch` is E (iterations per epoch).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil, cos, floor, isfinite, pi, sqrt

from prunesweep.workers import registry
from prunesweep.workers.errors import SpecError, unknown
from prunesweep.workers.optimizer_settings import is_own
from prunesweep.workers.spec import PruneStage, RetrainSpec, TrainSpec, Whole

Schedule = Callable[[int], float]
"""Learning rate at iteration 0, 1, ... of a stage."""

DENSE: dict[str, tuple[str, ...]] = {
    "constant": (),
    "step": ("step_epochs", "gamma"),
    "multistep": ("milestones", "gamma"),
    "exponential": ("gamma",),
    "linear": ("end_lr",),
    "cosine": ("end_lr",),
    "polynomial": ("power", "end_lr"),
    "one_cycle": ("rise", "end_lr"),
    "inverse_sqrt": (),
}
"""The dense schedules and the settings of `TrainSpec` that each takes."""

RETRAINING = ("FT", "LRW", "SLR", "CLR", "LLR", "ALLR")
"""Retraining schedules that are derived from the dense one."""

DESCRIBES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("FT", "LRW", "SLR", "CLR"), ("epochs", "lr", "schedule")),
    "LLR": ("lr",),
    "ALLR": ("epochs", "lr"),
}
"""What each of them must know of the training that the network comes from."""

TUNABLE = ("constant", "stepped", "cosine", "linear")
"""Retraining schedules with an initial value and a warm-up of their own."""

RETRAIN_WARMUP = 0.1

TRIED = 100
"""Iterations at which a schedule of one's own is tried."""

CYCLE_START = 25
"""A cycle begins with the peak divided by this, as torch's `OneCycleLR` does."""


@dataclass(frozen=True)
class Pruned:
    """What ALLR needs to know of the prune before this phase.

    `norm_drop` is ||W - W_pruned|| / ||W|| over prunable weights, `fraction` the share of the living weights pruned.
    """

    norm_drop: float
    fraction: float


def check_dense(train: TrainSpec) -> None:
    """Raise `SpecError` when the schedule is unknown, lacks a setting, has another's, or would not fall as one does."""
    if train.schedule not in DENSE and not is_own(train.schedule):
        raise SpecError("train.schedule", unknown("schedule", train.schedule, DENSE, more=" or module:name"))
    takes = DENSE.get(train.schedule, ())
    given = {"step_epochs": train.step_epochs, "milestones": train.milestones, "gamma": train.gamma}
    given |= {"power": train.power, "rise": train.rise}
    for name, value in given.items():
        if name in takes and value is None:
            raise SpecError(f"train.{name}", f"schedule {train.schedule} needs {name}")
        if name not in takes and value is not None:
            raise SpecError(f"train.{name}", f"schedule {train.schedule} has no {name}")
    if "end_lr" not in takes and train.end_lr:
        raise SpecError("train.end_lr", f"schedule {train.schedule} has no end_lr")
    if train.warmup_epochs >= train.epochs:
        raise SpecError(
            "train.warmup_epochs", f"{train.warmup_epochs} warm-up epochs leave none of {train.epochs} for training"
        )
    if train.schedule == "one_cycle" and train.warmup_epochs:
        raise SpecError("train.warmup_epochs", "the rise of one_cycle is its warm-up; leave this out")
    if train.schedule == "inverse_sqrt" and not train.warmup_epochs:
        raise SpecError(
            "train.warmup_epochs", "inverse_sqrt falls with the time over that of its warm-up; give it warmup_epochs"
        )
    _check_falling(train)
    if is_own(train.schedule):
        _check_own(train.schedule)


def _check_own(name: str) -> None:
    """One's own is called with an iteration and their number after the warm-up, and gives a factor of the peak."""
    factor = registry.load(name)
    if not callable(factor):
        raise SpecError("train.schedule", f"{name} is a {type(factor).__name__}, not a function")
    for k in range(TRIED):
        try:
            value = factor(k, TRIED)
        except TypeError as error:
            raise SpecError(
                "train.schedule", f"{name} is called with an iteration and their number, which fails: {error}"
            ) from error
        if not isinstance(value, int | float) or not isfinite(value) or value < 0:
            raise SpecError(
                "train.schedule",
                f"{name}({k}, {TRIED}) is {value!r:.40}, where a factor of train.lr of at least 0 is wanted",
            )


def _check_falling(train: TrainSpec) -> None:
    """A learning rate falls, if it changes at all, and at epochs that there are."""
    milestones = train.milestones or ()
    if list(milestones) != sorted(set(milestones)):
        raise SpecError("train.milestones", f"{list(milestones)} do not ascend; list each epoch once, in order")
    if milestones and milestones[-1] >= train.epochs:
        raise SpecError(
            "train.milestones",
            f"{milestones[-1]} is never reached in {train.epochs} epochs; take milestones below train.epochs",
        )
    if train.step_epochs is not None and train.step_epochs >= train.epochs:
        raise SpecError(
            "train.step_epochs",
            f"the first drop, after {train.step_epochs} epochs, never comes in {train.epochs}; take step_epochs below "
            "train.epochs, or schedule constant",
        )
    if train.gamma is not None and train.gamma > 1:
        raise SpecError("train.gamma", f"with {train.gamma:g} the learning rate would grow; take a factor of at most 1")
    if train.end_lr > train.lr:
        raise SpecError(
            "train.end_lr", f"{train.end_lr:g} is above the peak train.lr, {train.lr:g}; take an end_lr of at most that"
        )


def of_stage(stage: Whole, epoch: int, norm_drop: float) -> Schedule:
    """Of a stage whose prune dropped that share of the norm; a training stage prunes nothing."""
    if not isinstance(stage, PruneStage) or stage.retrain is None:
        return dense(stage.root.train, epoch)
    before = stage.parent.sparsity
    pruned = Pruned(norm_drop, (stage.sparsity - before) / (1.0 - before))
    return retraining(stage.retrain, stage.root.train, epoch, pruned)


def dense(train: TrainSpec, epoch: int) -> Schedule:
    """The learning rate of dense training, `epoch` iterations an epoch, over `train.epochs * epoch` iterations.

    A linear warm-up from 0 comes first; `step`, `multistep` and `inverse_sqrt` count from the very start, the others
    run over what remains after it.
    """
    total, warmup = train.epochs * epoch, train.warmup_epochs * epoch
    after = _after_warmup(train, epoch, total - warmup)

    def lr(k: int) -> float:
        return train.lr * k / warmup if k < warmup else after(k)

    return lr


def _after_warmup(train: TrainSpec, epoch: int, length: int) -> Schedule:
    peak, end, gamma = train.lr, train.end_lr, train.gamma or 0.0
    warmup = train.warmup_epochs * epoch
    match train.schedule:
        case "constant" | "":  # of a training that nobody has described, and nothing asks for
            return lambda k: peak
        case "step":
            return lambda k: peak * gamma ** (k // ((train.step_epochs or 1) * epoch))
        case "multistep":
            return lambda k: peak * gamma ** sum(k >= m * epoch for m in train.milestones or ())
        case "exponential":
            return lambda k: peak * gamma ** ((k - warmup) / epoch)
        case "linear":
            return lambda k: _linear(peak, end, (k - warmup) / length)
        case "cosine":
            return lambda k: _cosine(peak, end, (k - warmup) / length)
        case "polynomial":
            power = train.power or 0.0
            return lambda k: end + (peak - end) * (1.0 - (k - warmup) / length) ** power
        case "one_cycle":
            return partial(_cycle, peak, end, train.rise or 0.0, length)
        case "inverse_sqrt":
            return lambda k: peak * sqrt(warmup / k)
    factor = registry.load(train.schedule)
    return lambda k: peak * float(factor(k - warmup, length))


def _cycle(peak: float, end: float, rise: float, length: int, k: int) -> float:
    """Half a cosine up in the fraction `rise` of the length, half a one down in the rest (Smith & Topin 2018)."""
    t = k / length
    if t < rise:
        return _cosine(peak, peak / CYCLE_START, 1.0 - t / rise)
    return _cosine(peak, end, (t - rise) / (1.0 - rise))


def _falls_from(train: TrainSpec, epoch: int) -> int:
    """The iteration from which on a dense schedule falls: warm-up, or the rise of a cycle, is over."""
    if train.schedule == "one_cycle":
        return ceil((train.rise or 0.0) * train.epochs * epoch)
    return train.warmup_epochs * epoch


def retraining(spec: RetrainSpec, train: TrainSpec, epoch: int, pruned: Pruned) -> Schedule:
    """The learning rate of one retraining phase over `spec.epochs * epoch` iterations.

    `train` is the training that made the dense network, `epoch` its iterations per epoch.
    """
    if spec.schedule in TUNABLE:
        return _tunable(spec, epoch)
    eta = dense(train, epoch)
    dense_length, length = train.epochs * epoch, spec.epochs * epoch
    if spec.schedule == "FT":
        last = eta(dense_length - 1)
        return lambda k: last
    if spec.schedule == "LRW":
        assert length <= dense_length, "checked when the sweep was read"
        return lambda k: eta(dense_length - length + k)
    start = _falls_from(train, epoch)
    values = [eta(k) for k in range(start, dense_length)] or [train.lr]  # LLR needs no length
    peak, lowest = max(values), min(values)
    warmup = floor(RETRAIN_WARMUP * length)
    rest = length - warmup
    match spec.schedule:
        case "SLR":
            return _warmed(warmup, peak, lambda j: _squeezed(eta, start, peak, j * dense_length // rest))
        case "CLR":
            return _warmed(warmup, peak, lambda j: _cosine(peak, lowest, j / rest))
        case "LLR":
            return _warmed(warmup, peak, lambda j: _linear(peak, 0.0, j / rest))
        case "ALLR":
            high = allr_peak(peak, pruned, spec.epochs / train.epochs)
            return _warmed(warmup, high, lambda j: _linear(high, 0.0, j / rest))
    raise AssertionError(spec.schedule)


def allr_peak(peak: float, pruned: Pruned, budget: float) -> float:
    """Initial learning rate of ALLR (Zimmer et al. 2023, section 3.2).

    Dividing the norm drop by the square root of the fraction pruned makes its largest possible value 1; `budget` is
    the length of the phase over the length of the dense schedule. A phase that prunes nothing has no norm drop.
    """
    drop = pruned.norm_drop / sqrt(pruned.fraction) if pruned.fraction else 0.0
    return peak * min(1.0, max(drop, budget))


def cubic_sparsity(final: float, step: int, steps: int) -> float:
    """Sparsity after prune `step` of `steps` (Zhu & Gupta 2017, equation 1): s (1 - (1 - t/S)^3)."""
    return final * (1.0 - (1.0 - step / steps) ** 3)


def _tunable(spec: RetrainSpec, epoch: int) -> Schedule:
    length = spec.epochs * epoch
    assert spec.lr is not None, "checked when the sweep was read"
    warmup = floor((RETRAIN_WARMUP if spec.warmup is None else spec.warmup) * length)
    shapes: dict[str, Callable[[float], float]] = {
        "constant": lambda t: 1.0,
        "stepped": lambda t: 0.1 ** ((t >= 0.5) + (t >= 0.75)),
        "cosine": partial(_cosine, 1.0, 0.0),
        "linear": partial(_linear, 1.0, 0.0),
    }
    peak, shape, rest = spec.lr, shapes[spec.schedule], length - warmup
    return _warmed(warmup, peak, lambda j: peak * shape(j / rest))


def _warmed(warmup: int, peak: float, after: Schedule) -> Schedule:
    return lambda k: peak * k / warmup if k < warmup else after(k - warmup)


def _squeezed(eta: Schedule, start: int, peak: float, k: int) -> float:
    """The dense schedule with its warm-up replaced by the peak."""
    return peak if k < start else eta(k)


def _linear(high: float, low: float, t: float) -> float:
    return low + (high - low) * (1.0 - t)


def _cosine(high: float, low: float, t: float) -> float:
    return low + (high - low) * (1.0 + cos(pi * t)) / 2.0
