"""What files hold that may be anybody's is held to its types where it is read, whatever its checksum says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from prunesweep.workers.claims import Claim, newest
from prunesweep.workers.decoding import decode_stage, decode_trial
from prunesweep.workers.encoding import encode
from prunesweep.workers.seal import sealed_json
from prunesweep.workers.spec import RetrainSpec, TrainSpec, label
from prunesweep.workers.store import RESULT, Attempt, Store
from prunesweep.workers.typed import typed
from tests.cases import last_stage, trial
from tests.orchestrator.finished import result_of

STAGE = last_stage(trial("imp"))
ODD: list[Any] = [True, -(10**30), 1e308, "x", [], {}, [[]], {"a": 1}, [None]]


def test_a_value_has_its_fields_and_lists_are_tuples():
    said = {"epochs": 2, "lr": 1, "milestones": [1, 2], "gamma": None}
    assert typed(TrainSpec, said) == TrainSpec(epochs=2, lr=1, milestones=(1, 2))
    assert typed(RetrainSpec, {"epochs": 1}) == RetrainSpec(1)


@pytest.mark.parametrize(
    "said",
    [
        *({"epochs": value} for value in (2.0, True, "2", None, 2**63)),
        *({"lr": value} for value in (float("nan"), float("inf"), 1e301, False, "0.1")),
        *({"milestones": value} for value in ([1.5], [[1]], "1", {})),
        {"compile": 1},
        {"no such": 1},
    ],
    ids=str,
)
def test_another_type_is_refused(said: dict[str, Any]):
    with pytest.raises(TypeError, match=f"its {next(iter(said))} is "):
        typed(TrainSpec, said)


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """The way to each field, also of nested ones; of a list to the first item."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for name, inner in items:
        yield (name,)
        yield from ((name, *rest) for rest in places(inner))


def wrong(content: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The content with one odd value, of another type than is there, in each place."""
    for way in places(content):
        for value in ODD:
            changed = json.loads(json.dumps(content))
            *outer, last = way
            place = changed
            for name in outer:
                place = place[name]
            if type(value) is not type(place[last]):
                place[last] = value
                yield way, changed


def test_trials_and_stages_of_wrong_types_are_refused_or_can_be_named():
    refused = 0
    for decode, value in ((decode_trial, trial("imp")), (decode_stage, STAGE)):
        assert decode(encode(value)) == value
        for _, said in wrong(encode(value)):
            try:
                other = decode(said)
            except (TypeError, ValueError, KeyError, AttributeError):
                refused += 1
                continue
            assert len(other.key) == 20
            assert decode is decode_trial or label(other)
    assert refused > 400


@pytest.mark.parametrize("stages", [300, 900])
def test_a_path_without_end_is_refused(stages: int):
    """Its key would be computed stage by stage, and Python's recursion has an end."""
    said = encode(STAGE)
    for _ in range(stages):
        said = {**encode(STAGE), "parent": said}
    with pytest.raises(ValueError, match="more than 200 stages"):
        decode_stage(said)


@pytest.mark.parametrize("config", ["[]", "3", "null", "x", '{"model_type": "gpt2"}', None, ["x"]])
def test_a_model_of_transformers_is_one_that_a_sweep_file_could_describe(config: object):
    """Else a row of a table, which says it in a few words, would be the first to stumble over it."""
    said = encode(trial("imp"))
    with pytest.raises(ValueError, match=r"config.json"):
        decode_trial({**said, "model": {"name": "transformers", "options": {"config": config}}})


def test_notes_of_wrong_types_are_attempts_of_which_nothing_is_known(tmp_path: Path):
    store = Store(tmp_path)
    note = asdict(Attempt("0001-a", "2026-01-02T03:04:05+00:00", "host", 1, "diverged", "why", None, ("a", "b")))
    for way, said in wrong(note):
        if way != ("log",) or said["log"] != []:
            store.write(sealed_json(said), "stages", STAGE.key, "attempts", "0001-a.json")
            (attempt,) = store.attempts(STAGE.key)
            assert attempt in (Attempt("0001-a", "", "", 0), typed_or_none(said)), way
    store.write(sealed_json({**note, "started_at": "x"}), "stages", STAGE.key, "attempts", "0001-a.json")
    assert store.attempts(STAGE.key) == [Attempt("0001-a", "", "", 0)]


def typed_or_none(said: dict[str, Any]) -> Attempt | None:
    """What takes a text where none was, of the fields that may have one."""
    return Attempt(**{**said, "log": tuple(said["log"])}) if said["traceback"] == "x" else None


def test_claims_of_wrong_types_are_nobody_s(tmp_path: Path):
    store = Store(tmp_path)
    claim = asdict(Claim("0001-a", "run", "machine", 1, "born"))
    for name in ("owner", "run", "process", "beats", "user"):
        store.write(sealed_json({**claim, name: []}), "stages", STAGE.key, "claim.1.json")
        assert newest(store, STAGE.key) == (1, None)
    store.write(sealed_json({**claim, "doing": {"host": 1, "device": []}}), "stages", STAGE.key, "claim.1.json")
    assert newest(store, STAGE.key) == (1, Claim("0001-a", "run", "machine", 1, "born"))


def test_results_of_wrong_types_are_none_and_are_set_aside(tmp_path: Path):
    store = Store(tmp_path)
    whole = {**result_of(STAGE), "key": STAGE.key, "publication": "0123abcd", "files": {}}
    for way, said in wrong(whole):
        if not {"nonzero_multiply_adds", "peak_memory_bytes", "commit", "test_accuracy_top5", "key"} & {*way}:
            store.write(sealed_json(said), "stages", STAGE.key, RESULT)
            assert store.result(STAGE.key) is None or way[-1] in ("layers", "files", "metrics"), way
    store.write(sealed_json({**whole, "layers": {}}), "stages", STAGE.key, RESULT)
    assert store.set_aside(STAGE.key) == [store.path("stages", STAGE.key, RESULT)]
    assert store.result(STAGE.key) is None
    assert store.names("stages", STAGE.key)[0].startswith("damaged-")
