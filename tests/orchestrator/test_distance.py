"""A store at a distance: how many requests each verb makes, counted on a real S3 endpoint. Numbers, no seconds."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import ceil
from pathlib import Path

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from rich.console import Console

from prunesweep import load_results
from prunesweep.orchestrator.index import INDEX
from prunesweep.orchestrator.plan import Plan, make_plan, make_plans
from prunesweep.orchestrator.records import RECORD, read_records, remember, require
from prunesweep.orchestrator.run.driver import Options, SweepRun
from prunesweep.orchestrator.status import garbage
from prunesweep.orchestrator.status.forecast import HISTORY, estimate
from prunesweep.orchestrator.status.status import failures, look, unfinished
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.causes import Cause
from prunesweep.workers.store import RESULT, State, Store
from tests.orchestrator.finished import files_of
from tests.s3 import Requests, bucket

SWEEP = """\
name: %s
dataset: digits
model: lenet300
seeds: %d
trials: [{method: dense}]
"""
"""A stage for each seed."""

SMALL, LARGE = 20, 252
FILES = 4
"""Of each stage: what was asked, a note, the curve and the result."""


def pages(stages: int) -> int:
    """Requests that list the files of so many stages."""
    return ceil(FILES * stages / 1000)


@pytest.fixture(scope="module")
def requests() -> Requests:
    return Requests()


@pytest.fixture(scope="module")
def place(requests: Requests) -> Iterator[str]:
    with bucket(requests) as url:
        yield url


def sweep_of(stages: int, folder: Path, name: str = "far") -> Sweep:
    (folder / f"{name}.yaml").write_text(SWEEP % (name, stages))
    return read_sweep(folder / f"{name}.yaml")


def plan_of(stages: int, folder: Path, place: str) -> tuple[Plan, Store]:
    """As a new process makes it."""
    store = Store(place)
    return make_plan(sweep_of(stages, folder), store), store


def run(plan: Plan, store: Store) -> None:
    SweepRun(store, Options(), Console(file=io.StringIO())).run(plan)


@pytest.fixture(scope="module")
def small(place: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where `SMALL` stages are finished, without tables."""
    return finished(SMALL, f"{place}/small", tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def large(place: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where `LARGE` stages are."""
    return finished(LARGE, f"{place}/large", tmp_path_factory.mktemp("large"))


def finished(count: int, place: str, folder: Path) -> str:
    plan, store = plan_of(count, folder, place)
    store.require_writable()
    remember(plan.sweep, store)
    finish(plan, store)
    return store.location.reveal()


def finish(plan: Plan, store: Store) -> None:
    """Put into the endpoint itself what workers write: that saves most of the time."""
    name, _, prefix = store.location.reveal().removeprefix("s3://").partition("/")
    objects = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for key, stage in plan.to_run.items():
        for path, data in files_of(stage, store).items():
            objects.put_object(name, f"{prefix}/stages/{key}/{path}", data)


def test_a_plan_of_new_stages_asks_once_for_all_that_there_are(place: str, requests: Requests, tmp_path: Path) -> None:
    with requests.counted() as made:
        plan, store = plan_of(1000, tmp_path, f"{place}/new")
        assert estimate(plan, store) is None
    assert set(plan.states.values()) == {State.ABSENT}
    assert made == {"GET": 3}, "the index, one listing for the states, one for the forecast"


@pytest.mark.parametrize("count", [SMALL, LARGE])
def test_results_are_read_once_in_their_life(
    count: int, request: pytest.FixtureRequest, requests: Requests, tmp_path: Path
) -> None:
    """By the first run that writes tables of them; whoever comes later reads the index."""
    place = request.getfixturevalue("small" if count == SMALL else "large")
    with requests.counted() as made:
        plan, store = plan_of(count, tmp_path, place)
    assert set(plan.states.values()) == {State.DONE}
    assert made == {"GET": 1 + pages(count) + count}, "no index, the listing, and each result"
    with requests.counted() as made:
        run(plan, store)
    assert made == {"GET": 2 + count + pages(count), "PUT": 5}, "the index, each curve; four tables and the index"
    with requests.counted() as made:
        plan, store = plan_of(count, tmp_path, place)
    assert set(plan.states.values()) == {State.DONE}
    assert made == {"GET": 1 + pages(count)}
    with requests.counted() as made:
        run(plan, store)
    assert made == {"GET": 1 + 4}, "the index and the tables, which are right"
    remember(plan.sweep, store)
    with requests.counted() as made:
        remember(plan.sweep, store)
    assert made == {"GET": 1}, "the record says the same"
    with requests.counted() as made:
        plan.refreshed(store)
    assert made == {"GET": pages(count)}
    with requests.counted() as made:
        assert garbage.find(store).paths == {}
    assert made == {"GET": pages(count) + 2, "HEAD": 1}, "all files, the sweeps, and their records"


def test_a_sweep_that_is_extended_costs_what_is_new(requests: Requests, place: str, tmp_path: Path) -> None:
    store = Store(finished(SMALL, f"{place}/extended", tmp_path))
    run(*plan_of(SMALL, tmp_path, f"{place}/extended"))
    finish(make_plan(sweep_of(SMALL + 7, tmp_path), store), store)
    with requests.counted() as made:
        run(*plan_of(SMALL + 7, tmp_path, f"{place}/extended"))
    planned, collected = 1 + pages(SMALL + 7) + 7, 2 + 4 + 7 + pages(SMALL + 7)
    assert made == {"GET": planned + collected, "PUT": 5}, "of what is new results and curves; the index and the tables"
    assert len(load_results(f"{place}/extended/far")) == SMALL + 7


def test_status_and_results_of_a_finished_sweep(large: str, requests: Requests, tmp_path: Path) -> None:
    run(*plan_of(LARGE, tmp_path, large))
    store = Store(large)
    with requests.counted() as made:
        plans, seen = look(make_plans([require("far", store)], store), store)
        assert (list(seen), failures(plans[0], store), unfinished(plans[0], store, seen)) == ([], [], [])
    assert made == {"GET": 1 + 1 + pages(LARGE)}, "the record, the index, the listing"
    with requests.counted() as made:
        assert len(load_results("far", store=large)) == LARGE
    assert made == {"GET": 2, "HEAD": 1}, "the record and the table"


@pytest.mark.parametrize("sweeps", [2, 9])
def test_the_status_of_all_sweeps_costs_three_requests_for_each(
    sweeps: int, place: str, requests: Requests, tmp_path: Path
) -> None:
    store = Store(f"{place}/{sweeps}-sweeps")
    for number in range(sweeps):
        remember(sweep_of(3, tmp_path, f"s{number}"), store)
    store.write(b"{}", "s0", RECORD)
    with requests.counted() as made:
        read = read_records(store)
        plans = make_plans([sweep for sweep in read if isinstance(sweep, Sweep)], store)
    assert [plan.sweep.name for plan in plans] == [f"s{number}" for number in range(1, sweeps)]
    assert made["HEAD"] == sweeps, "whether it has a record"
    assert made["GET"] == 1 + sweeps + (sweeps - 1) + 3, "their names; records, indexes, and the three stages"


def damage(store: Store, key: str) -> None:
    store.write(b"{}", "stages", key, RESULT)


def flip(store: Store, key: str) -> None:
    """Another digit, so that the file is as large as before."""
    data = store.read("stages", key, RESULT) or b""
    place = next(place for place in range(len(data) // 2, len(data)) if data[place : place + 1].isdigit())
    other = b"2" if data[place : place + 1] == b"1" else b"1"
    store.write(data[:place] + other + data[place + 1 :], "stages", key, RESULT)


def take_away(store: Store, key: str) -> None:
    store.remove("stages", key, RESULT)


@pytest.mark.parametrize(
    ("change", "state"), [(damage, State.DAMAGED), (flip, State.DAMAGED), (take_away, State.STARTED)]
)
def test_a_result_that_is_not_as_the_index_says_is_noticed(
    small: str, change: Callable[[Store, str], None], state: State, requests: Requests, tmp_path: Path
) -> None:
    run(*plan_of(SMALL, tmp_path, small))
    store = Store(small)
    key = store.names("stages")[SMALL // 2]
    kept = store.read("stages", key, RESULT) or b""
    try:
        change(store, key)
        with requests.counted() as made:
            plan, _ = plan_of(SMALL, tmp_path, small)
        assert {key for key, state in plan.states.items() if state is not State.DONE} == {key}
        assert plan.states[key] is state
        assert made == {"GET": 1 + pages(SMALL) + 1}, "the index, the listing, and the result or the note"
    finally:
        store.write(kept, "stages", key, RESULT)


@pytest.mark.parametrize("index", [b"", b'{"files": 3}', None])
def test_an_index_that_is_damaged_or_missing_is_made_again(
    small: str, index: bytes | None, requests: Requests, tmp_path: Path
) -> None:
    run(*plan_of(SMALL, tmp_path, small))
    store = Store(small)
    whole = store.read("far", INDEX)
    store.remove("far", INDEX) if index is None else store.write(index, "far", INDEX)
    with requests.counted() as made:
        plan, again = plan_of(SMALL, tmp_path, small)
    assert set(plan.states.values()) == {State.DONE}
    assert made == {"GET": 1 + pages(SMALL) + SMALL}
    run(plan, again)
    assert store.read("far", INDEX) == whole


def test_few_stages_of_a_large_store_do_not_list_it(large: str, requests: Requests, tmp_path: Path) -> None:
    with requests.counted() as made:
        plan = make_plan(sweep_of(5, tmp_path, "few"), Store(large))
    assert list(plan.states.values()) == [State.DONE] * 5
    assert made == {"GET": 1 + 5 + 5}, "no index, a listing of its folder for each, and its result"


def test_a_forecast_lists_no_more_than_a_thousand_files(large: str, requests: Requests, tmp_path: Path) -> None:
    plan, store = make_plan(sweep_of(LARGE + 1, tmp_path, "more"), Store(large)), Store(large)
    with requests.counted() as made:
        assert estimate(plan, store) is not None
    assert made["GET"] == HISTORY, "the results of some of its own stages"
    unlike = make_plan(Sweep(**{**vars(plan.sweep), "trials": plan.sweep.trials[LARGE:]}), store)
    with requests.counted() as made:
        assert estimate(unlike, store) is not None
    assert made["GET"] == 1 + 2 * HISTORY, "a listing; what others are, and their results"


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
    assert made == {"GET": 1 + 2 + 2}
