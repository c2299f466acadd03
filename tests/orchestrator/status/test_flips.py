"""Bits flipped at random in every file of a store: no row is wrong, and running again makes the same tables."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from prunesweep.orchestrator.api import check, load_results
from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.records import remember
from prunesweep.orchestrator.run.collect import Collector
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.errors import UserError
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.spec import path
from prunesweep.workers.store import Store
from tests.orchestrator.run.test_driver import VARYING

SWEEP = """\
name: one
dataset: {name: synthetic, images: 100, test_images: 20, classes: 2}
model: lenet300
train: {epochs: 1}
trials: [{method: imp, sparsity: 0.5, retrain_epochs: 1}]
"""

HARMLESS = {".prunesweep", "collected.json"}
"""An empty mark, and the index, which is made again: a check of the store has nothing to say of them."""


def run(folder: Path) -> None:
    """What `prunesweep run` does, twice, in this process: the first finds what is damaged, the second is whole."""
    store, sweep = Store(folder / "results"), read_sweep(folder / "one.yaml")
    store.require_writable()
    remember(sweep, store)
    for _ in range(2):
        plan = make_plan(sweep, store)
        for stage in (stage for key in plan.trials_of for stage in path(plan.stages[key])):
            if not store.done([stage.key]):
                list(run_stage(stage, store, Where()))
        Collector(make_plan(sweep, store), store).write()


def tables(folder: Path) -> list[list[dict[str, object]]]:
    read = [pq.read_table(folder / f"results/one/{name}.parquet") for name in ("trials", "curves", "layers")]
    return [table.drop_columns([n for n in table.column_names if n in VARYING]).to_pylist() for table in read]


def results(folder: Path) -> pd.DataFrame | None:
    """None where the damage is said instead."""
    try:
        return load_results("one", store=folder / "results")
    except UserError:
        return None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_flipped_bits_are_noticed_and_healed(seed: int, tmp_path: Path):
    whole, harmed = tmp_path / "whole", tmp_path / "harmed"
    whole.mkdir()
    (whole / "one.yaml").write_text(SWEEP)
    run(whole)
    rows, expected, draw = results(whole), tables(whole), random.Random(seed)
    assert rows is not None
    files = sorted(file.relative_to(whole) for file in (whole / "results").rglob("*") if file.is_file())
    assert len(files) == 18
    for file in files:
        shutil.rmtree(harmed, ignore_errors=True)
        shutil.copytree(whole, harmed)
        data = bytearray((harmed / file).read_bytes() or b"\0")
        for _ in range(draw.choice((1, 3))):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        (harmed / file).write_bytes(data)
        assert check(harmed / "results", deep=True) or file.name in HARMLESS
        shown = results(harmed)
        assert shown is None or shown.equals(rows), file
        run(harmed)
        assert tables(harmed) == expected, file
