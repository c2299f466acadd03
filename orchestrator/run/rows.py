"""The rows of a sweep's tables, from what a trial asks for and the results of its stages: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import pyarrow as pa

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.results.schemas import CORRUPTED, task_fields
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.workers import accounting
from prunesweep.workers.fingerprints import parts
from prunesweep.workers.init.asked import UNSAID
from prunesweep.workers.methods import METHODS, create, method_class
from prunesweep.workers.models.folder_config import shown
from prunesweep.workers.spec import KINDS, Choice, PruneStage, Stage, TrainSpec, TrialSpec, path
from prunesweep.workers.tasks.base import Metric

Result = dict[str, Any]
"""The content of a `result.json`."""

MAX_SEEDS = 1000
"""More are not listed in a file's metadata, which every reader reads whole."""

COPIED = (
    *("test_loss", "validation_loss", "train_loss", "pruning_instability", "relative_norm_drop"),
    *(
        "reached_sparsity",
        "sparsity_with_exempt",
        "overall_sparsity",
        "prunable_share",
        "parameters",
        "nonzero_parameters",
        "multiply_adds",
    ),
    *("prunable_multiply_adds_share", "nonzero_multiply_adds", "theoretical_speedup", "compression_ratio"),
)
"""Columns that are metrics of the trial's last stage, under the same name, whatever its task is."""

TRAIN_SETTINGS = tuple(field.name for field in fields(TrainSpec) if field.name != "epochs")
"""Columns that are training settings; the epochs are in `pretrain_epochs` and `total_epochs`."""


TEST_SETS = "test_sets"
"""The column that says which corrupted test sets a trial asks for, in sweeps of which some do."""

NEEDED = ("metrics", "layers", "train_seconds", "images", "peak_memory_bytes", "finished_at")
"""What a row takes from a `result.json`."""


def is_complete(result: Result) -> bool:
    """Whether a result has all that rows are made of; of what there is the store has seen to the types."""
    return all(name in result for name in NEEDED) and result["metrics"].get("test_loss") is not None


