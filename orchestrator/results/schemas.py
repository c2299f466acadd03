"""The columns of the tables that a store hands out: what each holds, its unit, and which direction is better.

`trials.parquet` has one row per finished trial, `curves.parquet` one per trial, stage and epoch, `layers.parquet` one
per trial and layer. Every column is nullable, and missing is null. A field's metadata holds `description`, `unit` and
`better` (`higher`, `lower`, or empty where neither is); the schema's holds the version. Light to import: no pandas.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

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

TRIALS = _schema(
    _field("trial", _text, "the trial's key; equal trials have equal keys, in every sweep"),
    _field("sweep", _text, "name of the sweep that asked for the trial"),
    _field("dataset", _text, "dataset trained and evaluated on"),
    _field("model", _text, "architecture"),
    _field("method", _text, "sparsification method; dense is the control"),
    _field("seed", _count, "seed of initialisation, data order and augmentation"),
    _field("target_sparsity", _number, "zeros asked for over weights that may be pruned; null for dense", "fraction"),
    _field("retrain_schedule", _text, "learning-rate schedule of retraining; null without retraining"),
    _field("pretrain_epochs", _count, "length of the training before the first retraining phase", "epochs"),
    _field("retrain_epochs", _count, "length of retraining, all phases together; 0 without retraining", "epochs"),
    _field("phases", _count, "prune-and-retrain phases; 1 is one-shot"),
    _field("total_epochs", _count, "all training on the trial's path: its training budget", "epochs"),
    _field("budget", _number, "total_epochs over the epochs of the dense training", "times"),
    _field("test_accuracy", _number, "top-1 accuracy of the final network, test set", "fraction", "higher"),
    _field("test_accuracy_top5", _number, "top-5 accuracy, test set; null up to 10 classes", "fraction", "higher"),
    _field("test_loss", _number, "mean cross-entropy of the final network, test set", "nats", "lower"),
    _field("validation_accuracy", _number, "top-1 accuracy of the final network, validation set", "fraction", "higher"),
    _field("validation_loss", _number, "mean cross-entropy of the final network, validation set", "nats", "lower"),
    _field("train_accuracy", _number, "top-1 accuracy of the final network, training set", "fraction", "higher"),
    _field("train_loss", _number, "mean cross-entropy of the final network, training set", "nats", "lower"),
    _field("dense_test_accuracy", _number, "top-1 accuracy of the network before any prune", "fraction", "higher"),
    _field("pruned_test_accuracy", _number, "top-1 accuracy right after the last prune", "fraction", "higher"),
    _field("pruning_instability", _number, "share of the accuracy that the last prune cost", "fraction", "lower"),
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
    _field(
        "tuning_epochs", _count, "epochs of all candidates of the search that chose the setting, each alone", "epochs"
    ),
    _field("candidates", _count, "settings that the search tried; null where none was searched for"),
    _field("candidate_spread", _number, "sample deviation of what candidates trained to the end were chosen by"),
    _field("device", _text, "the device's name"),
    _field("attempts", _count, "times the trial's own last stage was started, the successful one included"),
    _field("finished_at", pa.timestamp("us", tz="UTC"), "when the last stage was published, UTC"),
    _field("commit", _text, "commit of the code that ran the last stage; +hash with local changes"),
    _field("torch_version", _text, "PyTorch's version"),
    _field("stage_keys", pa.list_(_text), "keys of the path's stages in the store, root first"),
)
"""The fixed columns of `trials.parquet`; `trials_schema` puts the settings of a sweep among them."""

CURVES = _schema(
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
    _field("train_accuracy", _number, "top-1 accuracy over the epoch's training batches", "fraction", "higher"),
    _field("validation_loss", _number, "mean cross-entropy after the epoch, validation set", "nats", "lower"),
    _field("validation_accuracy", _number, "top-1 accuracy after the epoch, validation set", "fraction", "higher"),
    _field("learning_rate", _number, "learning rate of the epoch's last iteration; null before retraining"),
    _field("sparsity", _number, "zeros over prunable weights after the epoch", "fraction"),
    _field("nonzero_multiply_adds", _number, "multiply-adds of an image after the epoch but those with pruned weights"),
)

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
    _field("candidate", _count, "the candidate's number within its search, from 1"),
    _field("epoch", _count, "epochs on the candidate's path after which it was looked at", "epochs"),
    _field("is_last", pa.bool_(), "whether candidates were compared there for the last time"),
    _field("score", _number, "mean of `by` over the search's seeds; null where it diverged, or is not known yet"),
    _field("diverged", pa.bool_(), "whether its training diverged"),
    _field("winner", pa.bool_(), "whether the search chose it"),
    _field("first_stage", _text, "key of the stage, or part of one, that the first seed's score is of"),
)
"""The fixed columns of `candidates.parquet`, a row for each candidate and rung; a column for each setting follows."""

_FIRST_MEASUREMENT = TRIALS.get_field_index("total_epochs") + 1

MEASUREMENTS: tuple[str, ...] = tuple(TRIALS.names[_FIRST_MEASUREMENT:])
"""What a run brought about: results, cost and provenance; all other columns but `IDENTITY` were asked for."""

IDENTITY = ("trial", "sweep", "seed")


def trials_schema(hyperparameters: Mapping[str, pa.DataType]) -> pa.Schema:
    """`TRIALS` with a column for each hyperparameter after `total_epochs`; fixed columns are not repeated."""
    extra = [
        _field(name, kind, f"setting {name}; null where the method has none")
        for name, kind in hyperparameters.items()
        if name not in TRIALS.names
    ]
    fixed = list(TRIALS)
    return _schema(*fixed[:_FIRST_MEASUREMENT], *extra, *fixed[_FIRST_MEASUREMENT:])


def candidates_schema(settings: Mapping[str, pa.DataType]) -> pa.Schema:
    """`CANDIDATES` with a column for each setting that is searched for."""
    return _schema(*CANDIDATES, *(_field(name, kind, f"setting {name}") for name, kind in settings.items()))


def unit(name: str) -> str:
    """The unit of a column of `trials.parquet`; empty when it has none or is not a fixed column."""
    return _metadata(name, b"unit")


def better(name: str) -> str:
    """`higher`, `lower`, or empty when neither is better."""
    return _metadata(name, b"better")


def _metadata(name: str, key: bytes) -> str:
    if name not in TRIALS.names:
        return ""
    value: bytes = TRIALS.field(name).metadata[key]
    return value.decode()
