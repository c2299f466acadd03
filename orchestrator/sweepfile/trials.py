"""A cell of a sweep to its trials: the budget, the method, and all checks that need several settings at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields, replace
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from typing import Any

from prunesweep.orchestrator.resources import SELECTORS, Shares, distinct
from prunesweep.orchestrator.sweepfile import evaluation_sets
from prunesweep.orchestrator.sweepfile.budget import dense_epochs, within_budget
from prunesweep.orchestrator.sweepfile.cells import Cell, Element
from prunesweep.orchestrator.sweepfile.document import Loc, Problem, Rejected, shown
from prunesweep.orchestrator.sweepfile.grammar import check_count
from prunesweep.orchestrator.sweepfile.methods import BUDGET, LEVELS, RETRAIN, known_method
from prunesweep.orchestrator.sweepfile.starting import (
    FROM_INIT,
    described,
    fine_tuning,
    require_same_tokens,
    require_startable,
    require_started,
)
from prunesweep.orchestrator.sweepfile.training import check_training
from prunesweep.workers.data import DATASETS
from prunesweep.workers.errors import SpecError, UserError
from prunesweep.workers.methods.base import Method
from prunesweep.workers.optimizer_settings import OPTIMIZERS
from prunesweep.workers.spec import CLASSIFICATION, Init, Scope, TrainSpec, TrialSpec
from prunesweep.workers.tasks import metrics_of, require_fitting, task_class


def trials_of(cell: Cell, loc: Loc, seeds: Sequence[int]) -> list[TrialSpec]:
    """The trials of one cell of the block at `loc`: one for each of its levels and each seed; raises `Rejected`."""
    with _placed(cell, loc):
        levels = list(_levels(cell, seeds[0]))
        check_count(len(levels) * len(seeds))
        return [replace(trial, seed=seed) for trial in levels for seed in seeds]


def trial_of(cell: Cell, loc: Loc, seed: int) -> TrialSpec:
    """The one trial of a cell whose sparsity is the one that it ends at, however it gets there; raises `Rejected`."""
    with _placed(cell, loc):
        train, method = _training(cell), _method(cell)
        sparsity = _rounded(cell["sparsity"].value, method)
        target = [level for level, _ in method.levels(sparsity)][-1]
        if target != sparsity:
            raise SpecError("sparsity", f"{shown(sparsity)} is not allowed: with {LEVELS} the trial ends at {target}")
        return _checked(cell, method, sparsity, seed, train)


def _rounded(sparsity: float, method: Method) -> float:
    """To twelve digits, so that 1 - 0.7 is 0.3 and makes no second trial.

    It stays as it is where the method computes it itself, and where it would become 1, which is no sparsity.
    """
    rounded = float(f"{sparsity:.12g}")
    return rounded if rounded < 1 and [level for level, _ in method.levels(rounded)] == [rounded] else sparsity


def completed(cell: Cell) -> Cell:
    """The cell with the settings of its optimizer where none are given, and its budget as epochs."""
    own = OPTIMIZERS.get(cell["train.optimizer"].value, {})
    lacking = {name: cell[f"train.{name}"] for name in own if cell[f"train.{name}"].value is None}
    return _budgeted({**cell, **{f"train.{name}": replace(e, value=own[name]) for name, e in lacking.items()}})


def _budgeted(cell: Cell) -> Cell:
    """The cell with its `budget` or `retrain_budget`, if any, as epochs: the nearest whole number, ties upwards."""
    if BUDGET not in cell:
        return within_budget(cell)
    if cell["init"].value is not None and not cell["train.epochs"].said:
        message = "is a share of train.epochs: say for how long the network was trained, train: {epochs: ...}"
        raise Rejected(Problem(cell[BUDGET].loc, f"{cell[BUDGET].value} {message}, or give {RETRAIN}"))
    epochs = int(_share(cell).quantize(Decimal(1), ROUND_HALF_UP))
    return {**cell, RETRAIN: Element(epochs, cell[BUDGET].loc)}


def check_rules(top: Mapping[str, Any], trials: Sequence[TrialSpec]) -> None:
    """Raise `Rejected` when a rule of the file's `resources` matches none of its trials, or replicas share a GPU."""
    check_tasks(trials)
    choices = {(trial.dataset, trial.model, trial.method): trial for trial in trials}.values()
    shares = Shares(top.get("resources", {}))
    for share in distinct([shares.default, *map(shares.of, choices)]):
        if share.replicas > 1 and share.gpus != int(share.gpus):
            message = (
                f"gpus: {share.gpus:g} with replicas: {share.replicas} is not allowed: give each a whole GPU, or none"
            )
            raise Rejected(Problem(("resources",), message))
    _check_divided(shares, trials)
    for index, rule in enumerate(shares.rules):
        if not (rule.wanted and rule.given):
            lacks = "cpus, gpus or replicas" if rule.wanted else f"one of {', '.join(SELECTORS)}, whose trials get this"
            raise Rejected(Problem(("resources", "for", index), f"missing: {lacks}"))
        if not any(map(rule.matches, choices)):
            there = {name: sorted({getattr(trial, name).name for trial in choices}) for name in rule.wanted}
            names = "; ".join(f"{name} {', '.join(values)}" for name, values in there.items())
            raise Rejected(Problem(("resources", "for", index), f"matches no trial of this sweep, which has: {names}"))


