"""`prunesweep gc`: what it finds, what it leaves alone, and that it asks."""

from __future__ import annotations

import json
import math
import os
import time
from itertools import islice
from pathlib import Path

import pexpect
import pytest

from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.records import RECORD, remember
from prunesweep.orchestrator.status import garbage
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.store import CHECKPOINT, CHECKPOINTS, NETWORK, Store
from tests.orchestrator.conftest import COMMAND, Cli

TEXT = """\
dataset: digits
model: lenet300
seeds: %s
train: {epochs: %d}
trials: [{method: dense}]
"""

OLD = time.time() - 2 * 86400


@pytest.fixture
def store(cli: Cli) -> Store:
    """A sweep of two stages, one finished and one that was left after four epochs; and a finished stage of no sweep."""
    store = Store(cli.folder / "results")
    sweep = read_sweep(cli.folder / cli.write(TEXT % (2, 5), "kept.yaml"))
    remember(sweep, store)
    finished, left = make_plan(sweep, store).stages.values()
    list(run_stage(finished, store, Where()))
    running = run_stage(left, store, Where(checkpoint_share=math.inf))
    list(islice(running, 4))
    running.close()
    (other,) = make_plan(read_sweep(cli.folder / cli.write(TEXT % ([7], 1), "other.yaml")), store).stages.values()
    list(run_stage(other, store, Where()))
    return store


def keys(store: Store) -> dict[str, set[str]]:
    """Stages by what they are."""
    folders = {key: set(store.names("stages", key)) for key in store.names("stages")}
    unfinished = {key for key, names in folders.items() if CHECKPOINT in names}
    sweep = read_sweep(Path(store.location).parent / "kept.yaml")
    needed = set(make_plan(sweep, store).stages)
    return {"unfinished": unfinished, "needed": needed, "other": folders.keys() - needed}


def content(store: Store) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(store.location).rglob("*") if path.is_file()}


def test_a_store_that_is_not_there_is_not_made(cli: Cli):
    assert "there is no store at" in cli("gc", code=2)
    assert not (cli.folder / "results").exists()


def test_it_removes_what_nothing_needs_and_that_alone(cli: Cli, store: Store):
    found = keys(store)
    (other,), (finished,) = found["other"], found["needed"] - found["unfinished"]
    (unfinished,) = found["unfinished"]
    kept = {path: data for path, data in content(store).items() if other not in path.parts}
    for parts in (
        ("stages", finished, CHECKPOINTS[1]),
        ("stages", finished, "claim.3.json"),
        ("stages", unfinished, "damaged-1-network.safetensors"),
        ("kept", "sweep.json.1.tmp"),
    ):
        store.write(b"x" * 1000, *parts)
    recent = Path(store.path("stages", unfinished, "spec.json.2.tmp"))
    recent.write_bytes(b"being written")
    kept[recent] = b"being written"
    store.write(b"claimed", "stages", unfinished, "claim.1.json")
    kept[Path(store.path("stages", unfinished, "claim.1.json"))] = b"claimed"
    os.utime(store.path("kept", "sweep.json.1.tmp"), (OLD, OLD))
    before = content(store)
    shown = cli("gc", "--dry-run")
    for line in (
        "stages of no sweep: 1, ",
        f"stages/{other}\n",
        "checkpoints and claims of finished stages: 2, 2 kB\n",
        "damaged files that were set aside: 1, 1 kB\n",
        "abandoned temporary files: 1, 1 kB\n       1 kB  kept/sweep.json.1.tmp\n",
    ):
        assert line in shown
    asked = cli("gc")
    assert asked == shown + "nothing is removed: there is nobody to ask; --yes removes it\n"
    assert content(store) == before
    assert "removed " in cli("gc", "--yes")
    assert content(store) == kept
    assert not Path(store.path("stages", other)).exists()
    assert cli("gc") == "nothing to remove\n"


def test_on_a_terminal_it_asks(cli: Cli, store: Store):
    (other,) = keys(store)["other"]
    for answer, there in (("n", True), ("y", False)):
        child = pexpect.spawn(str(COMMAND), ["gc"], cwd=str(cli.folder), encoding="utf-8", timeout=60)
        child.expect("remove all of this")
        child.sendline(answer)
        child.expect(pexpect.EOF)
        assert Path(store.path("stages", other)).exists() is there


def test_a_stage_that_may_be_running_is_left_alone(cli: Cli, store: Store):
    """Of no sweep, begun and not finished: by `prunesweep.workers.run`, or by a sweep that was changed since."""
    (other,) = keys(store)["other"]
    store.remove("stages", other, "result.json")
    assert ("stages", other) not in garbage.find(store).paths
    for path in Path(store.path("stages", other)).rglob("*"):
        os.utime(path, (OLD, OLD))
    assert ("stages", other) in garbage.find(store).paths


def test_while_a_record_cannot_be_read_no_stage_is_removed(cli: Cli, store: Store):
    store.write(b"{", "kept", RECORD)
    assert garbage.find(store).kinds == {}
    assert "the record of kept cannot be read: no stage is removed" in cli("gc", "--yes")
    assert store.done(store.names("stages"))


def test_what_has_become_needed_meanwhile_stays(cli: Cli, store: Store):
    found = garbage.find(store)
    (other,) = keys(store)["other"]
    assert ("stages", other) in found.paths
    remember(read_sweep(cli.folder / "other.yaml"), store)
    assert garbage.remove(found, store) == 0
    assert store.done([other])


def test_what_a_killed_publication_left_is_found_and_what_a_result_needs_is_kept(store: Store):
    """A publication that was killed after its result, before its files had their plain names, is whole."""
    stage = next(iter(keys(store)["needed"] - keys(store)["unfinished"]))
    folder = Path(store.path("stages", stage))
    publication = json.loads((folder / "result.json").read_text())["publication"]
    own = (folder / NETWORK).rename(folder / f"network.{publication}.safetensors")
    lost, recent = folder / "network.0f3a55c2.safetensors", folder / "curve.0f3a55c3.parquet"
    for place in own, lost, recent:
        place.touch()
    for place in own, lost:
        os.utime(place, (OLD, OLD))
    places = garbage.find(store).kinds["files of results that do not stand"]
    assert list(places) == [("stages", stage, lost.name)]
    garbage.remove(garbage.find(store), store)
    assert not lost.exists()
    assert recent.exists()
    assert store.read_published(stage, NETWORK) == own.read_bytes()
