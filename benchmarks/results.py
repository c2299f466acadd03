"""Time reading results: curves of a million rows in DuckDB and pandas, and five thousand trials, in one run.

    python -m benchmarks.results [--trials 5000] [--epochs 200] [--rounds 9]

The files are those that a store holds, by the writer that makes them there: a curve of each trial, of which the first
nine tenths are shared by 54 trials, as those of a dense network are. Reported are the median and the smallest of some
rounds in milliseconds, reading the file included, in turns, and how many times as long the same rows take as CSV.
Goals: a question to the curves in 50 ms with DuckDB and 150 with pandas, the trials loaded in 100.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv

from prunesweep import aggregate, load_results
from prunesweep.orchestrator.results.schemas import CURVES, TRIALS, trials_schema
from prunesweep.orchestrator.results.sealing import write_table
from prunesweep.orchestrator.run.rows import setting_types

SHARING = 54
"""Trials of one dense network: a cell of the paper's schedule table, for each seed."""

METHODS = ("imp", "bimp", "gmp", "dpf", "str")
SCHEDULES = ("FT", "LRW", "SLR", "CLR", "LLR", "ALLR")


def keys(kind: str, count: int) -> list[str]:
    return [sha256(f"{kind}{number}".encode()).hexdigest()[:16] for number in range(count)]


