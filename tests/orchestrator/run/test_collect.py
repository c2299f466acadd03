"""The tables of a store: what they say of the sweep, and that others read the same numbers from them."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prunesweep import aggregate, load_curves, load_results, select_best
from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.results.filtering import where
from prunesweep.orchestrator.results.schemas import CURVES, SWEEP_KEY, TRIALS
from prunesweep.orchestrator.results.sealing import ROW_GROUP, write_table
from prunesweep.orchestrator.run.collect import Collector
from prunesweep.orchestrator.run.rows import asked
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.orchestrator.tables.means import means_table
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.store import Store
from tests.orchestrator.frames import imp, judged, write

SWEEP = """\
name: tiny
dataset: digits
model: lenet300
seeds: %s
train: {epochs: 4}
trials:
  - {method: dense}
  - {method: gmp, sparsity: [0.5, 0.9]}
"""
PYTHON = """\
from prunesweep.workers.spec import Choice, TrialSpec

def trials():
    for seed in range(3):
        yield TrialSpec(Choice("digits"), Choice("lenet300"), Choice("dense"), seed)
    yield TrialSpec(Choice("digits"), Choice("lenet300"), Choice("gmp"), 0, 0.9)
"""


def read(folder: Path, seeds: str = "2", text: str = SWEEP) -> Sweep:
    (folder / "tiny.yaml").write_text(text % seeds)
    return read_sweep(folder / "tiny.yaml")


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """The tables of a sweep of three settings and two seeds, of which three trials are finished."""
    sweep, store = read(tmp_path), Store(tmp_path / "results")
    stages = make_plan(sweep, store).stages.values()
    for stage in [each for each in stages if each.root.method.name == "dense" or each.key == _first_gmp(sweep, store)]:
        list(run_stage(stage, store, Where()))
    Collector(make_plan(sweep, store), store).write()
    return tmp_path / "results" / "tiny"


def _first_gmp(sweep: Sweep, store: Store) -> str:
    plan = make_plan(sweep, store)
    return next(key for key, stage in plan.stages.items() if stage.root.method.name == "gmp")


# --- what was asked for


def test_what_is_missing_is_told_from_the_file_alone(half: Path) -> None:
    frame = load_results(half)
    assert frame.attrs["sweeps"] == [{"sweep": "tiny", "trials": 6, "finished": 3, "seeds": [0, 1]}]
    table = means_table(frame)
    assert "tiny: 3 of 6 trials not finished" in table.notes
    assert [(cell.n, cell.planned) for cell in (*table.controls, *table.cells.values())] == [(2, 2), (1, 2)]


def test_it_survives_selecting(half: Path) -> None:
    frame = load_results(half)
    for selected in (where(frame, ["method=gmp"]), select_best(frame), frame[frame.seed == 0].assign(a=1)):
        assert "tiny: 3 of 6 trials not finished" in means_table(selected).notes
    one = means_table(where(frame, ["method=gmp", "seed=0"]))
    assert [cell.planned for cell in one.cells.values()] == [1], "the other seed is not missing, it was left out"


def test_the_same_store_makes_the_same_bytes(half: Path) -> None:
    before = {file.name: file.read_bytes() for file in half.glob("*.parquet")}
    sweep, store = read(half.parents[1]), Store(half.parent)
    Collector(make_plan(sweep, store), store).write()
    assert {file.name: file.read_bytes() for file in half.glob("*.parquet")} == before
    assert len(before) == 4


def test_seeds_are_told_only_where_every_setting_has_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert asked(make_plan(read(tmp_path, "[3, 1]"), store)) == {"sweep": "tiny", "trials": 6, "seeds": [1, 3]}
    (tmp_path / "unlike.py").write_text(PYTHON)
    assert asked(make_plan(read_sweep(tmp_path / "unlike.py"), store)) == {
        "sweep": "unlike",
        "trials": 4,
        "seeds": None,
    }
    many = make_plan(read(tmp_path, "1001"), store)
    assert asked(many) == {"sweep": "tiny", "trials": 3003, "seeds": None}
    assert len(json.dumps(asked(make_plan(read(tmp_path, "1000"), store)))) < 10_000


def test_a_file_that_does_not_say_it_is_taken_for_whole(tmp_path: Path) -> None:
    rows = [*imp([0.5, 0.6, 0.7], "FT"), *imp([0.5], "LLR", sweep="other")]
    frame = load_results(write(tmp_path, rows, TRIALS))
    assert frame.attrs["sweeps"] == [
        {"sweep": "other", "trials": 1, "finished": 1, "seeds": [0]},
        {"sweep": "s", "trials": 3, "finished": 3, "seeds": [0, 1, 2]},
    ]
    table = means_table(where(frame, ["test_accuracy<0.6"]))
    assert sorted((cell.n, cell.planned) for cell in table.cells.values()) == [(1, 1), (1, 3)]


def test_a_cell_of_several_sweeps_is_to_have_the_seeds_of_each(tmp_path: Path) -> None:
    def said(name: str, seeds: list[int], values: list[float]) -> Path:
        rows = [{**row, "seed": seed} for row, seed in zip(imp(values, "FT", sweep=name), seeds, strict=False)]
        metadata = {SWEEP_KEY: json.dumps({"sweep": name, "trials": len(seeds), "seeds": seeds}).encode()}
        return write(tmp_path / name, rows, TRIALS.with_metadata({**TRIALS.metadata, **metadata}))

    frame = load_results(said("first", [0, 1, 2], [0.5, 0.6, 0.7]), said("more", [3, 4], [0.5]))
    table = means_table(frame)
    assert [(cell.n, cell.planned) for cell in table.cells.values()] == [(4, 5)]
    assert "more: 1 of 2 trials not finished" in table.notes


# --- other readers


def test_two_lines_of_pandas_give_the_same_means(tmp_path: Path) -> None:
    rows = [*imp([0.90, 0.92, 0.91], "FT"), *imp([0.95, 0.96], "LLR"), *judged([0.5], [0.25], method="gmp")]
    file = write(tmp_path, rows, TRIALS) / "trials.parquet"
    ours = aggregate(load_results(tmp_path), "test_accuracy", ["method", "retrain_schedule"])
    trials = pd.read_parquet(file)
    theirs = trials.groupby(["method", "retrain_schedule"], dropna=False).test_accuracy.agg(["mean", "std", "count"])
    both = ours.merge(theirs.reset_index(), on=["method", "retrain_schedule"], suffixes=("", "_theirs"))
    assert len(both) == len(ours) == 3
    pd.testing.assert_series_equal(both["mean"], both["mean_theirs"], check_names=False, check_exact=True)
    pd.testing.assert_series_equal(both["std"], both["std_theirs"], check_names=False, check_exact=True)
    assert both["n"].tolist() == both["count"].tolist() == [3, 2, 1]


def test_duckdb_and_polars_give_the_same_means(tmp_path: Path) -> None:
    write(tmp_path, [*imp([0.90, 0.92, 0.91], "FT"), *imp([0.95, 0.96], "LLR")], TRIALS)
    ours = aggregate(load_results(tmp_path), "test_accuracy", ["retrain_schedule"])
    expected = [tuple(row) for row in ours.sort_values("retrain_schedule").itertuples(index=False)]
    query = f"""SELECT retrain_schedule, avg(test_accuracy), stddev_samp(test_accuracy), count(test_accuracy)
        FROM '{tmp_path}/trials.parquet' GROUP BY ALL ORDER BY ALL"""
    scores = pl.col("test_accuracy")
    table = pl.scan_parquet(tmp_path / "trials.parquet").group_by("retrain_schedule")
    found = table.agg(scores.mean().alias("mean"), scores.std().alias("std"), scores.count().alias("n")).collect()
    for rows in (duckdb.execute(query).fetchall(), found.sort("retrain_schedule").rows()):
        assert [row[0] for row in rows] == ["FT", "LLR"]
        for row, other in zip(rows, expected, strict=True):
            assert row[1:] == pytest.approx(other[1:])


def test_long_curves_are_in_row_groups_that_threads_share(tmp_path: Path) -> None:
    rows = ROW_GROUP + 5
    empty = {name: pa.nulls(rows, CURVES.field(name).type) for name in CURVES.names}
    keys = {name: pa.array(["a"] * rows) for name in ("trial", "stage")}
    table = pa.table({**empty, **keys, "epoch": pa.array(range(rows))}, schema=CURVES)
    write_table(table, tmp_path / "curves.parquet")
    assert pq.ParquetFile(tmp_path / "curves.parquet").num_row_groups == 2
    assert load_curves(tmp_path).epoch.tolist() == list(range(rows))
    assert duckdb.execute(f"SELECT max(epoch) FROM '{tmp_path}/curves.parquet'").fetchone() == (rows - 1,)
