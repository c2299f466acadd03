"""A store that version 0.1 made is read, resumed and extended; its keys and its tables stay as they are.

`tests/data/store_of_0.1` is what `prunesweep run tests/data/store_of_0.1.yaml` left behind: a dense network of two
epochs, pruned to 50 % and retrained for one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from prunesweep.orchestrator.results.parquet import load_curves, load_layers, load_results
from tests.orchestrator.conftest import Cli

BEFORE = Path(__file__).parents[2] / "data/store_of_0.1"
TRIAL, DENSE, PRUNED = "d24e73537f1a7742b4dc", "fd7d6967ea3ffd9ef6db", "c9729a3f95b99c1fe1f2"

TABLES = ("trials", "curves", "layers")
TEST_IMAGES = 397


@pytest.fixture
def old(cli: Cli) -> Cli:
    """A folder with a copy of the store, and the sweep file that made it."""
    shutil.copytree(BEFORE, cli.folder / "results")
    shutil.copy(BEFORE.with_name("store_of_0.1.yaml"), cli.folder / "tiny.yaml")
    return cli


def tables(store: Path) -> list[pd.DataFrame]:
    return [load(store / "tiny") for load in (load_results, load_curves, load_layers)]


def files(store: Path) -> dict[str, bytes]:
    """Everything but the sweep's record, which says when and with which packages it was last run."""
    paths = [path for path in store.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(store)): path.read_bytes() for path in paths if path.name != "sweep.json"}


def test_it_is_read(old: Cli):
    (row,) = load_results(old.folder / "results/tiny").to_dict("records")
    assert (row["trial"], list(row["stage_keys"])) == (TRIAL, [DENSE, PRUNED])
    assert round(row["test_accuracy"] * TEST_IMAGES) == 139
    assert (row["reached_sparsity"], row["parameters"], row["nonzero_parameters"]) == (0.5, 1320, 695)
    assert "35.01 (1)" in old("results", "tiny")
    assert old("status", "tiny").startswith("tiny: 1 trial: 1 done")


def test_running_its_sweep_again_trains_nothing_and_changes_no_stage(old: Cli):
    """The tables are written again, with the columns that came later; what an old stage does not know is missing.

    Beside them is noted of which stages they are.
    """
    assert "1 of 1 trial done" in old("run", "tiny.yaml", ray=False)
    now, before = files(old.folder / "results"), files(BEFORE)
    later = {"tiny/collected.json", "tiny/classes.parquet"}
    written = {f"tiny/{name}.parquet" for name in TABLES} | later
    assert {name for name in now if now[name] != before.get(name)} <= written
    assert now.keys() == before.keys() | later
    trials, curves, layers = tables(old.folder / "results")
    for name, table, told in zip(TABLES, (trials, curves, layers), tables(BEFORE), strict=True):
        columns = pq.read_schema(BEFORE / f"tiny/{name}.parquet").names  # those that came later are read as missing
        pd.testing.assert_frame_equal(table[columns], told[columns])
    assert trials[["prunable_share", "overall_sparsity", "prunable_multiply_adds_share"]].isna().all(axis=None)
    assert layers["kind"].isna().all()
    # 3 passes of 12,752 multiply-adds for 2 epochs of 1,260 images, then 3 of 7,600 for one epoch
    assert trials["train_flops"].item() == 2 * 3 * (12_752 * 2520 + 7_600 * 1260)
    assert trials["train_flops_ratio"].item() == pytest.approx(1 + 7_600 / (2 * 12_752))
    assert trials["inference_flops"].item() == 15_200
    assert layers["share"].sum() == pytest.approx(1.0)


def test_it_is_resumed_and_extended(old: Cli):
    """The pruned stage is lost and trained again; a second sparsity starts from the same dense network."""
    store = old.folder / "results"
    (store / "stages" / PRUNED / "result.json").unlink()
    sweep = old.folder / "tiny.yaml"
    sweep.write_text(sweep.read_text().replace("sparsity: 0.5", "sparsity: [0.5, 0.9]"))
    old.run_here("tiny.yaml")

    kept = {name: data for name, data in files(BEFORE).items() if DENSE in name or name.endswith("spec.json")}
    assert kept.items() <= files(store).items()
    trials, curves, _ = tables(store)
    before, curves_before, _ = tables(BEFORE)
    again, new = trials.iloc[0], trials.iloc[1]
    assert (again["trial"], list(again["stage_keys"])) == (TRIAL, [DENSE, PRUNED])
    assert (new["target_sparsity"], new["stage_keys"][0]) == (0.9, DENSE)
    # Another processor may add in another order; on the same one the numbers are equal.
    assert again["test_accuracy"] == pytest.approx(before.loc[0, "test_accuracy"], abs=3 / TEST_IMAGES)
    assert again["test_loss"] == pytest.approx(before.loc[0, "test_loss"], rel=1e-3)
    losses, losses_before = (frame[frame.trial == TRIAL].train_loss.to_numpy() for frame in (curves, curves_before))
    assert losses == pytest.approx(losses_before, rel=1e-3, nan_ok=True)
