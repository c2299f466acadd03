"""`prunesweep check`: each kind of damage is one line, with what running again does; it only reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.records import remember
from prunesweep.orchestrator.run.collect import Collector
from prunesweep.orchestrator.status.checking import Check
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.spec import path
from prunesweep.workers.store import Store
from tests.orchestrator.conftest import Cli

SWEEP = """\
name: %s
dataset: {name: synthetic, images: 100, test_images: 20, classes: 2}
model: lenet300
seeds: [%d]
train: {epochs: 1}
trials: [{method: imp, sparsity: 0.5, retrain_epochs: 1}]
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sweeps of one trial each: two stages, of which one starts from the other."""
    folder = tmp_path_factory.mktemp("whole")
    store = Store(folder / "results")
    store.require_writable()
    for seed, name in enumerate(("one", "two")):
        (folder / f"{name}.yaml").write_text(SWEEP % (name, seed))
        sweep = read_sweep(folder / f"{name}.yaml")
        remember(sweep, store)
        for stage in path(next(iter(stages(folder, name)))):
            list(run_stage(stage, store, Where()))
        Collector(make_plan(sweep, store), store).write()
    return folder


def stages(folder: Path, name: str) -> list:
    plan = make_plan(read_sweep(folder / f"{name}.yaml"), Store(folder / "results"))
    return [plan.stages[key] for key in plan.trials_of]


@pytest.fixture
def places(cli: Cli, whole: Path) -> dict[str, Path]:
    """What the damages below name: the folders of the stages of sweep one, of a stage of the other, and the store."""
    shutil.copytree(whole / "results", cli.folder / "results")
    store = cli.folder / "results"
    last, other = stages(whole, "one")[0], stages(whole, "two")[0]
    keys = {"dense": last.parent.key, "pruned": last.key, "other": other.key}
    return {**{name: store / "stages" / key for name, key in keys.items()}, "store": store}


def flip(place: Path) -> None:
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)


def contents(folder: Path) -> dict[Path, bytes]:
    return {place: place.read_bytes() for place in folder.rglob("*") if place.is_file()}


def test_a_whole_store_is_said_to_be_whole(cli: Cli, places: dict[str, Path]):
    before = contents(places["store"])
    answer = cli("check")
    assert answer == "4 stages and 2 sweeps: all is whole; networks were not read: --deep does so\n"
    assert cli("check", "results", "--deep") == "4 stages and 2 sweeps: all is whole; all files were read\n"
    assert json.loads(cli("check", "--json")) == []
    assert contents(places["store"]) == before


def test_what_other_programs_leave_in_a_store_is_no_fault(places: dict[str, Path]):
    """The Finder's and AppleDouble's files in an unpacked archive, half-copied ones; weights are no sweep."""
    for folder in ("", "stages", "one", f"stages/{places['pruned'].name}", f"stages/{places['pruned'].name}/attempts"):
        for name in (".DS_Store", "._x.json", "._trials.parquet", ".result.json.a8F3kz", "result.json.part"):
            (places["store"] / folder / name).write_bytes(b"\0\5\26\7")
    (places["store"] / "stages/result.json.part").unlink()
    (places["store"] / "weights").mkdir()
    (places["store"] / "result.json.part").unlink()
    looked = Check(Store(places["store"]), deep=True)
    assert list(looked.faults()) == []
    assert (len(looked.keys), looked.sweeps) == (4, ["one", "two"])
    assert len(Store(places["store"]).attempts(places["pruned"].name)) == 1


def _another_stage(places: dict[str, Path]) -> None:
    shutil.rmtree(places["pruned"])
    shutil.copytree(places["other"], places["pruned"])


DAMAGES: dict[str, tuple[Callable[[dict[str, Path]], object], list[tuple[str, str]]]] = {
    "a flipped bit in a result": (
        lambda p: flip(p["pruned"] / "result.json"),
        [("stages/PRUNED/result.json", "is damaged"), ("one/trials.parquet", "has no whole result")],
    ),
    "another stage's folder": (
        _another_stage,
        [
            ("stages/PRUNED/spec.json", "is that of OTHER"),
            ("stages/PRUNED/result.json", "another stage's"),
            ("one/trials.parquet", "has no whole result"),
        ],
    ),
    "no parent": (
        lambda p: shutil.rmtree(p["dense"]),
        [("stages/PRUNED", "starts from DENSE"), ("one/trials.parquet", "stage DENSE has no whole result")],
    ),
    "a flipped bit in a curve": (
        lambda p: flip(p["pruned"] / "curve.parquet"),
        [("stages/PRUNED/curve.parquet", "is missing, or damaged")],
    ),
    "no network": (
        lambda p: (p["pruned"] / "network.safetensors").unlink(),
        [("stages/PRUNED/network.safetensors", "is missing, or damaged")],
    ),
    "a flipped bit in a table": (
        lambda p: flip(p["store"] / "one/curves.parquet"),
        [("one/curves.parquet", "checksum")],
    ),
    "a table of another sweep": (
        lambda p: shutil.copy(p["store"] / "two/layers.parquet", p["store"] / "one/layers.parquet"),
        [("one/layers.parquet", "is of the sweep two")],
    ),
    "a table in the place of another": (
        lambda p: shutil.copy(p["store"] / "one/trials.parquet", p["store"] / "one/candidates.parquet"),
        [("one/candidates.parquet", "it is a table of trials")],
    ),
    "a damaged note of same code": (
        lambda p: (p["store"] / "same_code.json").write_text("{"),
        [("same_code.json", "is damaged")],
    ),
    "a flipped bit in a record": (lambda p: flip(p["store"] / "one/sweep.json"), [("one/sweep.json", "is damaged")]),
    "a file for a stage": (
        lambda p: (p["store"] / "stages" / ("0" * 20)).touch(),
        [("stages/" + "0" * 20, "is no folder")],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_said_and_nothing_else(damage: str, cli: Cli, places: dict[str, Path]):
    harm, expected = DAMAGES[damage]
    harm(places)
    before = contents(places["store"])
    answer = cli.ask("check", "--json")
    assert answer.code == 1
    faults = json.loads(answer.out)
    for name in "dense", "pruned", "other":
        expected = [(where.replace(name.upper(), places[name].name), what) for where, what in expected]
        expected = [(where, what.replace(name.upper(), places[name].name)) for where, what in expected]
    assert [fault["place"] for fault in faults] == [where for where, _ in expected]
    assert all(what in fault["problem"] for fault, (_, what) in zip(faults, expected, strict=True))
    assert contents(places["store"]) == before


def test_a_network_is_read_by_a_deep_check_alone(cli: Cli, places: dict[str, Path]):
    flip(places["pruned"] / "network.safetensors")
    assert "all is whole" in cli("check")
    answer = cli.ask("check", "--deep")
    assert answer.code == 1
    assert f"stages/{places['pruned'].name}/network.safetensors" in answer.out
    assert answer.out.splitlines()[-1] == "4 stages and 2 sweeps: 1 fault"


def test_a_table_that_says_otherwise_than_its_stage_is_noticed(cli: Cli, places: dict[str, Path], whole: Path):
    """Its checksum is right: somebody else's program has written it."""
    import pyarrow.parquet as pq

    place = places["store"] / "one/trials.parquet"
    table = pq.read_table(place)
    index = table.column_names.index("test_accuracy")
    changed = table.set_column(index, table.field(index), [[0.125]])
    pq.write_table(changed.replace_schema_metadata({}), place)
    (fault,) = json.loads(cli.ask("check", "--json").out)
    assert fault["place"] == "one/trials.parquet"
    assert fault["problem"].startswith("has another test_accuracy of trial ")
    assert fault["remedy"] == "the next run of the sweep writes it again"
