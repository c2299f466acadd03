"""Tables are collected beside the run of a sweep: no stage waits for the store, and nothing is missing in the end."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event as Flag

import pytest

from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.run.collect import Collector, collecting
from prunesweep.orchestrator.run.events import Finished, Tick
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.files import Unavailable
from prunesweep.workers.filesystems import Stamp
from prunesweep.workers.store import Store
from tests.orchestrator.finished import curve_of, finish, result_of

SWEEP = """\
name: small
dataset: digits
model: lenet300
seeds: 3
trials:
  - {method: imp, sparsity: [0.5, 0.9], retrain_epochs: 1}
"""
LIMIT = 20.0
"""Seconds, after which a test gives up waiting."""
NAMES = ("trials.parquet", "curves.parquet", "layers.parquet", "classes.parquet")


class StuckStore(Store):
    """Writing a table does not end before `may_write`."""

    def __init__(self, location: Path) -> None:
        super().__init__(location)
        self.writing, self.may_write = Flag(), Flag()

    def write(self, data: bytes, *parts: str, replace: bool = True) -> bool:
        if parts[-1] == "trials.parquet":
            self.writing.set()
            assert self.may_write.wait(LIMIT), "somebody waits for this write"
        return super().write(data, *parts, replace=replace)


class BrokenStore(Store):
    """It cannot be read, for a reason that `broken` says."""

    broken: Exception | None = None

    def read_stamped(self, *parts: str) -> tuple[bytes | None, Stamp | None]:
        if self.broken:
            raise self.broken
        return super().read_stamped(*parts)


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, bytes]:
    """What is written of the sweep when it is finished."""
    store = Store(tmp_path / "whole")
    store.require_writable()
    finish(SWEEP, store, tmp_path / "small.yaml")
    return read_tables(store)


def read_tables(store: Store) -> dict[str, bytes]:
    return {name: store.read("small", name) or b"" for name in NAMES}


def new_plan(tmp_path: Path) -> Plan:
    """Of the sweep in a store that has none of it."""
    Store(tmp_path / "results").require_writable()
    return make_plan(read_sweep(tmp_path / "small.yaml"), Store(tmp_path / "results"))


def publish(plan: Plan, store: Store) -> None:
    for stage in plan.stages.values():
        store.publish(stage, {"curve.parquet": curve_of(stage)}, result_of(stage))


def test_stages_are_heard_of_while_a_table_is_being_written(tmp_path: Path, tables: dict[str, bytes]) -> None:
    plan, store = new_plan(tmp_path), StuckStore(tmp_path / "results")
    publish(plan, store)
    collector = Collector(plan, store)
    with collecting(collector) as hear:
        assert store.writing.wait(LIMIT)
        for key in plan.stages:
            hear(Finished(key))
            hear(Tick())
        store.may_write.set()
    collector.catch_up()
    collector.write()
    assert read_tables(store) == tables


def test_what_could_not_be_read_for_a_while_is_in_the_tables(tmp_path: Path, tables: dict[str, bytes]) -> None:
    plan, store = new_plan(tmp_path), BrokenStore(tmp_path / "results")
    publish(plan, store)
    collector = Collector(plan, store)
    store.broken = Unavailable("it is gone")
    for key in plan.stages:
        collector.expect(key)
    with pytest.raises(Unavailable):
        collector.take_up()
    store.broken = None
    collector.write()
    assert read_tables(store) == tables
    assert collector.damaged == []


def test_a_run_whose_collector_is_out_of_order_ends(tmp_path: Path, tables: dict[str, bytes]) -> None:
    plan, store = new_plan(tmp_path), BrokenStore(tmp_path / "results")
    store.broken = MemoryError("it is full")
    with pytest.raises(MemoryError, match="it is full"):
        tick_until_it_raises(Collector(plan, store))


def tick_until_it_raises(collector: Collector) -> None:
    with collecting(collector) as hear:
        collector.expect(next(iter(collector.plan.trials_of)))
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            hear(Tick())
            time.sleep(0.01)