def layers_of(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Of an operation without a prunable weight there is no density; results of version 0.1 have no kinds."""
    layers = result["layers"]
    whole = sum(layer["multiply_adds"] for layer in layers)
    for layer in layers:
        density = layer["nonzero"] / layer["weights"] if layer["weights"] else None
        share = layer["multiply_adds"] / whole if whole else None
        yield {**layer, "layer": layer["name"], "density": density, "share": share}


def classes_of(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What a result says of each class; nothing of tasks that have none, and in results of before there were tasks."""
    classes = result.get("by_class")
    if classes is not None:
        for number, (count, value) in enumerate(zip(classes["counts"], classes["values"], strict=True)):
            yield {"class": number, "metric": classes["metric"], "count": count, "value": value}


def asked(plan: Plan) -> dict[str, Any]:
    """What the sweep asked for: how many trials, winners of searches among them, and the seeds that every setting has.

    `seeds` is None where settings have unlike seeds, and where there are too many to list.
    """
    trials = plan.sweep.trials
    undecided = [decision.search for decision in plan.decisions if decision.is_open]
    seeds = sorted({trial.seed for trial in trials}.union(*(search.final_seeds for search in undecided)))
    settings = {replace(trial, seed=0) for trial in trials}
    count = len(trials) + sum(len(search.final_seeds) for search in undecided)
    alike = (len(settings) + len(undecided)) * len(seeds) == count and len(seeds) <= MAX_SEEDS
    return {"sweep": plan.sweep.name, "trials": count, "seeds": seeds if alike else None}


def setting_types(methods: Iterable[str]) -> dict[str, pa.DataType]:
    """The columns of what a trial was asked with: training settings, options, and these methods' hyperparameters.

    Where two methods disagree about the type of a hyperparameter, text serves both.
    """
    hints = get_type_hints(TrainSpec)
    types = {name: _arrow_type(hints[name]) for name in TRAIN_SETTINGS}
    types |= {f"{kind}_{what}": pa.string() for kind in ("dataset", "model", "task") for what in ("options", "version")}
    types |= dict.fromkeys(("method_version", "prune_only", "prune_except"), pa.string())
    for name in sorted(set(methods)):
        for parameter in method_class(name).hyperparameters():
            arrow_type = _arrow_type(parameter.type)
            types[parameter.name] = arrow_type if types.get(parameter.name, arrow_type) == arrow_type else pa.string()
    return types


def _plain(value: Any) -> Any:
    """Lists and mappings as text: one column type for all, and a value that a condition can name."""
    return ", ".join(map(_item, value)) if isinstance(value, tuple) else value


def _item(item: Any) -> str:
    """A mapping comes as pairs of a name and a value; a list may have lists of its own."""
    match item:
        case (str() as name, value):
            return f"{name}: {value}"
        case tuple():
            return f"[{', '.join(map(_item, item))}]"
    return str(item)


def _options(choice: Choice) -> str | None:
    return ", ".join(f"{name}: {_plain(value)}" for name, value in shown(choice).items()) or None


def _version(choice: Choice) -> str | None:
    """Of one's own code and images, `code 1a2b3c4d`, as `plan` says it; null for what has no version."""
    return ", ".join(f"{part} {value[:8]}" for part, value in parts(choice.fingerprint).items()) or None


def _arrow_type(annotation: Any) -> pa.DataType:
    options = [a for a in get_args(annotation) or (annotation,) if a is not type(None)]
    first = str if get_origin(annotation) is Literal or len(options) != 1 else options[0]
    return {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}.get(first, pa.string())


class Inherited(NamedTuple):
    """What the row of a trial takes from each stage of its path; `multiply_adds` are those of its training."""

    train_seconds: float
    images: int
    peak_memory_bytes: int | None
    test_metric: float | None
    multiply_adds: float | None


def inherited(stage: Stage, result: Result, curve: pa.Table, primary: str) -> Inherited:
    """Of a stage with this result and curve, of a task with this primary metric."""
    metric = result["metrics"].get(f"test_{primary}")
    rows = curve.select(["sparsity", "nonzero_multiply_adds"]).to_pylist()
    trained = accounting.multiply_adds(stage, create(stage.root.method), result, rows)
    return Inherited(result["train_seconds"], result["images"], result["peak_memory_bytes"], metric, trained)


@cache
def task_columns(metrics: tuple[Metric, ...]) -> Sequence[str]:
    """Columns that are metrics of the trial's last stage, under the same name: those of its task."""
    return [field.name for field in task_fields(metrics) if not field.name.startswith("dense_")]


def row_of(
    sweep: str,
    trial: TrialSpec,
    stages: list[Stage],
    steps: Sequence[Inherited],
    last: Result,
    metrics: tuple[Metric, ...],
) -> dict[str, Any]:
    """A trial's row of `trials.parquet`; `steps` are what its `stages` say, `last` is the last one's result.

    `metrics` are its task's.
    """
    primary, measured = metrics[0].name, last["metrics"]
    return {
        **_settings(trial, stages),
        **{name: measured.get(name) for name in (*task_columns(metrics), *COPIED, *CORRUPTED)},
        "collapsed_layers": sum(layer["nonzero"] == 0 for layer in last["layers"]),
        **_question(sweep, trial, stages, method_class(trial.method.name).takes_sparsity),
        **_cost(steps),
        **_flops(trial, stages, steps, measured),
        "primary_metric": primary,
        f"dense_test_{primary}": steps[0].test_metric if stages[0].root.method.name == "dense" else None,
        "finished_at": datetime.fromisoformat(last["finished_at"]),
        **{name: last.get(name) for name in ("device", "attempts", "commit", "torch_version")},
        "stage_keys": [stage.key for stage in stages],
    }


def _flops(
    trial: TrialSpec, stages: Sequence[Stage], steps: Sequence[Inherited], metrics: Mapping[str, Any]
) -> dict[str, float | None]:
    """What the training cost, and one image costs the final network; null where the results do not say it.

    The dense training has the same images in each epoch, whether or not the sweep has it as a trial of its own.
    """
    dense, sparse = metrics.get("multiply_adds"), metrics.get("nonzero_multiply_adds")
    trained = [stage.multiply_adds for stage in steps if stage.multiply_adds is not None]
    whole = sum(trained) if len(trained) == len(steps) else None
    images = (trial.dense_epochs or trial.train.epochs) * steps[0].images / stages[0].epochs if stages[0].epochs else 0
    control = accounting.TRAINING * dense * images if dense else 0
    return {
        "inference_flops": None if sparse is None else accounting.FLOPS * sparse,
        "train_flops": None if whole is None else accounting.FLOPS * whole,
        "train_flops_ratio": None if whole is None or not control else whole / control,
    }


def settings_of(plan: Plan) -> list[dict[str, Any]]:
    """For each trial of a plan the columns that are known before it has run: what it asks for."""
    rows = []
    for trial in plan.sweep.trials:
        stages = path(plan.stages[plan.last[trial.key]])
        rows.append(
            {
                **_settings(trial, stages),
                **_question(plan.sweep.name, trial, stages, _takes_sparsity(plan.sweep, trial, stages)),
            }
        )
    return rows


def _settings(trial: TrialSpec, stages: list[Stage]) -> dict[str, Any]:
    return {
        **_later_defaults(trial.method.name),
        **{name: _plain(value) for name, value in trial.method.settings.items()},
        **_train_settings(stages[0].root.train, stages[0].root.loads),
        "prune_only": _plain(trial.prune.only) or None,
        "prune_except": _plain(trial.prune.exempt) or None,
        "dataset_options": _options(trial.dataset),
        TEST_SETS: ", ".join(trial.test_sets) or None,
        "model_options": _options(trial.model),
        "task_options": _options(trial.task),
        **{f"{kind}_version": _version(getattr(trial, kind)) for kind in KINDS},
    }


@cache
def _later_defaults(method: str) -> Mapping[str, Any]:
    """Of hyperparameters that a choice lacks at their defaults; of other people's methods nothing is imported."""
    if method not in METHODS:
        return {}
    return {h.name: h.default for h in method_class(method).hyperparameters() if h.default not in (MISSING, None)}


@lru_cache(2**12)
def _train_settings(train: TrainSpec, loads: bool) -> Mapping[str, Any]:
    """What was trained with, which a method may have decided: BIMP's schedule, GSM's momentum.

    What nobody has said of a training elsewhere, which is only loaded, is null.
    """
    values = {name: _plain(getattr(train, name)) for name in TRAIN_SETTINGS}
    return {name: None if loads and value == UNSAID.get(name) else value for name, value in values.items()}


def _takes_sparsity(sweep: Sweep, trial: TrialSpec, stages: list[Stage]) -> bool:
    """Another package's method is asked only where the sweep is its author's: of a record nothing is imported."""
    if sweep.recorded is not None and trial.method.name not in METHODS:
        return stages[-1].sparsity > 0
    return method_class(trial.method.name).takes_sparsity


def _question(sweep: str, trial: TrialSpec, stages: list[Stage], takes_sparsity: bool) -> dict[str, Any]:
    """What the trial asked for. A method that sparsifies while training has no retraining."""
    phases, last = sum(isinstance(stage, PruneStage) and stage.epochs > 0 for stage in stages), stages[-1]
    epochs = sum(stage.epochs for stage in stages)
    return {
        "trial": trial.key,
        "sweep": sweep,
        "dataset": trial.dataset.name,
        "model": trial.model.name,
        "task": trial.task.name,
        "method": trial.method.name,
        "init": None if trial.init is None else str(trial.init),
        "seed": trial.seed,
        "target_sparsity": last.sparsity if takes_sparsity else None,
        "retrain_schedule": trial.method.settings.get("retrain_schedule"),
        "pretrain_epochs": stages[0].epochs,
        "retrain_epochs": epochs - stages[0].epochs,
        "phases": phases or None,
        "total_epochs": epochs,
        "budget": epochs / dense if (dense := trial.dense_epochs or trial.train.epochs) else None,
    }


def _cost(stages: Sequence[Inherited]) -> dict[str, Any]:
    """Of the whole path: a trial's cost includes the dense network that it shares with others."""
    seconds, images = sum(stage.train_seconds for stage in stages), sum(stage.images for stage in stages)
    peaks = [stage.peak_memory_bytes for stage in stages if stage.peak_memory_bytes is not None]
    return {
        "train_seconds": seconds,
        "train_images_per_second": images / seconds if seconds else None,
        "peak_memory_bytes": max(peaks, default=None),
    }
