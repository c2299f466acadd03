"""Damaged files: noticed, set aside, and computed again to the same bits."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from prunesweep.workers import checkpoint
from prunesweep.workers.checkpoint import Progress, Refused
from prunesweep.workers.files import ASIDE
from prunesweep.workers.host import Where
from prunesweep.workers.methods.base import Method
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.run import StageFailed, run_stage
from prunesweep.workers.seal import BLANK, FIELD, intact, seal, sealed_json, unsealed_json
from prunesweep.workers.spec import Stage, path
from prunesweep.workers.store import CHECKPOINT, CHECKPOINTS, NETWORK, RESULT, State, Store
from tests.cases import last_stage, trial
from tests.contract import numbers, run
from tests.damage import DAMAGE, damaged
from tests.small_disk import SmallDisk, small_disk

STAGE = last_stage(trial("gmp"))
CHILD = last_stage(trial("imp"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Store:
    store = Store(tmp_path_factory.mktemp("unbroken"))
    run(STAGE, store)
    run(CHILD, store)
    return store


def stopped_after(epochs: int, stage: Stage, store: Store) -> None:
    """As a killed worker leaves it, with both its checkpoints."""
    running = run_stage(stage, store, Where(checkpoint_share=math.inf))
    list(islice(running, epochs))
    running.close()


def aside(store: Store, key: str) -> list[str]:
    """What the files that were set aside had been called."""
    return sorted(name.split("-", 2)[2] for name in store.names("stages", key) if name.startswith(ASIDE))


# --- seals


@pytest.mark.parametrize("how", DAMAGE)
def test_a_seal_notices_any_damage(how: str):
    sealed = seal(json.dumps({"a": [0.25] * 50, FIELD: BLANK, "b": "z"}).encode())
    assert intact(sealed)
    assert not [bad for bad in damaged(sealed, how) if intact(bad)]


def packed() -> tuple[bytes, torch.nn.Module, Pruner, torch.optim.Optimizer]:
    model = torch.nn.Linear(40, 10)
    pruner = Method().pruner(Setup(model, {"weight": model.weight}, 0.0, 1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return checkpoint.pack("key", Progress(epoch=1), model, pruner, optimizer), model, pruner, optimizer


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_checkpoint_changes_nothing(how: str):
    data, *parts = packed()
    model = parts[0]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for bad in damaged(data, how):
        with pytest.raises(Refused, match="damaged"):
            checkpoint.unpack(bad, "key", *parts)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert checkpoint.unpack(data, "key", *parts).epoch == 1


NO_CHECKPOINTS = {
    "nobody's": {"progress": "{}"},
    "of no progress": {"key": "key"},
    "no JSON": {"key": "key", "progress": "{"},
    "nested": {"key": "key", "progress": "[" * 100_000},
    "of other numbers": {"key": "key", "progress": '{"epochs": 1}'},
    "a list": {"key": "key", "progress": "[1]"},
    "another's": {"key": "other", "progress": '{"epoch": 1}'},
}


@pytest.mark.parametrize("said", NO_CHECKPOINTS.values(), ids=[*NO_CHECKPOINTS])
def test_a_checkpoint_that_somebody_has_sealed_is_read_before_it_changes_anything(said: dict[str, str]):
    _, *parts = packed()
    model = parts[0]
    zeros = {f"model/{name}": torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    with pytest.raises(Refused, match=r"it is no checkpoint|it belongs to stage other"):
        checkpoint.unpack(seal(save(zeros, {**said, FIELD: BLANK})), "key", *parts)
    assert all(tensor.any() for tensor in model.state_dict().values())


# --- a running stage


@pytest.mark.parametrize("how", ["empty", "cut", "any bit", "missing"])
def test_the_checkpoint_before_a_damaged_one_serves(how: str, store: Store, unbroken: Store, caplog):
    stopped_after(4, STAGE, store)
    whole = store.read("stages", STAGE.key, CHECKPOINT)
    if how == "missing":
        store.remove("stages", STAGE.key, CHECKPOINT)
    else:
        store.write(next(damaged(whole, how)), "stages", STAGE.key, CHECKPOINT)
    run(STAGE, store)
    assert "continued from the checkpoint of epoch 3" in caplog.text
    if how != "missing":
        assert f"{CHECKPOINT} is not used: it is damaged; it is set aside as " in caplog.text
        assert aside(store, STAGE.key) == [CHECKPOINT]
    assert numbers(STAGE, store) == numbers(STAGE, unbroken)


def test_with_both_checkpoints_damaged_it_starts_again(store: Store, unbroken: Store, caplog):
    stopped_after(4, STAGE, store)
    for name in CHECKPOINTS:
        store.write(b"not this", "stages", STAGE.key, name)
    run(STAGE, store)
    assert "no checkpoint is left: starting again from the beginning" in caplog.text
    assert aside(store, STAGE.key) == sorted(CHECKPOINTS)
    assert numbers(STAGE, store) == numbers(STAGE, unbroken)


def test_a_checkpoint_of_another_stage_is_refused(store: Store, caplog):
    one, other = last_stage(trial("dense", seed=1)), last_stage(trial("dense", seed=2))
    stopped_after(2, one, store)
    store.write(store.read("stages", one.key, CHECKPOINT), "stages", other.key, CHECKPOINT)
    run(other, store)
    assert f"it belongs to stage {one.key}, not to {other.key}" in caplog.text
    assert aside(store, other.key) == [CHECKPOINT]
    assert store.result(other.key)


# --- a finished stage


@pytest.fixture
def copy(unbroken: Store, tmp_path: Path) -> Store:
    subprocess.run(["cp", "-r", unbroken.location, tmp_path / "copy"], check=True)
    return Store(tmp_path / "copy")


@pytest.mark.parametrize("how", ["empty", "cut", "any bit"])
def test_a_damaged_result_is_computed_again(how: str, copy: Store, unbroken: Store):
    bad = next(damaged(copy.read("stages", STAGE.key, RESULT), how))
    copy.write(bad, "stages", STAGE.key, RESULT)
    run(STAGE, copy)
    assert numbers(STAGE, copy) == numbers(STAGE, unbroken)
    assert aside(copy, STAGE.key) == [RESULT]


@pytest.mark.parametrize("how", ["empty", "cut", "any bit", "missing"])
def test_a_child_of_a_damaged_parent_fails_and_the_parent_is_computed_again(how: str, copy: Store, unbroken: Store):
    parent, child = path(CHILD)[-2:]
    copy.remove("stages", child.key, RESULT)
    network = copy.read("stages", parent.key, NETWORK)
    if how == "missing":
        copy.remove("stages", parent.key, NETWORK)
    else:
        copy.write(next(damaged(network, how)), "stages", parent.key, NETWORK)
    with pytest.raises(StageFailed, match=f"{parent.key}/{NETWORK} is missing or damaged"):
        list(run_stage(child, copy, Where()))
    attempt = copy.attempts(child.key)[-1]
    assert attempt.cause == "parent damaged"
    assert "computed again" in attempt.log[-1]
    assert copy.states([parent.key])[parent.key] is State.STARTED
    run(child, copy)
    assert [numbers(each, copy) for each in path(child)] == [numbers(each, unbroken) for each in path(child)]


def test_a_network_that_is_none_counts_as_damaged_though_its_checksum_is_right(copy: Store, unbroken: Store):
    parent, child = path(CHILD)[-2:]
    copy.remove("stages", child.key, RESULT)
    replace_network(copy, parent.key, b"\0" * 64)
    with pytest.raises(StageFailed, match=f"the {NETWORK} of {parent.key} cannot be opened"):
        list(run_stage(child, copy, Where()))
    assert copy.attempts(child.key)[-1].cause == "parent damaged"
    run(child, copy)
    assert numbers(child, copy) == numbers(child, unbroken)


def replace_network(store: Store, key: str, network: bytes) -> None:
    """As somebody does who may write into the store, and knows how results are sealed."""
    result = unsealed_json(store.read("stages", key, RESULT))
    result["files"][NETWORK] = sha256(network).hexdigest()
    store.write(network, "stages", key, NETWORK)
    store.write(sealed_json(result), "stages", key, RESULT)


def test_a_damaged_spec_and_notes_do_no_harm(copy: Store, unbroken: Store):
    for name in copy.names("stages", STAGE.key, "attempts"):
        copy.write(b"\xff{", "stages", STAGE.key, "attempts", name)
    copy.write(b"", "stages", STAGE.key, "spec.json")
    copy.remove("stages", STAGE.key, RESULT)
    run(STAGE, copy)
    assert copy.result(STAGE.key)["attempts"] == 2
    assert json.loads(copy.read("stages", STAGE.key, "spec.json"))
    assert numbers(STAGE, copy) == numbers(STAGE, unbroken)


# --- a full disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        yield disk


def test_without_room_for_a_checkpoint_a_stage_goes_on(disk: SmallDisk, unbroken: Store, caplog):
    store = Store(disk.folder / "store")
    running = run_stage(STAGE, store, Where(checkpoint_share=math.inf))
    next(running)
    disk.fill()
    list(islice(running, 2))
    assert "no checkpoint of epoch 3: [Errno 28] No space left on device" in caplog.text
    disk.ballast.unlink()
    list(running)
    assert numbers(STAGE, store) == numbers(STAGE, unbroken)
    assert not list(Path(store.path("stages", STAGE.key)).glob("*checkpoint*"))


def test_without_room_for_its_result_a_stage_fails_and_says_why(disk: SmallDisk, unbroken: Store):
    store = Store(disk.folder / "store")
    running = run_stage(STAGE, store, Where(checkpoint_share=0.0))
    next(running)
    disk.fill(leave=16384)
    with pytest.raises(StageFailed, match="No space left"):
        list(running)
    assert store.attempts(STAGE.key)[-1].cause == "disk full"
    assert {path.name for path in Path(store.path("stages", STAGE.key)).iterdir()} == {"spec.json", "attempts"}
    disk.ballast.unlink()
    run(STAGE, store)
    assert numbers(STAGE, store) == numbers(STAGE, unbroken)


def test_the_older_checkpoint_makes_room_for_the_result(disk: SmallDisk, unbroken: Store):
    store = Store(disk.folder / "store")
    running = run_stage(STAGE, store, Where(checkpoint_share=math.inf))
    list(islice(running, STAGE.epochs - 1))
    disk.fill()
    list(running)
    assert numbers(STAGE, store) == numbers(STAGE, unbroken)


def test_with_no_room_at_all_a_stage_fails_nevertheless(disk: SmallDisk):
    store = Store(disk.folder / "store")
    disk.fill()
    with pytest.raises(StageFailed, match="No space left"):
        list(run_stage(STAGE, store, Where()))