def _check_divided(shares: Shares, trials: Sequence[TrialSpec]) -> None:
    for trial in trials:
        parts = trial.train.accumulate
        if parts > 1 and (replicas := shares.of(trial).replicas) > 1:
            raise Rejected(
                Problem(
                    ("resources",),
                    f"replicas: {replicas} with train.accumulate: {parts} is not allowed: batch norm would see other "
                    "images together than in one process; give fewer replicas or take whole batches",
                )
            )


def _check_task(trial: TrialSpec, method: Method) -> None:
    """Raise `SpecError` when the task does not fit the dataset, the method, or a setting of the training."""
    if method.needs_classification and trial.task != CLASSIFICATION:
        message = f"method {trial.method} ranks weights by the cross-entropy of images of each class"
        raise SpecError("task", f"{message}: it takes no task but classification")
    if trial.test_sets and trial.task != CLASSIFICATION:
        message = f"corrupted test sets are for the accuracy of classification, which task {trial.task} has not"
        raise SpecError(evaluation_sets.KEY, f"{message}; leave them out")
    if method.needs_images and task_class(trial.task.name).targets == "tokens":
        raise SpecError("task", f"method {trial.method} puts an image of ones through the network: it takes no tokens")
    if trial.train.label_smoothing and not task_class(trial.task.name).smooths:
        smoothing = trial.train.label_smoothing
        raise SpecError("train.label_smoothing", f"{smoothing} would do nothing: task {trial.task} has no classes")
    if trial.train.loss and trial.task != CLASSIFICATION:
        message = (
            f"{trial.train.loss} is for the classes of classification, and task {trial.task} has a loss of its own"
        )
        raise SpecError("train.loss", f"{message}; leave it out")
    if trial.task != CLASSIFICATION and (given := [name for name in OF_CLASSES if getattr(trial.train, name)]):
        raise SpecError(
            f"train.{given[0]}", f"it changes images but not the targets of task {trial.task}: leave it out"
        )
    if trial.dataset.name in DATASETS:
        require_fitting(trial.task.name, trial.dataset.name, DATASETS[trial.dataset.name].targets)


OF_CLASSES = ("mixup", "cutmix", "randaugment", "trivialaugment", "random_erasing")
"""Augmentations of images that have one class, which stays the same or is mixed."""


def check_tasks(trials: Sequence[TrialSpec]) -> None:
    """Raise `Rejected` unless all trials are compared by one metric: a sweep's tables and plots rank its trials."""
    primary = {task: metrics_of(task)[0] for task in dict.fromkeys(trial.task for trial in trials)}
    if len({(metric.name, metric.better) for metric in primary.values()}) > 1:
        named = ", ".join(f"{task} by {metric.name}" for task, metric in primary.items())
        raise Rejected(Problem(("task",), f"a sweep compares its trials by one metric: {named}; make several sweeps"))


@contextmanager
def _placed(cell: Cell, loc: Loc) -> Iterator[None]:
    """What is wrong with a setting becomes a problem at its place in the file."""
    try:
        yield
    except SpecError as error:
        raise Rejected(Problem(_place(error.field, cell, loc), str(error))) from error
    except UserError as error:
        raise Rejected(Problem(loc, str(error))) from error


def _place(setting: str, cell: Cell, loc: Loc) -> Loc:
    own = setting.replace("train.", f"{FROM_INIT}.", 1)
    if own != setting and own in cell and _fine_tunes(cell):
        return cell[own].loc
    return cell[setting].loc if setting in cell else (*loc, *setting.split("."))


