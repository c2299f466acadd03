from __future__ import annotations

from dataclasses import replace

import pytest

from tests.cases import last_stage, trial
from workers.errors import UserError
from workers.store import Damaged, State, Store

STAGE = last_stage(trial("dense"))


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


def test_reading_writes_nothing(store: Store, tmp_path):
    store.states([STAGE.key])
    store.result(STAGE.key)
    store.attempts(STAGE.key)
    store.names("stages")
    assert list(tmp_path.iterdir()) == []


def test_the_first_result_stands_and_takes_the_checkpoint_with_it(store: Store):
    store.write(b"half way", "stages", STAGE.key, "checkpoint.safetensors")
    store.publish(STAGE, {"network.safetensors": b"same"}, {"metrics": {"test_accuracy": 0.5}})
    store.publish(STAGE, {"network.safetensors": b"other"}, {"metrics": {"test_accuracy": 0.6}})
    assert store.read_published(STAGE.key, "network.safetensors") == b"same"
    assert store.result(STAGE.key)["metrics"] == {"test_accuracy": 0.5}
    assert store.read("stages", STAGE.key, "checkpoint.safetensors") is None
    assert not [name for name in store.names("stages", STAGE.key) if name.endswith(".tmp")]


def test_a_changed_file_of_a_finished_stage_is_noticed(store: Store):
    store.publish(STAGE, {"network.safetensors": b"good"}, {"metrics": {}})
    assert store.read_published(STAGE.key, "network.safetensors") == b"good"
    store.write(b"bad!", "stages", STAGE.key, "network.safetensors")
    with pytest.raises(Damaged, match=STAGE.key):
        store.read_published(STAGE.key, "network.safetensors")


def test_a_metric_that_is_no_number_is_refused(store: Store):
    with pytest.raises(ValueError, match="JSON"):
        store.publish(STAGE, {}, {"metrics": {"test_loss": float("nan")}})
    assert state(store) is not State.DONE


def test_a_store_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not writable"):
        Store(tmp_path / "file" / "store").require_writable()


def test_an_unknown_kind_of_url_is_a_clear_error():
    with pytest.raises(UserError, match="cannot open the store"):
        Store("nonsense://bucket/x")


def test_a_local_store_by_url_is_the_same_store(tmp_path):
    """pyarrow's URLs go through the same code as `s3://`."""
    Store(tmp_path).publish(STAGE, {}, {"metrics": {}})
    assert Store(f"file://{tmp_path}").done([STAGE.key]) == {STAGE.key}
