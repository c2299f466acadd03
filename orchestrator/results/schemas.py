"""The columns of the tables that a store hands out: what each holds, its unit, and which direction is better.

`trials.parquet` has one row per finished trial, `curves.parquet` one per trial, stage and epoch, `layers.parquet` one
per trial and layer, `classes.parquet` one per trial and class of the test set. Every column is nullable, and missing is
null. A field's metadata holds `description`, `unit` and `better` (`higher`, `lower`, or empty where neither is); the
schema's holds the version. Light to import: no pandas.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from prunesweep.workers.corruptions import CORRUPTIONS, SEVERITIES, named
from prunesweep.workers.tasks import TASKS, task_class
from prunesweep.workers.tasks.base import Metric
from prunesweep.workers.tasks.classification import Classification

SCHEMA_VERSION = 2
"""Raised when a column changes its meaning or its type, or goes; a column more leaves it."""

VERSION_KEY = b"prunesweep_schema"

SWEEP_KEY = b"prunesweep_asked"
"""The metadata of `trials.parquet` says under it how many trials the sweep has, and with which seeds."""


def _field(name: str, kind: pa.DataType, description: str, unit: str = "", better: str = "") -> pa.Field:
    return pa.field(name, kind, metadata={"description": description, "unit": unit, "better": better})


def _schema(*fields: pa.Field) -> pa.Schema:
    return pa.schema(fields, metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()})


_text, _count, _number = pa.string(), pa.int64(), pa.float64()


def task_fields(metrics: Sequence[Metric], loss: str = "mean loss", unit: str = "") -> list[pa.Field]:
    """The columns of a task with these metrics, the primary one first."""
    primary = metrics[0]
    shown, sets = primary.description, {"test": "test set", "validation": "validation set"}
    of_sets = [
        field
        for split, of in sets.items()
        for field in (
            *(_field(f"{split}_{m.name}", _number, f"{m.description}, {of}", m.unit, m.better) for m in metrics),
            _field(f"{split}_loss", _number, f"{loss} of the final network, {of}", unit, "lower"),
        )
    ]
    return [
        *of_sets,
        _field(f"train_{primary.name}", _number, f"{shown} of the final network, training set", *_how(primary)),
        _field("train_loss", _number, f"{loss} of the final network, training set", unit, "lower"),
        _field(f"dense_test_{primary.name}", _number, f"{shown} of the network before any prune", *_how(primary)),
        _field(f"pruned_test_{primary.name}", _number, f"{shown} right after the last prune", *_how(primary)),
        _field(
            "pruning_instability", _number, "share of the primary metric that the last prune cost", "fraction", "lower"
        ),
    ]


def _how(metric: Metric) -> tuple[str, str]:
    return metric.unit, metric.better


TRIALS = _schema(
    _field("trial", _text, "the trial's key; equal trials have equal keys, in every sweep"),
    _field("sweep", _text, "name of the sweep that asked for the trial"),
    _field("dataset", _text, "dataset trained and evaluated on"),
    _field("model", _text, "architecture"),
    _field("task", _text, "what is learned and measured"),
    _field("method", _text, "sparsification method; dense is the control"),
    _field("init", _text, "trained weights that it starts from, and the first digits of their hash; null for none"),
    _field("seed", _count, "seed of initialisation, data order and augmentation"),
    _field("target_sparsity", _number, "zeros asked for over weights that may be pruned; null for dense", "fraction"),
    _field("retrain_schedule", _text, "learning-rate schedule of retraining; null without retraining"),
    _field(
        "pretrain_epochs",
        _count,
        "training before the first retraining phase; 0 where weights are loaded",
        "epochs",
    ),
    _field("retrain_epochs", _count, "length of retraining, all phases together; 0 without retraining", "epochs"),
    _field("phases", _count, "prune-and-retrain phases; 1 is one-shot"),
    _field("total_epochs", _count, "all training on the trial's path: its training budget", "epochs"),
    _field("budget", _number, "total_epochs over the epochs of the dense training", "times"),
    _field("primary_metric", _text, "metric of the task by which trials are compared"),
    *task_fields(Classification.metrics, "mean cross-entropy", "nats"),
    _field("relative_norm_drop", _number, "||W - W_pruned|| / ||W|| of the last prune, prunable weights", "fraction"),
    _field("reached_sparsity", _number, "zeros over the weights that may be pruned, final network", "fraction"),
    _field("sparsity_with_exempt", _number, "zeros over these and the weights that prune exempts", "fraction"),
    _field("overall_sparsity", _number, "zeros over all parameters of the final network", "fraction"),
    _field("collapsed_layers", _count, "layers that have prunable weights and kept none of them", "count", "lower"),
    _field("prunable_share", _number, "prunable weights over all parameters", "fraction"),
    _field("parameters", _count, "parameters of the dense network", "count"),
    _field("nonzero_parameters", _count, "parameters of the final network that are not zero", "count", "lower"),
    _field("multiply_adds", _count, "multiply-adds of one image in the dense network, all operations", "count"),
    _field("prunable_multiply_adds_share", _number, "multiply-adds with prunable weights over all", "fraction"),
    _field("nonzero_multiply_adds", _count, "multiply-adds but those with pruned weights", "count", "lower"),
    _field("theoretical_speedup", _number, "multiply-adds over those without pruned weights", "factor", "higher"),
    _field("compression_ratio", _number, "parameters over parameters that are not zero", "factor", "higher"),
    _field("inference_flops", _number, "2 nonzero_multiply_adds: an image in the final network", "FLOPs", "lower"),
    _field("train_flops", _number, "training of the whole path, as papers count it for each method", "FLOPs", "lower"),
    _field("train_flops_ratio", _number, "train_flops over those of the dense training, budget 1x", "times", "lower"),
    _field("train_images_per_second", _number, "images of the whole path over train_seconds", "images/s", "higher"),
    _field("train_seconds", _number, "training time of the whole path, evaluation excluded", "seconds", "lower"),
    _field("peak_memory_bytes", _count, "largest device memory in use on the path", "bytes", "lower"),
    _field("tuning_epochs", _count, "epochs of all candidates of the search that chose it, each alone", "epochs"),
    _field("candidates", _count, "settings that the search tried; null where none was searched for"),
    _field("candidate_spread", _number, "sample deviation of what candidates trained to the end were chosen by"),
    _field("tuned_sparsity", _number, "what the winner of a search with a target came to by itself", "fraction"),
    _field("device", _text, "the device's name"),
    _field("attempts", _count, "times the trial's own last stage was started, the successful one included"),
    _field("finished_at", pa.timestamp("us", tz="UTC"), "when the last stage was published, UTC"),
    _field("commit", _text, "commit of the code that ran the last stage; +hash with local changes"),
    _field("torch_version", _text, "PyTorch's version"),
    _field("stage_keys", pa.list_(_text), "keys of the path's stages in the store, root first"),
)
"""The fixed columns of `trials.parquet`; `trials_schema` puts the settings of a sweep among them."""


def curves_schema(metric: Metric) -> pa.Schema:
    """Of a task with this primary metric."""
    shown, how = metric.description, _how(metric)
    return _schema(
        _field("trial", _text, "the trial's key"),
        _field("stage", _text, "the stage's key"),
        _field(
            "epoch",
            _count,
            "epochs trained since the start of the trial's path; a prune stage's first row has its parent's last epoch "
            "and is the network just pruned, before any retraining",
            "epochs",
        ),
        _field("train_loss", _number, "mean loss over the epoch's training batches", "nats", "lower"),
        _field(f"train_{metric.name}", _number, f"{shown} over the epoch's training batches", *how),
        _field("validation_loss", _number, "mean loss after the epoch, validation set", "nats", "lower"),
        _field(f"validation_{metric.name}", _number, f"{shown} after the epoch, validation set", *how),
        _field("learning_rate", _number, "learning rate of the epoch's last iteration; null before retraining"),
        _field("sparsity", _number, "zeros over prunable weights after the epoch", "fraction"),
        _field(
            "nonzero_multiply_adds",
            _number,
            "multiply-adds of an image after the epoch but those with pruned weights",
        ),
    )


CURVES = curves_schema(Classification.metrics[0])

LAYERS = _schema(
    _field("trial", _text, "the trial's key"),
    _field("layer", _text, "name of the prunable weight in the state_dict; else of the layer that computes"),
    _field("kind", _text, "what is computed, such as convolution or attention; null in results of version 0.1"),
    _field("weights", _count, "weights of the layer; null where no prunable weight is used", "count"),
    _field("nonzero", _count, "weights of the final network that are not zero", "count"),
    _field("density", _number, "nonzero over weights", "fraction"),
    _field("multiply_adds", _count, "multiply-adds of one image in the dense layer", "count"),
    _field("share", _number, "multiply_adds over those of the network", "fraction"),
    _field("nonzero_multiply_adds", _count, "multiply-adds but those with pruned weights", "count"),
)

CANDIDATES = _schema(
    _field("sweep", _text, "name of the sweep"),
    _field("search", _text, "key of the search"),
    _field("dataset", _text, "dataset trained and chosen on"),
    _field("model", _text, "architecture"),
    _field("method", _text, "method whose settings are chosen"),
    _field("target_sparsity", _number, "zeros asked for over prunable weights", "fraction"),
    _field("algorithm", _text, "how candidates were chosen"),
    _field("by", _text, "what the winner is best by"),
    _field("better", _text, "whether `higher` or `lower` values of that are better"),
    _field("candidate", _count, "the candidate's number within its search, from 1"),
    _field("epoch", _count, "epochs on the candidate's path after which it was looked at", "epochs"),
    _field("is_last", pa.bool_(), "whether candidates were compared there for the last time"),
    _field("score", _number, "mean of `by` over the search's seeds; null where it diverged, or is not known yet"),
    _field("pruned_loss", _number, "at a rung: mean validation loss of copies that are pruned to the sparsity asked"),
    _field("diverged", pa.bool_(), "whether its training diverged"),
    _field("own_sparsity", _number, "with a target: what its training came to, mean over seeds", "fraction"),
    _field("on_target", pa.bool_(), "whether that is near enough for it to win; null without a target"),
    _field("winner", pa.bool_(), "whether the search chose it"),
    _field("first_stage", _text, "key of the stage, or part of one, that the first seed's score is of"),
)
"""The fixed columns of `candidates.parquet`, a row for each candidate and rung; a column for each setting follows."""

CLASSES = _schema(
    _field("trial", _text, "the trial's key"),
    _field("class", _count, "number of the class, from 0"),
    _field("metric", _text, "what is measured of each class, such as accuracy"),
    _field("count", _count, "images of the class in the test set, or pixels", "count"),
    _field("value", _number, "the metric of the class, test set; null for a class that is not there"),
)

CORRUPTED_MEAN = "test_accuracy_corrupted"


def _of_corrupted(name: str, how: str) -> pa.Field:
    shown = f"top-1 accuracy of the final network, test set with {how}"
    return _field(f"test_accuracy_{name}", _number, shown, "fraction", "higher")


CORRUPTED: dict[str, pa.Field] = {
    field.name: field
    for field in (
        _field(CORRUPTED_MEAN, _number, "mean over the corrupted test sets", "fraction", "higher"),
        *(
            _of_corrupted(named(corruption, severity), f"{corruption} of severity {severity}")
            for corruption in CORRUPTIONS
            for severity in SEVERITIES
        ),
    )
}
"""Columns of sweeps that ask for corrupted test sets: those of the sets asked for, and their mean."""

_FIRST_MEASUREMENT = TRIALS.get_field_index("total_epochs") + 1

IDENTITY = ("trial", "sweep", "seed")

_USUAL = task_fields(Classification.metrics)

OF_CLASSIFICATION = frozenset(field.name for field in _USUAL) - frozenset(
    ("test_loss", "validation_loss", "train_loss", "pruning_instability")
)
"""Columns that tables of other tasks do not have."""

BEFORE: Mapping[str, str] = {"task": "classification", "primary_metric": "accuracy"}
"""What columns hold in tables of before they were."""

_OF_TASKS = ("test_", "validation_", "train_", "dense_test_", "pruned_test_")

_known: dict[str, pa.Field] = {
    field.name: field
    for field in (
        *TRIALS,
        *CORRUPTED.values(),
        *(field for name in sorted(TASKS) for field in task_fields(task_class(name).metrics)),
    )
}
"""Columns by name. Metrics of one's own tasks are learned from the tables that have them (`learn`): what is asked by a
column's name alone, its unit and its direction, would else have to be handed on beside every DataFrame."""