def _levels(cell: Cell, seed: int) -> Iterator[TrialSpec]:
    train, method = _training(cell), _method(cell)
    sparsity = cell["sparsity"].value
    own = [level for level, _ in method.levels(None)]
    if method.takes_sparsity and sparsity is None and None in own:
        instead = f", or {LEVELS}" if LEVELS in cell else ""
        raise SpecError("sparsity", f"missing: a number in [0, 1){instead}")
    if sparsity is not None and None not in own and own != [sparsity]:
        phased = LEVELS in cell and cell[LEVELS].value is not None
        said = f"with {LEVELS} the levels are" if phased else "by the other settings it is"
        raise SpecError("sparsity", f"{sparsity} is not allowed: {said} {', '.join(map(str, own))}; leave one out")
    for level, leveled in method.levels(sparsity and _rounded(sparsity, method)):
        yield _checked(cell, leveled, level or 0.0, seed, train)


def _checked(cell: Cell, method: Method, sparsity: float, seed: int, train: TrainSpec) -> TrialSpec:
    base, scope = dense_epochs(cell), _scope(cell)
    init: Init | None = cell["init"].value and replace(cell["init"].value, fine_tunes=_fine_tunes(cell))
    choices = cell["dataset"].value, cell["model"].value, method.choice(cell["method"].value)
    sets = cell[evaluation_sets.KEY].value
    trial = TrialSpec(*choices, seed, sparsity, train, base, scope, cell["task"].value, sets, init)
    _check_task(trial, method)
    method.check(trial)
    require_started(method, trial)
    require_same_tokens(trial)
    return trial


def _scope(cell: Cell) -> Scope:
    return Scope.of(cell["prune.only"].value, cell["prune.except"].value)


def _training(cell: Cell) -> TrainSpec:
    """The cell's training settings; raises `SpecError` when they do not fit together."""
    if cell["init"].value is not None:
        require_startable(known_method(cell["method"].value), cell["method"].value)
        said, own = _settings(cell, "train", said=True), _settings(cell, FROM_INIT)
        return fine_tuning(said, own, cell["method"].value) if _fine_tunes(cell) else described(said)
    train = TrainSpec(**_settings(cell, "train"))
    check_training(train)
    return train


def _settings(cell: Cell, key: str, *, said: bool = False) -> dict[str, Any]:
    """The settings under a key of the file; those that are `said` there, or with their defaults."""
    names = {name: name.removeprefix(f"{key}.") for name in cell if name.startswith(f"{key}.")}
    return {own: _pairs(cell[name].value) for name, own in names.items() if cell[name].said or not said}


def _pairs(value: Any) -> Any:
    """A mapping as a frozen spec has it."""
    return tuple(sorted(value.items())) if isinstance(value, dict) else value


def _fine_tunes(cell: Cell) -> bool:
    """Whether the cell's method trains the network that it is given. A dense control does where it is told how."""
    cls = known_method(cell["method"].value)
    trains = cell["method"].value != "dense" or bool(_settings(cell, FROM_INIT))
    return cell["init"].value is not None and trains and not cls.prunes_trained


def _method(cell: Cell) -> Method:
    """The cell's method with its hyperparameters; raises `SpecError` when the length of retraining is not there."""
    if BUDGET in cell and cell[RETRAIN].value == 0:
        _reject_budget(cell)
    cls = known_method(cell["method"].value)
    given = {f.name: cell[f.name].value for f in fields(cls)}
    if given.get(RETRAIN) is MISSING:
        raise SpecError(RETRAIN, f"missing: give {RETRAIN} or {BUDGET}")
    return cls(**given)


def _share(cell: Cell) -> Decimal:
    epochs: int = cell["train.epochs"].value
    return Decimal(cell[BUDGET].value.rstrip("%")) * epochs / 100


def _reject_budget(cell: Cell) -> None:
    epochs = cell["train.epochs"].value
    least = (Decimal(50) / epochs).quantize(Decimal("0.01"), ROUND_CEILING).normalize()
    raise SpecError(
        BUDGET,
        f"{cell[BUDGET].value} of {epochs} epochs is {_share(cell).normalize():f}, which rounds to 0; "
        f"the smallest that makes an epoch is {least:f}%",
    )