def curves(trials: int, epochs: int, random: np.random.Generator) -> pa.Table:
    """Rows as `prunesweep.orchestrator.run.collect` writes them, trial by trial."""
    shared = epochs * 9 // 10
    dense = random.random((trials // SHARING + 1, shared, 4))
    own = random.random((trials, epochs - shared, 4))
    measured = np.concatenate([dense[np.arange(trials) // SHARING], own], axis=1).reshape(-1, 4)
    roots, leaves = np.array(keys("root", len(dense))), np.array(keys("leaf", trials))
    first = np.arange(epochs) < shared
    stages = np.where(first, roots[np.arange(trials) // SHARING][:, None], leaves[:, None]).ravel()
    names = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    columns = {
        "trial": np.repeat(keys("trial", trials), epochs),
        "stage": stages,
        "epoch": np.tile(np.arange(1, epochs + 1), trials),
        **dict(zip(names, measured.T, strict=True)),
        "learning_rate": np.tile(np.linspace(0.1, 0.0, epochs), trials),
        "sparsity": np.tile(np.where(first, 0.0, 0.9), trials),
    }
    return pa.table({name: pa.array(columns[name], CURVES.field(name).type) for name in CURVES.names}, schema=CURVES)


def rows(trials: int, random: np.random.Generator) -> pa.Table:
    """A row for each trial with all columns of a sweep of some methods; five seeds of each setting."""
    schema = trials_schema(setting_types(METHODS))
    cell = np.arange(trials) // 5
    asked: dict[str, Any] = {
        "trial": keys("trial", trials),
        "sweep": ["large"] * trials,
        "dataset": ["cifar10"] * trials,
        "model": ["resnet56"] * trials,
        "method": np.array(METHODS)[cell % len(METHODS)],
        "seed": np.arange(trials) % 5,
        "target_sparsity": np.array([0.7, 0.8, 0.9, 0.95, 0.98])[cell // len(METHODS) % 5],
        "retrain_schedule": np.array(SCHEDULES)[cell // 25 % len(SCHEDULES)],
        "retrain_epochs": cell // 150,
        "finished_at": pa.array([0] * trials, schema.field("finished_at").type),
        "commit": ["0123456789abcdef"] * trials,
        "device": ["NVIDIA H100 80GB HBM3"] * trials,
        "stage_keys": list(zip(keys("root", trials), keys("leaf", trials), strict=True)),
    }
    for field in schema:
        if pa.types.is_floating(field.type) and field.name in TRIALS.names:
            asked.setdefault(field.name, random.random(trials))
        if pa.types.is_integer(field.type) and field.name in TRIALS.names:
            asked.setdefault(field.name, random.integers(1, 10**6, trials))
    arrays = [
        pa.array(asked[field.name], field.type) if field.name in asked else pa.nulls(trials, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def timed(work: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, in turns; the first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, call in work.items():
            begun = time.perf_counter()
            call()
            if turn:
                found[name].append(time.perf_counter() - begun)
    return found


def questions(folder: Path) -> dict[str, Callable[[], Any]]:
    file, csv, table = folder / "curves.parquet", folder / "curves.csv", folder / "trials.parquet"
    database = duckdb.connect()
    scores = pl.col("validation_accuracy")

    def sql(query: str) -> Callable[[], Any]:
        return lambda: database.execute(query).fetchall()

    def by(name: str, read: Callable[..., pd.DataFrame], place: Path) -> Callable[[], Any]:
        columns = [name, "validation_accuracy"]
        at = {"columns": columns} if read is pd.read_parquet else {"usecols": columns}
        return lambda: read(place, **at).groupby(name)["validation_accuracy"].agg(["mean", "std", "count"])

    def by_method() -> pd.DataFrame:
        methods = pd.read_parquet(table, columns=["trial", "method"])
        found = pd.read_parquet(file, columns=["trial", "epoch", "validation_accuracy"]).merge(methods, on="trial")
        return found.groupby(["method", "epoch"])["validation_accuracy"].agg(["mean", "std", "count"])

    def by_method_as_categories() -> pd.DataFrame:
        columns = ["trial", "epoch", "validation_accuracy"]
        found = pd.read_parquet(file, columns=columns, read_dictionary=["trial"])
        methods = pd.read_parquet(table, columns=["trial", "method"]).astype({"method": "category"})
        found = found.merge(methods.astype({"trial": found["trial"].dtype}), on="trial")
        return found.groupby(["method", "epoch"], observed=True)["validation_accuracy"].agg(["mean", "std", "count"])

    values = "curves.validation_accuracy"
    statistics = f"avg({values}), stddev({values}), count({values}) FROM '{file}' AS curves"
    lazy = (
        pl.scan_parquet(file).group_by("epoch").agg(scores.mean(), scores.std().alias("std"), scores.count().alias("n"))
    )
    return {
        "curves by epoch, DuckDB": sql(f"SELECT epoch, {statistics} GROUP BY ALL"),
        "curves by epoch, Polars": lazy.collect,
        "curves by epoch, pandas": by("epoch", pd.read_parquet, file),
        "curves by epoch, pandas from CSV": by("epoch", pd.read_csv, csv),
        "curves by trial, DuckDB": sql(f"SELECT trial, {statistics} GROUP BY ALL"),
        "curves by trial, pandas": by("trial", pd.read_parquet, file),
        "curves by method and epoch, DuckDB": sql(
            f"SELECT method, epoch, {statistics} JOIN '{table}' USING (trial) GROUP BY ALL"
        ),
        "curves by method and epoch, pandas": by_method,
        "the same, trials as categories": by_method_as_categories,
        "load_results": lambda: load_results(folder),
        "load_results and aggregate": lambda: aggregate(
            load_results(folder), "test_accuracy", ["method", "target_sparsity", "retrain_schedule"], interval="t"
        ),
        "trials from CSV": lambda: pd.read_csv(folder / "trials.csv"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        long, wide = curves(arguments.trials, arguments.epochs, random), rows(arguments.trials, random)
        write_table(long, folder / "curves.parquet")
        write_table(wide, folder / "trials.parquet")
        pyarrow.csv.write_csv(long, folder / "curves.csv")
        wide.to_pandas().to_csv(folder / "trials.csv", index=False)
        print(f"{len(long):,} rows of curves, {len(wide):,} trials with {len(wide.column_names)} columns")
        for file in sorted(folder.iterdir()):
            print(f"  {file.name}: {file.stat().st_size / 1e6:.1f} MB")
        report(timed(questions(folder), arguments.rounds))


def report(found: dict[str, list[float]]) -> None:
    csv = {"curves by epoch": "curves by epoch, pandas from CSV", "load_results": "trials from CSV"}
    print(f"{'median':>44}{'least':>9}{'CSV takes':>12}")
    for name, seconds in found.items():
        slow = csv.get(name.partition(",")[0])
        ratio = f"{median(found[slow]) / median(seconds):8.1f} x" if slow else ""
        print(f"{name:36}{1e3 * median(seconds):5.0f} ms{1e3 * min(seconds):6.0f} ms{ratio}")


if __name__ == "__main__":
    main()
