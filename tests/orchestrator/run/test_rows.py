"""What a row says of a trial's settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.resources import Shares
from prunesweep.orchestrator.run.rows import settings_of
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.workers.methods.imp import IMP
from prunesweep.workers.spec import Choice, Scope, TrialSpec
from prunesweep.workers.store import Store
from tests.cases import trial


def test_settings_that_keys_leave_out_are_in_the_tables(tmp_path: Path):
    """A choice without `criterion` is of before there was one, and means magnitude."""
    plain, scoped = trial("imp"), replace(trial("gmp"), prune=Scope.of(only=["*"], exempt=["last", "first"]))
    fisher = replace(plain, method=IMP(retrain_epochs=1, criterion="fisher").choice("imp"))
    trials = (plain, fisher, scoped)
    rows = settings_of(make_plan(Sweep("x", trials, 0, Shares({}), "", Path("x.yaml")), Store(tmp_path)))
    assert [row.get("criterion") for row in rows] == ["magnitude", "fisher", None]
    assert [row["prune_except"] for row in rows] == [None, None, "first, last"]
    assert [row["prune_only"] for row in rows] == [None, None, "*"]
    assert all(row.get("rewind_epoch") is None for row in rows)


def test_lists_of_lists_are_options_too(tmp_path: Path):
    options = {"widths": ((64, 64), (128,)), "names": (("a", 1), ("b", 2)), "depth": (3, 4), "deep": (((0,),),)}
    asked = TrialSpec(Choice.of("digits"), Choice.of("lenet300", options), Choice.of("dense"))
    (row,) = settings_of(make_plan(Sweep("x", [asked], 0, Shares({}), "", Path("x.yaml")), Store(tmp_path)))
    assert row["model_options"] == "deep: [[0]], depth: 3, 4, names: a: 1, b: 2, widths: [64, 64], [128]"