def learn(schema: pa.Schema) -> None:
    """Take note of the unit and the direction of a task's columns, as a table of trials says them."""
    for field in schema:
        said = field.metadata or {}
        if field.name not in _known and field.name.startswith(_OF_TASKS) and b"better" in said and b"unit" in said:
            _known[field.name] = field


def measurements() -> tuple[str, ...]:
    """What a run brought about: results, cost and provenance; all other columns but `IDENTITY` were asked for."""
    fixed = TRIALS.names[_FIRST_MEASUREMENT:]
    return (*fixed, *(name for name in _known if name.startswith(_OF_TASKS) and name not in fixed))


def trials_schema(
    hyperparameters: Mapping[str, pa.DataType], metrics: Sequence[Metric] = (), test_sets: Iterable[str] = ()
) -> pa.Schema:
    """`TRIALS` with a column for each hyperparameter after `total_epochs`; fixed columns are not repeated.

    With `metrics` the columns of a task with these in the place of classification's. Those of corrupted test sets come
    last, in the order of `CORRUPTED`, after their mean.
    """
    wanted = {f"test_accuracy_{name}" for name in test_sets}
    corrupted = [field for name, field in CORRUPTED.items() if name in wanted or (wanted and name == CORRUPTED_MEAN)]
    extra = [
        _field(name, kind, f"setting {name}; null where the method has none")
        for name, kind in hyperparameters.items()
        if name not in TRIALS.names
    ]
    fixed = list(TRIALS)
    measured = fixed[_FIRST_MEASUREMENT:]
    if metrics and tuple(metrics) != Classification.metrics:
        first = 1 + [field.name for field in measured].index("primary_metric")
        measured = [*measured[:first], *task_fields(metrics), *measured[first + len(_USUAL) :]]
    return _schema(*fixed[:_FIRST_MEASUREMENT], *extra, *measured, *corrupted)


def candidates_schema(settings: Mapping[str, pa.DataType]) -> pa.Schema:
    """`CANDIDATES` with a column for each setting that is searched for."""
    return _schema(*CANDIDATES, *(_field(name, kind, f"setting {name}") for name, kind in settings.items()))


def unit(name: str) -> str:
    """The unit of a column of `trials.parquet`; empty when it has none or is a setting."""
    return _metadata(name, b"unit")


def better(name: str) -> str:
    """`higher`, `lower`, or empty when neither is better."""
    return _metadata(name, b"better")


def _metadata(name: str, key: bytes) -> str:
    value: bytes = _known[name].metadata[key] if name in _known else b""
    return value.decode()
