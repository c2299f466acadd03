"""Flipped bits in every kind of file, and files in others' places: said, or the same; and running again heals."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.records import RECORD, recall, remember
from prunesweep.orchestrator.results.parquet import load_curves, load_layers, load_results
from prunesweep.orchestrator.results.sealing import SEAL_KEY, sealed_table, unsealed_table
from prunesweep.orchestrator.run.collect import Collector
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.errors import UserError
from prunesweep.workers.host import Where
from prunesweep.workers.run import StageFailed, run_stage
from prunesweep.workers.seal import intact
from prunesweep.workers.spec import path
from prunesweep.workers.store import CHECKPOINT, CURVE, MOMENTUM, NETWORK, RESULT, Damaged, State, Store
from tests.orchestrator.run.test_driver import VARYING

SWEEP = """\
name: tiny
dataset: {name: synthetic, images: 100, test_images: 20, classes: 2}
model: lenet300
seeds: [0, 1]
train: {epochs: 2}
trials:
  - {method: imp, sparsity: 0.5, retrain_epochs: 1}
"""
FLIPS = 40
TABLES = {"trials": load_results, "curves": load_curves, "layers": load_layers}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.yaml").write_text(SWEEP)
    sweep, store = read_sweep(folder / "tiny.yaml"), Store(folder / "results")
    remember(sweep, store)
    heal(sweep, store)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> tuple[Sweep, Store]:
    shutil.copytree(whole / "results", tmp_path / "results")
    return read_sweep(whole / "tiny.yaml"), Store(tmp_path / "results")


def heal(sweep: Sweep, store: Store) -> None:
    """What `run` does, in this process: what is not done, and again when what it starts from was damaged."""
    for _ in range(3):
        plan = make_plan(sweep, store)
        for stage in plan.stages.values():
            for step in path(stage):
                with suppress(StageFailed):  # its parent is damaged, and computed again in the next turn
                    list(run_stage(step, store, Where()))
        collector = Collector(make_plan(sweep, store), store)
        collector.write()
        if not collector.damaged and set(store.states(plan.stages).values()) == {State.DONE}:
            break
    remember(sweep, store)


def tables(store: Store) -> list[pd.DataFrame]:
    return [load(store.url("tiny")).drop(columns=VARYING, errors="ignore") for load in TABLES.values()]


def assert_same(store: Store, whole: Path) -> None:
    for ours, theirs in zip(tables(store), tables(Store(whole / "results")), strict=True):
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


def flipped(data: bytes, count: int = FLIPS) -> list[bytes]:
    """The same each time: at the ends, where headers and footers are, and anywhere."""
    rng = random.Random(0)
    ends = [*range(min(len(data), 8)), *range(max(0, len(data) - 8), len(data))]
    changed = []
    for position in [*ends, *(rng.randrange(len(data)) for _ in range(count))]:
        bad = bytearray(data)
        bad[position] ^= 1 << rng.randrange(8)
        changed.append(bytes(bad))
    return changed


def stages(sweep: Sweep, store: Store) -> tuple[str, str]:
    """A dense network's key, and that of the one pruned from it."""
    last = next(iter(make_plan(sweep, store).trials_of))
    stage = make_plan(sweep, store).stages[last]
    return stage.parent.key, stage.key


@pytest.mark.parametrize("name", TABLES)
def test_a_flipped_bit_in_a_table_is_said_and_the_next_run_writes_it_again(name: str, copy, whole: Path):
    sweep, store = copy
    good = store.read("tiny", f"{name}.parquet")
    for bad in flipped(good, 10 * FLIPS):
        store.write(bad, "tiny", f"{name}.parquet")
        with pytest.raises(UserError, match="cannot read"):
            TABLES[name](store.url("tiny"))
    heal(sweep, store)
    assert_same(store, whole)


def test_a_flipped_bit_in_the_name_of_the_checksum_is_said():
    """By the name a reader knows whether the file has one."""
    table = pa.table({"accuracy": [0.9, 0.8]})
    good = sealed_table([table], table.schema, "tiny", "trials")
    start = good.index(SEAL_KEY)
    for bit in range(8 * len(SEAL_KEY)):
        bad = bytearray(good)
        bad[start + bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="its checksum does not match"):
            unsealed_table(bytes(bad), "trials")


def test_a_table_in_the_place_of_another_is_said(copy):
    _, store = copy
    store.write(store.read("tiny", "layers.parquet"), "tiny", "curves.parquet")
    with pytest.raises(UserError, match="a table of layers"):
        load_curves(store.url("tiny"))


@pytest.mark.parametrize("name", [NETWORK, MOMENTUM, CURVE, RESULT])
def test_a_flipped_bit_in_a_finished_stage_is_said(name: str, copy):
    sweep, store = copy
    _, key = stages(sweep, store)
    for bad in flipped(store.read("stages", key, name)):
        store.write(bad, "stages", key, name)
        if name == RESULT:
            assert store.states([key]) == {key: State.DAMAGED}
        else:
            with pytest.raises(Damaged, match=f"{name} is missing or damaged"):
                store.read_published(key, name)


