"""A store at a distance: how many requests each verb makes, counted on a real S3 endpoint. Numbers, no seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.status.forecast import estimate
from prunesweep.orchestrator.sweepfile.read import Sweep, read_sweep
from prunesweep.workers.causes import Cause
from prunesweep.workers.listing import FEW
from prunesweep.workers.store import CURVE, RESULT, State, Store
from tests.orchestrator.finished import finish
from tests.s3 import Requests, bucket

SWEEP = """\
name: far
dataset: digits
model: lenet300
seeds: %d
trials: [{method: dense}]
"""
"""A stage for each seed."""

STAGES = FEW + 20


@pytest.fixture(scope="module")
def requests() -> Requests:
    return Requests()


@pytest.fixture(scope="module")
def place(requests: Requests) -> Iterator[str]:
    with bucket(requests) as url:
        yield url


def sweep_of(stages: int, folder: Path) -> Sweep:
    (folder / "far.yaml").write_text(SWEEP % stages)
    return read_sweep(folder / "far.yaml")


@pytest.fixture(scope="module")
def done(place: str, requests: Requests, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store in which `STAGES` stages are finished."""
    folder, store = tmp_path_factory.mktemp("done"), Store(f"{place}/done")
    finish(SWEEP % STAGES, Store(folder / "near"), folder / "far.yaml")
    paths = [file.path for file in Store(folder / "near").files() if file.path[-1] in (RESULT, CURVE)]
    store.at_once(lambda path: store.write((folder / "near").joinpath(*path).read_bytes(), *path), paths)
    return store.location.reveal()


def test_a_plan_of_new_stages_asks_once_for_all_that_there_are(place: str, requests: Requests, tmp_path: Path) -> None:
    store = Store(f"{place}/new")
    with requests.counted() as made:
        plan = make_plan(sweep_of(1000, tmp_path), store)
        assert estimate(plan, store) is None
    assert set(plan.states.values()) == {State.ABSENT}
    assert made == {"GET": 2}, "one listing for the states, one for the forecast"


@pytest.mark.slow
def test_a_result_is_read_once_while_it_stays_as_it_is(done: str, requests: Requests, tmp_path: Path) -> None:
    store = Store(done)
    with requests.counted() as made:
        plan = make_plan(sweep_of(STAGES, tmp_path), store)
        estimate(plan, store)
    assert set(plan.states.values()) == {State.DONE}
    assert made == {"GET": 2 + STAGES}, "two listings of fewer than 1,000 names, and the results"
    with requests.counted() as made:
        assert plan.refreshed(store).states == plan.states
    assert made == {"GET": 2}
    key = next(iter(plan.stages))
    kept = store.read("stages", key, RESULT)
    store.write(b"{}", "stages", key, RESULT)
    assert plan.refreshed(store).states[key] is State.DAMAGED, "its size is another"
    store.write(kept, "stages", key, RESULT)


@pytest.mark.slow
def test_few_stages_of_a_large_store_do_not_list_it(done: str, requests: Requests, tmp_path: Path) -> None:
    with requests.counted() as made:
        plan = make_plan(sweep_of(10, tmp_path), Store(done))
    assert list(plan.states.values()) == [State.DONE] * 10
    assert made == {"GET": 20}, "a listing of its folder for each, and its result"


def test_of_a_stage_that_failed_again_and_again_one_note_is_read(
    place: str, requests: Requests, tmp_path: Path
) -> None:
    store = Store(f"{place}/failed")
    sweep = sweep_of(2, tmp_path)
    for stage in make_plan(sweep, store).stages.values():
        for _ in range(4):
            store.fail(stage.key, replace(store.begin(stage), cause=str(Cause.DIVERGED)))
    with requests.counted() as made:
        plan = make_plan(sweep, store)
    assert list(plan.states.values()) == [State.FAILED] * 2
    assert made == {"GET": 4}
