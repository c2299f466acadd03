from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from obstore.store import LocalStore

from prunesweep.workers.appearing import appearing
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location
from prunesweep.workers.objects import Objects, open_objects
from prunesweep.workers.seal import sealed_json
from prunesweep.workers.store import CHECKPOINTS, RESULT, Damaged, State, Store
from tests import gcs
from tests.cases import last_stage, trial
from tests.damage import DAMAGE, damaged
from tests.s3 import bucket

STAGE = last_stage(trial("dense"))


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    with bucket() as url:
        yield url


@pytest.fixture(scope="module")
def google() -> Iterator[str]:
    with gcs.bucket() as url:
        yield url


@pytest.fixture(scope="module")
def google_xml() -> Iterator[str]:
    with gcs.xml_bucket() as url:
        yield url


@pytest.fixture(params=["local", "s3", "gcs", "gcs xml", "fsspec"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """The last one on a filesystem that pyarrow does not know under this name."""
    if request.param == "local":
        return Store(tmp_path / "store")
    if request.param == "fsspec":
        return Store(f"local://{tmp_path / 'store'}")
    if request.param == "gcs":
        return Store(request.getfixturevalue("google") % tmp_path.name)
    return Store(f"{request.getfixturevalue('google_xml' if request.param == 'gcs xml' else 'place')}/{tmp_path.name}")


def state(store: Store) -> State:
    return store.states([STAGE.key])[STAGE.key]


def test_progress_is_derived_from_files(store: Store):
    assert state(store) is State.ABSENT
    attempt = store.begin(STAGE)
    assert state(store) is State.STARTED
    store.fail(STAGE.key, replace(attempt, cause="error", message="boom", log=("epoch 1",)))
    assert state(store) is State.FAILED
    assert store.attempts(STAGE.key)[-1].log == ("epoch 1",)
    store.begin(STAGE)
    assert state(store) is State.STARTED
    store.publish(STAGE, {"network.safetensors": b"n"}, {"metrics": {}})
    assert state(store) is State.DONE


def test_a_stage_goes_with_all_that_it_has(store: Store):
    store.begin(STAGE)
    store.publish(STAGE, {"network.safetensors": b"n"}, {"metrics": {}})
    store.write(b"x", "stages", "other", "file")
    store.remove_tree("stages", "other", "file")
    store.remove_tree("stages", STAGE.key)
    assert state(store) is State.ABSENT
    assert store.files() == []


def test_reading_writes_nothing(store: Store):
    store.states([STAGE.key])
    store.result(STAGE.key)
    store.attempts(STAGE.key)
    store.names("stages")
    assert store.files() == []


def test_the_first_result_stands_and_takes_the_checkpoints_with_it(store: Store):
    store.write_checkpoint(STAGE.key, b"a third")
    store.write_checkpoint(STAGE.key, b"half way")
    assert len(store.names("stages", STAGE.key)) == 2
    store.publish(STAGE, {"network.safetensors": b"same"}, {"metrics": {"test_accuracy": 0.5}})
    store.publish(STAGE, {"network.safetensors": b"other"}, {"metrics": {"test_accuracy": 0.6}})
    assert store.read_published(STAGE.key, "network.safetensors") == b"same"
    assert store.result(STAGE.key)["metrics"] == {"test_accuracy": 0.5}
    assert store.read("stages", STAGE.key, "checkpoint.safetensors") is None
    assert store.names("stages", STAGE.key) == ["network.safetensors", "result.json"]


def test_one_file_that_is_gone_keeps_no_other_from_being_deleted(tmp_path: Path):
    """On Google's store files are deleted one by one, as on this one of obstore's; what is gone is an error there."""
    objects = Objects("bucket", "", LocalStore(tmp_path))
    there = [f"bucket/claim.{number}.json" for number in range(30)]
    for path in there:
        objects.write(path, b"")
    objects.remove(["bucket/gone", *there])
    assert list(tmp_path.iterdir()) == []


def test_a_changed_file_of_a_finished_stage_is_noticed(store: Store):
    store.publish(STAGE, {"network.safetensors": b"good"}, {"metrics": {}})
    assert store.read_published(STAGE.key, "network.safetensors") == b"good"
    store.write(b"bad!", "stages", STAGE.key, "network.safetensors")
    with pytest.raises(Damaged, match=STAGE.key):
        store.read_published(STAGE.key, "network.safetensors")


def test_each_result_is_its_own_stage_s_whatever_other_threads_read_meanwhile(place: str, monkeypatch):
    """As a search that decides does, while the tables are collected."""
    monkeypatch.setattr("prunesweep.workers.progress.SLICE", 2)
    keys = [f"{number:020}" for number in range(12)]
    store = Store(f"{place}/threads")
    for key in keys:
        store.write(sealed_json({"key": key, "files": {}, "label": key}), "stages", key, RESULT)
    store.states(keys[10:])
    labels = []
    for number, result in enumerate(store.results(keys)):
        labels.append(result["label"])
        if number == 2:
            store.states([keys[5]])
            store.release([keys[10]])
    assert labels == keys


def test_many_files_are_read_in_the_order_that_was_asked_for(store: Store):
    paths = [("stages", f"{number:020}", RESULT) for number in range(70)]
    for path in paths[::2]:
        store.write(path[1].encode(), *path)
    expected = [path[1].encode() if number % 2 == 0 else None for number, path in enumerate(paths)]
    assert store.read_many(paths) == expected
    assert store.read_many(reversed(paths)) == expected[::-1]
    assert store.read_many([]) == []
    assert [file.path for file in store.files("stages", paths[2][1])] == [paths[2]]
    assert store.files("stages", paths[1][1]) == []


def test_the_newest_two_checkpoints_are_kept(store: Store):
    for content in (b"1", b"2", b"3"):
        store.write_checkpoint(STAGE.key, content)
    assert [store.read("stages", STAGE.key, name) for name in CHECKPOINTS] == [b"3", b"2"]


def test_setting_aside_renames_what_is_damaged_and_the_result(store: Store):
    files = {"network.safetensors": b"good", "curve.parquet": b"curve"}
    store.publish(STAGE, files, {"metrics": {}})
    assert store.set_aside(STAGE.key) == []
    store.write(b"bad!", "stages", STAGE.key, "network.safetensors")
    assert store.set_aside(STAGE.key) == [store.path("stages", STAGE.key, "network.safetensors")]
    curve, *aside = store.names("stages", STAGE.key)
    assert curve == "curve.parquet"
    assert sorted(name.split("-", 2)[2] for name in aside) == ["network.safetensors", "result.json"]
    assert {store.read("stages", STAGE.key, name) for name in aside} > {b"bad!"}
    assert store.set_aside(STAGE.key) == []
    assert state(store) is not State.DONE
    store.publish(STAGE, files, {"metrics": {}})
    assert store.read_published(STAGE.key, "network.safetensors") == b"good"


@pytest.mark.parametrize("damage", DAMAGE)
def test_any_damage_to_a_result_is_noticed(damage: str, store: Store):
    store.publish(STAGE, {}, {"metrics": {"test_accuracy": 0.5}})
    whole = store.read("stages", STAGE.key, RESULT)
    for bad in damaged(whole, damage):
        store.write(bad, "stages", STAGE.key, RESULT)
        assert (state(store), store.result(STAGE.key), store.done([STAGE.key])) == (State.DAMAGED, None, set())
    store.write(whole, "stages", STAGE.key, RESULT)
    assert state(store) is State.DONE


def test_a_damaged_note_of_an_attempt_still_counts(store: Store):
    first = store.begin(STAGE)
    store.fail(STAGE.key, replace(first, cause="error"))
    name = store.begin(STAGE).name
    for bad in (b"", b"{", b"[]", b'{"name": "x"}'):
        store.write(bad, "stages", STAGE.key, "attempts", f"{name}.json")
        assert [attempt.name for attempt in store.attempts(STAGE.key)] == [first.name, name]
        assert state(store) is State.STARTED


def test_attempts_are_in_order_though_the_clock_is_set_back(store: Store, monkeypatch: pytest.MonkeyPatch):
    first = store.begin(STAGE)
    monkeypatch.setattr("prunesweep.workers.store.now", lambda: "1999-12-31T23:59:59.000000+00:00")
    second = store.begin(STAGE)
    assert [attempt.name for attempt in store.attempts(STAGE.key)] == [first.name, second.name]
    assert second.started_at < first.started_at


def test_how_far_a_stage_is_does_not_hang_on_one_checkpoint(store: Store):
    def packed(epoch: object) -> bytes:
        return headed(json.dumps({"__metadata__": {"progress": json.dumps({"epoch": epoch})}}).encode())

    def headed(header: bytes) -> bytes:
        return len(header).to_bytes(8, "little") + header

    assert store.checkpointed_epochs(STAGE.key) is None
    store.write_checkpoint(STAGE.key, packed(3))
    nested = json.dumps({"__metadata__": {"progress": "[" * 50_000}}).encode()
    for bad in (b"", b"\xff" * 100, packed(4)[:-5], headed(b"[]"), packed("4"), headed(b"[" * 50_000), headed(nested)):
        store.write_checkpoint(STAGE.key, packed(3))
        store.write_checkpoint(STAGE.key, bad)
        assert store.checkpointed_epochs(STAGE.key) == 3
    store.write_checkpoint(STAGE.key, packed(4))
    assert store.checkpointed_epochs(STAGE.key) == 4


def test_a_metric_that_is_no_number_is_refused(store: Store):
    with pytest.raises(ValueError, match="JSON"):
        store.publish(STAGE, {}, {"metrics": {"test_loss": float("nan")}})
    assert state(store) is not State.DONE


def test_a_store_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not writable"):
        Store(tmp_path / "file" / "store").require_writable()


def test_an_unknown_kind_of_url_is_a_clear_error():
    with pytest.raises(UserError, match="cannot open"):
        Store("nonsense://bucket/x")


def test_a_local_store_by_url_is_the_same_store(tmp_path):
    """pyarrow's URLs go through the same code as `s3://`."""
    Store(tmp_path).publish(STAGE, {}, {"metrics": {}})
    assert Store(f"file://{tmp_path}").done([STAGE.key]) == {STAGE.key}


def test_a_file_or_folder_appears_whole_or_not_at_all(tmp_path: Path):
    target, fixed = tmp_path / "target", tmp_path / "target.part"
    with appearing(target) as place:
        place.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    with pytest.raises(TypeError), appearing(target) as place:
        place.write_bytes("half, and then not bytes")  # type: ignore[arg-type]
    with pytest.raises(FileExistsError), appearing(target, replace=False) as place:
        place.write_text("late")
    assert target.read_text() == "whole"
    fixed.mkdir()
    (fixed / "left by a killed process").touch()
    with appearing(tmp_path / "folder", temporary=fixed) as place:
        place.mkdir()
        (place / "file").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "target"]


def test_of_many_who_create_a_file_at_once_one_is_told_that_it_was_the_first(store: Store):
    if not store.exclusive:
        pytest.skip("there it is looked first, and then written")
    with ThreadPoolExecutor(8) as pool:
        firsts = list(
            pool.map(lambda n: store.write(f"{n}".encode(), "stages", STAGE.key, RESULT, replace=False), range(8))
        )
    assert sum(firsts) == 1
    assert store.read("stages", STAGE.key, RESULT) == f"{firsts.index(True)}".encode()


@pytest.mark.parametrize("kind", ["external_account", "impersonated_service_account"])
def test_an_account_of_google_s_that_obstore_does_not_know_leaves_the_store_to_pyarrow(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "account.json"
    file.write_text(json.dumps({"type": kind}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    monkeypatch.delenv("GOOGLE_SERVICE_ACCOUNT_KEY", raising=False)
    assert open_objects(Location("gs://somebody-s/results")) is None
    assert open_objects(Location("gs://anonymous@somebody-s/results")) is None
