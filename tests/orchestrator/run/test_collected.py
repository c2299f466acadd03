"""A finished sweep that is run again: its tables are left alone while they are right, and written where not."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from prunesweep import load_results
from prunesweep.orchestrator.index import INDEX
from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.run.collect import Collector
from prunesweep.orchestrator.run.collected import is_current
from prunesweep.orchestrator.run.driver import Options, SweepRun
from prunesweep.workers.seal import sealed_json, unsealed_json
from prunesweep.workers.store import CURVE, RESULT, Store
from tests.orchestrator.finished import finish

SWEEP = """\
name: small
dataset: digits
model: lenet300
seeds: 2
trials:
  - {method: imp, sparsity: [0.5, 0.9], retrain_epochs: 1}
"""
NAMES = ("trials.parquet", "curves.parquet", "layers.parquet", "classes.parquet")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    store.require_writable()
    return store


@pytest.fixture
def plan(store: Store, tmp_path: Path) -> Plan:
    """Of a sweep that is finished, and was run again with nothing to do."""
    plan = finish(SWEEP, store, tmp_path / "small.yaml")
    run(plan, store)
    return plan


def run(plan: Plan, store: Store) -> None:
    console = Console(file=io.StringIO())
    SweepRun(store, Options(), console).run(plan.refreshed(store))


def written(tmp_path: Path) -> list[int]:
    return [(tmp_path / "results/small" / name).stat().st_mtime_ns for name in NAMES]


def test_nothing_is_written_where_nothing_has_changed(plan: Plan, store: Store, tmp_path: Path) -> None:
    before = written(tmp_path)
    run(plan, store)
    assert written(tmp_path) == before


def test_another_result_makes_another_row(plan: Plan, store: Store, tmp_path: Path) -> None:
    key = next(iter(plan.trials_of))
    result = unsealed_json(store.read("stages", key, RESULT) or b"")
    result["metrics"]["test_accuracy"] = 0.125
    store.write(sealed_json(result), "stages", key, RESULT)
    run(plan, store)
    (trial,) = plan.trials_of[key]
    assert load_results(tmp_path / "results/small").set_index("trial").test_accuracy[trial.key] == 0.125


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_table_is_written_again(plan: Plan, store: Store, tmp_path: Path, name: str) -> None:
    whole = store.read("small", name)
    assert whole is not None
    store.write(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:], "small", name)
    run(plan, store)
    assert store.read("small", name) == whole


@pytest.mark.parametrize("index", [b"", b"{}", json.dumps({"of": 1}).encode(), None])
def test_an_index_that_is_wrong_or_missing_is_made_again(
    plan: Plan, store: Store, tmp_path: Path, index: bytes | None
) -> None:
    right, before = store.read("small", INDEX), written(tmp_path)
    store.remove("small", INDEX) if index is None else store.write(index, "small", INDEX)
    run(plan, store)
    assert store.read("small", INDEX) == right
    assert written(tmp_path) != before


EXTENDED = SWEEP.replace("[0.5, 0.9]", "[0.5, 0.8, 0.9]").replace("seeds: 2", "seeds: 3")
"""More trials, before, between and after those that have rows, some from networks that others start from."""

OTHER_METHODS = (
    SWEEP
    + """\
  - {method: gmp, sparsity: 0.5, train: {epochs: 4}}
  - {method: dst, penalty: 0.001, sparsity: 0.9, train: {epochs: 2}}
"""
)
"""With columns that the tables lack."""


@pytest.mark.parametrize("text", [EXTENDED, OTHER_METHODS, SWEEP.replace("[0.5, 0.9]", "0.9")])
def test_rows_that_are_kept_are_those_that_would_be_made(plan: Plan, store: Store, tmp_path: Path, text: str) -> None:
    changed = finish(text, store, tmp_path / "small.yaml")
    kept = {name: store.read("small", name) for name in NAMES}
    assert is_current(changed, store)
    store.remove("small", INDEX)
    Collector(changed, store).write()
    assert {name: store.read("small", name) for name in NAMES} == kept


def test_of_a_result_that_has_changed_no_row_is_kept(plan: Plan, store: Store, tmp_path: Path) -> None:
    dense = next(stage for stage in plan.stages.values() if stage.parent is None)
    result = unsealed_json(store.read("stages", dense.key, RESULT) or b"")
    result["train_seconds"] = 1e6
    store.write(sealed_json(result), "stages", dense.key, RESULT)
    finish(EXTENDED, store, tmp_path / "small.yaml")
    slow = load_results(tmp_path / "results/small").query("train_seconds > 1e6")
    assert sorted(slow.target_sparsity) == [0.5, 0.8, 0.9]


def test_a_curve_that_is_gone_is_noticed(plan: Plan, store: Store) -> None:
    assert is_current(plan, store)
    store.remove("stages", next(iter(plan.trials_of)), CURVE)
    assert not is_current(plan.refreshed(store), store)