@pytest.mark.parametrize("name", [NETWORK, CURVE, RESULT])
@pytest.mark.parametrize("parent", [True, False])
def test_running_again_heals_what_a_flipped_bit_has_damaged(name: str, parent: bool, copy, whole: Path):
    """A network is read when something starts from it."""
    sweep, store = copy
    dense, pruned = stages(sweep, store)
    key = dense if parent else pruned
    store.write(flipped(store.read("stages", key, name))[20], "stages", key, name)
    if parent:
        store.remove("stages", pruned, RESULT)
    heal(sweep, store)
    assert_same(store, whole)


def test_flipped_bits_in_records_notes_and_checkpoints_are_said(copy):
    sweep, store = copy
    for bad in flipped(store.read("tiny", RECORD)):
        store.write(bad, "tiny", RECORD)
        with pytest.raises(UserError, match="is damaged"):
            recall("tiny", store)
    _, key = stages(sweep, store)
    note = store.names("stages", key, "attempts")[0]
    for bad in flipped(store.read("stages", key, "attempts", note)):
        store.write(bad, "stages", key, "attempts", note)
        assert [(attempt.name, attempt.started_at) for attempt in store.attempts(key)] == [(note[:-5], "")]
    store.remove("stages", key, RESULT)
    stage = make_plan(sweep, store).stages[stages(sweep, store)[0]]
    other = Store(store.path("other"))
    running = run_stage(stage, other, Where(checkpoint_share=1e9))
    list(islice(running, 1))
    running.close()
    data = other.read("stages", stage.key, CHECKPOINT)
    assert intact(data)
    assert not [bad for bad in flipped(data) if intact(bad)]


# --- in another's place


@pytest.mark.parametrize("parent", [True, False])
def test_a_stages_folder_with_anothers_contents_is_noticed_and_computed_again(parent: bool, copy, whole: Path, caplog):
    sweep, store = copy
    keys = [key for key, stage in make_plan(sweep, store).stages.items() if (stage.parent is None) == parent]
    one, other = (Path(store.path("stages", key)) for key in keys)
    shutil.rmtree(one)
    shutil.copytree(other, one)
    assert store.states([one.name, other.name]) == {one.name: State.DAMAGED, other.name: State.DONE}
    if parent:
        child = next(s for s in make_plan(sweep, store).stages.values() if s.parent and s.parent.key == one.name)
        store.remove("stages", child.key, RESULT)
        with pytest.raises(StageFailed, match="no result that is whole"):
            list(run_stage(child, store, Where()))
    heal(sweep, store)
    assert_same(store, whole)
    assert [name for name in store.names("stages", one.name) if name.startswith("damaged-") and name.endswith(RESULT)]


@pytest.mark.parametrize("where", ["another stage", "outside"])
def test_nothing_is_written_through_a_link_in_the_place_of_a_stages_folder(
    where: str, copy, whole: Path, tmp_path: Path
):
    sweep, store = copy
    keys = [key for key, stage in make_plan(sweep, store).stages.items() if stage.parent is not None]
    one = Path(store.path("stages", keys[0]))
    target = Path(store.path("stages", keys[1])) if where == "another stage" else tmp_path / "outside"
    target.mkdir(exist_ok=True)
    before = {place: place.read_bytes() for place in target.rglob("*") if place.is_file()}
    shutil.rmtree(one)
    one.symlink_to(target)
    heal(sweep, store)
    assert_same(store, whole)
    assert {place: place.read_bytes() for place in target.rglob("*") if place.is_file()} == before
    assert one.with_name(f"{one.name}.damaged-1").readlink() == target
    assert not one.is_symlink()


def test_a_link_to_the_same_stage_of_another_store_is_read(copy, whole: Path):
    sweep, store = copy
    key = stages(sweep, store)[0]
    elsewhere = whole / "results" / "stages" / key
    shutil.rmtree(store.path("stages", key))
    Path(store.path("stages", key)).symlink_to(elsewhere)
    assert store.set_aside(key) == []
    heal(sweep, store)
    assert_same(store, whole)
    assert Path(store.path("stages", key)).readlink() == elsewhere


def _a_folder(place: Path) -> None:
    place.unlink()
    place.mkdir()
    (place / "content").touch()


def _a_file(place: Path) -> None:
    shutil.rmtree(place)
    place.touch()


def _a_dead_link(place: Path) -> None:
    shutil.rmtree(place)
    place.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("place", "put"),
    [
        *((name, _a_folder) for name in ("stages/KEY/result.json", "stages/KEY/curve.parquet")),
        *((name, _a_folder) for name in ("tiny/sweep.json", "tiny/trials.parquet")),
        *((name, put) for name in ("stages", "stages/KEY", "tiny") for put in (_a_file, _a_dead_link)),
    ],
)
def test_whatever_stands_where_something_should_be_is_set_aside_and_the_work_done_again(
    place: str, put: Callable[[Path], None], copy, whole: Path
):
    sweep, store = copy
    target = Path(store.path(*place.replace("KEY", stages(sweep, store)[1]).split("/")))
    put(target)
    heal(sweep, store)
    assert_same(store, whole)
    names = os.listdir(target.parent)  # noqa: PTH208, since glob passes over dead links
    assert [name for name in names if name == f"{target.name}.damaged-1" or fnmatch(name, f"damaged-*-{target.name}")]
    assert recall("tiny", store) is not None
