"""Numbers that papers have published, as tables to lay results beside.

Adding one is a CSV file beside this one and a line in `PUBLISHED`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pandas as pd

from prunesweep.orchestrator.results.schemas import measurements, unit
from prunesweep.workers.errors import UserError, unknown

PAPER = "paper"
KEYS = (
    *("dataset", "model", "method", "retrain_schedule", "allocation", "target_sparsity"),
    *("retrain_epochs", "pretrain_epochs", "total_epochs", "phases"),
)
"""Settings that a published number may state."""

OURS = "our_"
"""Before one of `KEYS`: the value that a sweep has where the paper has another one."""

_NUMBERS = ("target_sparsity", "retrain_epochs", "pretrain_epochs", "total_epochs", "phases")

_COMMA = re.compile(r"\d,\d")
"""A decimal comma, where no comma separates."""


@dataclass(frozen=True)
class Published:
    """Tables that come with the package: where they were printed, and their files."""

    source: str
    files: tuple[str, ...]


PUBLISHED = {
    PAPER: Published(
        'Zimmer, Spiegel, Pokutta, "How I Learned to Stop Worrying and Love Retraining", ICLR 2023',
        ("imagenet_retraining_schedules.csv", "imagenet_bimp_vs_pruning_stable.csv"),
    ),
    "rigl": Published(
        'Evci, Gale, Menick, Castro, Elsen, "Rigging the Lottery", ICML 2020, 100 epochs and 500, with training FLOPs',
        ("imagenet_rigl.csv",),
    ),
    "acdc": Published(
        'Peste, Iofinova, Vladu, Alistarh, "AC/DC", NeurIPS 2021, 100 epochs and 200; uniform leaves the first '
        "convolution and the classifier dense",
        ("imagenet_acdc.csv",),
    ),
    "jaxpruner": Published(
        'Lee et al., "JaxPruner", 2023, allocations of its configurations: uniform leaves the first convolution dense; '
        "gmp is its magnitude pruning, and its random, saliency and straight-through pruning are no methods here",
        ("imagenet_jaxpruner.csv",),
    ),
    "str": Published(
        'Kusupati et al., "Soft Threshold Weight Reparameterization", ICML 2020: its models of these sparsities, about',
        ("imagenet_str.csv",),
    ),
    "rigl_cifar10": Published(
        "the authors of RigL on WRN-22-2, github.com/google-research/rigl, issue 8", ("cifar10_rigl.csv",)
    ),
    "rigl_reproduction": Published(
        'Sundar, Dwaraknath, "[Re] Rigging the Lottery", 2021: WRN-22-2, 250 epochs and 500, with training FLOPs',
        ("cifar10_rigl_reproduction.csv",),
    ),
}
"""By the name that `--published` takes."""


def load_published(place: str | Path = PAPER) -> pd.DataFrame:
    """Published numbers, a row for each: the settings `KEYS`, then `metric`, `mean`, `std` and `source`.

    A setting may have a second column, such as `our_retrain_epochs`: the value of a sweep that the row's
    `retrain_epochs` corresponds to, null where it is the same.

    `place` is one of `PUBLISHED`, for tables that come with prunesweep, or a CSV file. That has the columns `method`
    and `target_sparsity`, any other of `KEYS`, any of them with `our_` before it, and for each metric, a measurement of
    `trials.parquet`, `METRIC_mean` with or without `METRIC_std`, or just `METRIC`. Accuracies are in percent there, as
    papers print them, and sparsities fractions; all are fractions in what is returned. A setting that a file does not
    state is null. Raises `UserError`.

    >>> paper = load_published()
    >>> bimp = paper[(paper.method == "bimp") & (paper.metric == "test_accuracy")]
    >>> bimp.filter(["target_sparsity", "mean", "std"])
        target_sparsity    mean     std
    78              0.7  0.7562  0.0002
    79              0.8  0.7508  0.0016
    80              0.9  0.7353  0.0005
    """
    shipped = PUBLISHED.get(str(place))
    if shipped is not None:
        tables = [_read(Path(__file__).parent / name).assign(source=shipped.source) for name in shipped.files]
        return pd.concat(tables, ignore_index=True)
    return _read(Path(place)).assign(source=Path(place).name)


def _read(file: Path) -> pd.DataFrame:
    if not file.is_file():  # a pipe may never end
        raise UserError(f"no published numbers at {file}: give a CSV file, or one of {', '.join(PUBLISHED)}")
    try:
        table = _separated(file.read_bytes())
    except (ValueError, OSError) as error:
        raise UserError(f"cannot read {file} as CSV: {error}") from error
    metrics = _metrics([str(name) for name in table.columns], file)
    for name in (*_NUMBERS, *(OURS + name for name in _NUMBERS), *metrics.values(), *map(_std, metrics)):
        if name in table and not pd.api.types.is_numeric_dtype(table[name]):
            raise UserError(f"{file}: the column {name} has a value that is no number")
    parts = [_long(table, metric, column, file) for metric, column in metrics.items()]
    return pd.concat(parts, ignore_index=True).dropna(subset=["mean"]).reset_index(drop=True)


def _separated(data: bytes) -> pd.DataFrame:
    """CSV as programs write it: in many countries Excel has semicolons and decimal commas, and tabs in its "text"."""
    if data.startswith(b"PK"):
        raise ValueError("it is a workbook; save it as CSV")
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    header = text.partition("\n")[0]
    if "," in header:
        return pd.read_csv(StringIO(text))
    separator = ";" if ";" in header else "\t"
    return pd.read_csv(StringIO(text), sep=separator, decimal="," if _COMMA.search(text) else ".")


def _metrics(columns: Sequence[str], file: Path) -> dict[str, str]:
    """By metric the column of its mean; raises `UserError` for a column that means nothing."""
    for name in ("method", "target_sparsity"):
        if name not in columns:
            raise UserError(f"{file} lacks the column {name}; it has {', '.join(columns)}")
    means = {}
    for name in columns:
        metric = name.removesuffix("_mean").removesuffix("_std")
        if name.removeprefix(OURS) in KEYS:
            continue
        if metric not in measurements():
            numbers = (f"{metric}_{part}" for metric in measurements() for part in ("mean", "std"))
            allowed = [*KEYS, *(OURS + key for key in KEYS), *numbers]
            raise UserError(f"{file}: {unknown('column', name, allowed)}")
        if name != _std(metric):
            means[metric] = name
    if not means:
        raise UserError(f"{file} has no numbers: give a column such as test_accuracy_mean")
    return means


def _std(metric: str) -> str:
    return f"{metric}_std"


def _long(table: pd.DataFrame, metric: str, column: str, file: Path) -> pd.DataFrame:
    percent = unit(metric) == "fraction" and "accuracy" in metric
    if percent and table[column].max() <= 1:
        raise UserError(f"{file}: {column} is at most {table[column].max():g}; accuracies are in percent")
    values = {"mean": table[column], "std": table[_std(metric)] if _std(metric) in table else float("nan")}
    scaled = {name: value / 100 if percent else value for name, value in values.items()}
    ours = [OURS + name for name in KEYS if OURS + name in table]
    return table.reindex(columns=[*KEYS, *ours]).assign(metric=metric, **scaled)
