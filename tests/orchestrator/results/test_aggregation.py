"""Columns, loading, selecting and aggregating."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from prunesweep import load_results
from prunesweep.orchestrator.results.aggregation import aggregate, budgets, in_order, separating
from prunesweep.orchestrator.results.filtering import where
from prunesweep.orchestrator.results.parquet import load_curves, load_layers
from prunesweep.orchestrator.results.schemas import CURVES, LAYERS, SCHEMA_VERSION, TRIALS, VERSION_KEY, trials_schema
from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import TrainSpec
from prunesweep.workers.store import Store
from tests import gcs
from tests.orchestrator.frames import write

DESIGN = """trial sweep dataset model task method init seed target_sparsity retrain_schedule pretrain_epochs
retrain_epochs phases total_epochs phase_fraction augment milestones budget primary_metric test_accuracy
test_accuracy_top5 test_macro_accuracy test_worst_class_accuracy test_calibration_error test_loss validation_accuracy
validation_accuracy_top5 validation_macro_accuracy validation_worst_class_accuracy validation_calibration_error
validation_loss train_accuracy train_loss dense_test_accuracy pruned_test_accuracy pruning_instability
relative_norm_drop reached_sparsity sparsity_with_exempt overall_sparsity collapsed_layers prunable_share parameters
nonzero_parameters multiply_adds prunable_multiply_adds_share nonzero_multiply_adds theoretical_speedup
compression_ratio inference_flops train_flops train_flops_ratio train_images_per_second train_seconds
peak_memory_bytes tuning_epochs candidates candidate_spread tuned_sparsity device attempts finished_at
commit torch_version stage_keys"""

SCHEMA = trials_schema(
    {"phase_fraction": pa.float64(), "phases": pa.int64(), "augment": pa.bool_(), "milestones": pa.string()}
)

ROWS: list[dict[str, Any]] = [
    {"trial": "a", "sweep": "s", "method": "dense", "seed": 0, "test_accuracy": 0.9, "total_epochs": 20},
    {
        "trial": "b",
        "sweep": "s",
        "method": "imp",
        "seed": 0,
        "target_sparsity": 0.8,
        "retrain_schedule": "FT",
        "phases": 1,
        "augment": True,
        "test_accuracy": 0.5,
        "finished_at": datetime(2025, 6, 1, 12, tzinfo=UTC),
        "stage_keys": ["root", "last"],
    },
    {
        "trial": "c",
        "sweep": "s",
        "method": "imp",
        "seed": 1,
        "target_sparsity": 0.9,
        "retrain_schedule": "LLR",
        "phases": 2,
        "augment": False,
        "test_accuracy": 0.7,
        "finished_at": datetime(2025, 7, 1, 12, tzinfo=UTC),
    },
]


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    return load_results(write(tmp_path / "s", ROWS, SCHEMA))


# --- columns


def test_the_schema_is_the_designs_and_hyperparameters_follow_total_epochs_without_repetition() -> None:
    assert DESIGN.split() == SCHEMA.names
    assert SCHEMA.metadata == {VERSION_KEY: str(SCHEMA_VERSION).encode()}


@pytest.mark.parametrize("schema", [SCHEMA, TRIALS, CURVES, LAYERS])
def test_every_column_is_nullable_and_says_what_it_is(schema: pa.Schema) -> None:
    assert all(field.nullable and field.metadata[b"description"] for field in schema)
    assert schema.metadata[VERSION_KEY] == b"2"


def test_types_of_lists_and_times() -> None:
    assert SCHEMA.field("stage_keys").type == pa.list_(pa.string())
    assert SCHEMA.field("finished_at").type == pa.timestamp("us", tz="UTC")
    assert {str(field.type) for field in SCHEMA} == {
        *("string", "int64", "double", "bool", "list<item: string>", "timestamp[us, tz=UTC]")
    }


def test_importing_the_columns_loads_neither_pandas_nor_torch_nor_ray() -> None:
    code = "import sys, prunesweep.orchestrator.results.schemas; print({'pandas', 'torch', 'ray'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


# --- load


def test_what_is_written_with_the_schema_comes_back(frame: pd.DataFrame) -> None:
    """Training settings that came after these columns are behind them, with what all trained with before."""
    assert list(frame.columns)[: len(SCHEMA.names)] == SCHEMA.names
    assert {*frame.columns[len(SCHEMA.names) :]} < {field.name for field in fields(TrainSpec)}
    assert frame.test_accuracy.tolist() == [0.9, 0.5, 0.7]
    assert frame.finished_at[1] == pd.Timestamp("2025-06-01 12:00", tz="UTC")
    assert list(frame.stage_keys[1]) == ["root", "last"]
    assert frame.target_sparsity.isna().tolist() == [True, False, False]


def test_a_url_may_have_options(tmp_path: Path) -> None:
    write(tmp_path / "s", ROWS, SCHEMA)
    with gcs.bucket() as url:
        store = Store(url % "place")
        store.write((tmp_path / "s" / "trials.parquet").read_bytes(), "s", "trials.parquet")
        for place in (store.url("s"), store.url("s", "trials.parquet")):
            assert load_results(place).trial.tolist() == ["a", "b", "c"]


def test_a_file_a_folder_and_a_url_are_the_same_place(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", ROWS, SCHEMA)
    for place in (str(folder), f"{folder}/", folder / "trials.parquet", folder.as_uri()):
        assert load_results(place).trial.tolist() == ["a", "b", "c"]
    kept = (folder / "trials.parquet").rename(tmp_path / "kept.parquet")
    assert load_results(kept).trial.tolist() == ["a", "b", "c"]


def test_several_sweeps_follow_each_other_and_a_shared_trial_comes_once(tmp_path: Path) -> None:
    first = write(tmp_path / "first", ROWS[:2], SCHEMA)
    shared = [{**row, "sweep": "second", "pruning_interval": 2} for row in ROWS[1:]]
    second = write(tmp_path / "second", shared, trials_schema({"pruning_interval": pa.int64()}))
    both = load_results(first, second)
    assert both.trial.tolist() == ["a", "b", "c"]
    assert both.sweep.tolist() == ["s", "s", "second"]
    assert both.pruning_interval.fillna(0).tolist() == [0, 0, 2]


def test_curves_and_layers_lie_beside_the_trials(tmp_path: Path) -> None:
    write(tmp_path, [{"trial": "a", "stage": "k", "epoch": 1, "train_loss": 0.5}], CURVES, "curves")
    write(
        tmp_path,
        [{"trial": "a", "layer": "conv1.weight", "weights": 4, "nonzero": 1, "density": 0.25}],
        LAYERS,
        "layers",
    )
    assert load_curves(tmp_path).epoch.tolist() == [1]
    assert load_layers(tmp_path / "trials.parquet").density.tolist() == [0.25]


def test_a_missing_folder_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no results at .*none/trials\.parquet; `prunesweep run SWEEP` makes them"):
        load_results(tmp_path / "none")


def test_a_damaged_file_and_a_newer_schema_are_errors_for_users(tmp_path: Path) -> None:
    (tmp_path / "trials.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match="cannot read"):
        load_results(tmp_path)
    newer = TRIALS.with_metadata({VERSION_KEY: b"3"})
    with pytest.raises(UserError, match="schema version 3, this prunesweep reads up to 2; upgrade"):
        load_results(write(tmp_path / "newer", ROWS[:1], newer))


# --- where


@pytest.mark.parametrize(
    ("conditions", "trials"),
    [
        (["method=imp"], "bc"),
        (["method!=imp"], "a"),
        (["method == dense"], "a"),
        (["retrain_schedule=FT,LLR"], "bc"),
        (["retrain_schedule!=FT"], "ac"),
        (["target_sparsity=0.8, 0.9"], "bc"),
        (["target_sparsity<0.9"], "b"),
        (["target_sparsity<=0.9"], "bc"),
        (["target_sparsity>.8"], "c"),
        (["target_sparsity>=.8", "seed=1"], "c"),
        (["seed!=0,1"], ""),
        (["phases=2"], "c"),
        (["augment=true"], "b"),
        (["finished_at>=2025-07-01"], "c"),
        (["finished_at<2025-06-01T13:00"], "b"),
        ([], "abc"),
    ],
)
def test_where(frame: pd.DataFrame, conditions: list[str], trials: str) -> None:
    assert where(frame, conditions).trial.tolist() == list(trials)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("metod=imp", r'unknown column "metod": allowed are .*did you mean "method"\?'),
        ("method=inp", r'unknown method "inp": allowed are dense, imp; did you mean "imp"\?'),
        ("method!=gmp", 'unknown method "gmp"'),
        ("target_sparsity=0.85", r'unknown target_sparsity "0\.85": allowed are 0\.8, 0\.9'),
        ("target_sparsity<high", '"target_sparsity<high": "high" is no number'),
        ("method<imp", "method is text and has no order; use = or !="),
        ("finished_at>soon", "is no time; write 2025-12-31"),
        ("method", '"method" is no condition; write column=value'),
        ("method=", "is no condition"),
        ("=imp", "is no condition"),
    ],
)
def test_a_wrong_condition_says_what_is_allowed(frame: pd.DataFrame, condition: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        where(frame, [condition])


# --- aggregate


def test_aggregate_takes_the_sample_deviation_and_keeps_missing_settings_as_a_group() -> None:
    frame = pd.DataFrame(
        {
            "method": ["imp", "imp", "imp", "gmp", "gmp"],
            "retrain_schedule": ["FT", "FT", "FT", None, None],
            "test_accuracy": [0.2, 0.4, 0.6, 0.5, None],
        }
    )
    table = aggregate(frame, "test_accuracy", ["method", "retrain_schedule"])
    assert list(table.columns) == ["method", "retrain_schedule", "mean", "std", "n"]
    assert table.method.tolist() == ["imp", "gmp"]
    assert table["mean"].tolist() == pytest.approx([0.4, 0.5])
    assert table["std"][0] == pytest.approx(0.2)
    assert math.isnan(table["std"][1])
    assert table["n"].tolist() == [3, 1]


def test_aggregate_refuses_an_unknown_column(frame: pd.DataFrame) -> None:
    with pytest.raises(UserError, match='did you mean "test_accuracy"'):
        aggregate(frame, "test_acuracy", ["method"])
    with pytest.raises(UserError, match='unknown column "metod"'):
        aggregate(frame, "test_accuracy", ["metod"])


def test_separating_adds_only_what_it_takes() -> None:
    frame = pd.DataFrame(
        {
            "sweep": ["s"] * 4,
            "method": ["imp", "imp", "gmp", "gmp"],
            "lr": [0.1, 0.2, None, None],
            "weight_decay": [1e-4, 5e-4, 1e-4, 1e-4],
            "seed": [0, 0, 0, 1],
        }
    )
    assert separating(frame, ["method"], ["method", "lr", "weight_decay"]) == ["method", "lr"]


def test_the_sweep_separates_what_no_setting_does() -> None:
    frame = pd.DataFrame({"sweep": ["a", "b"], "method": ["imp", "imp"], "seed": [0, 0]})
    assert separating(frame, ["method"], []) == ["method", "sweep"]
    extended = frame.assign(seed=[0, 1])
    assert separating(extended, ["method"], []) == ["method"]


def test_budgets_are_split_only_where_all_trials_split_them_the_same_way() -> None:
    frame = pd.DataFrame(
        {"total_epochs": [22, 22, 20, 20], "pretrain_epochs": [20, 20, 18, 20], "retrain_epochs": [2, 2, 2, 0]}
    )
    assert budgets(frame) == {20: "20", 22: "20+2"}


def test_order_is_missing_then_numbers_by_size_and_texts_as_they_come() -> None:
    keys = [("imp", 22), ("gmp", 20), ("imp", 21), ("gmp", None), ("imp", 22)]
    assert in_order(keys) == (("imp", 21), ("imp", 22), ("gmp", None), ("gmp", 20))
