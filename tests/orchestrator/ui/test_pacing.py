"""How often a store is read: once for all viewers, and not for what is known to be done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.records import require
from prunesweep.orchestrator.ui import curves
from prunesweep.orchestrator.ui.pacing import MOST_KEPT, Part, Reading, Readings, Tempo
from prunesweep.orchestrator.ui.pages import Pages
from prunesweep.orchestrator.ui.sweeps import Watch
from prunesweep.orchestrator.ui.watching import Claims, WatchedStore
from prunesweep.workers.activity import Activity
from prunesweep.workers.claims import Claim
from prunesweep.workers.seal import sealed_json
from prunesweep.workers.spec import CLASSIFICATION
from prunesweep.workers.store import State, Store
from tests.orchestrator.finished import finish
from tests.s3 import Requests, bucket

SWEEP = """\
name: far
dataset: digits
model: resnet8
seeds: 2
train: {epochs: 20}
trials:
  - method: dense
  - {method: imp, sparsity: [0.8, 0.9, 0.95], retrain_epochs: [1, 2], retrain_schedule: [FT, ALLR]}
"""
STAGES = 2 * (1 + 3 * 2 * 2)


def test_viewers_at_the_same_time_share_a_reading():
    made: list[int] = []
    reading = Reading(lambda: made.append(1) or len(made), 60.0)  # type: ignore[func-returns-value]
    assert [reading.latest() for _ in range(5)] == [1] * 5
    assert len(made) == 1


def test_while_a_reading_is_made_the_others_get_the_one_before():
    slow, entered = threading.Event(), threading.Event()
    values = iter([1, 2])

    def make() -> int:
        value = next(values)
        if value == 2:
            entered.set()
            slow.wait(10)
        return value

    reading = Reading(make, 0.0)
    assert reading.latest() == 1
    time.sleep(0.01)
    first: list[int] = []
    thread = threading.Thread(target=lambda: first.append(reading.latest()))
    thread.start()
    entered.wait(10)
    assert reading.latest() == 1
    slow.set()
    thread.join()
    assert first == [2]


def test_a_part_is_made_again_only_when_its_basis_has_changed():
    part: Part[str] = Part()
    assert part.made(1, lambda: "one") == "one"
    assert part.made(1, lambda: "never") == "one"
    time.sleep(0.01)
    assert until(lambda: part.made(2, lambda: "two"), "two")


def until(look: Callable[[], str], value: str) -> bool:
    """Whether it comes to that, sooner or later."""
    deadline = time.monotonic() + 10
    while look() != value and time.monotonic() < deadline:
        time.sleep(0.01)
    return look() == value


def test_what_takes_long_holds_nobody_up():
    part: Part[str] = Part()
    part.made(1, lambda: "one")
    time.sleep(0.01)
    slow = threading.Event()
    assert part.made(2, lambda: "two" if slow.wait(10) else "") == "one"
    assert part.made(3, lambda: "three") == "one"
    slow.set()
    assert until(lambda: part.made(2, lambda: "two"), "two")


def test_a_part_that_cannot_be_made_says_so_and_is_tried_again():
    part: Part[str] = Part()
    part.made(1, lambda: "one")
    time.sleep(0.01)

    def unreadable() -> str:
        raise OSError("gone")

    part.made(2, unreadable)
    with pytest.raises(OSError, match="gone"):
        until(lambda: part.made(2, unreadable), "never")
    assert until(lambda: part.made(3, lambda: "three"), "three")


def test_what_takes_long_is_made_in_a_tenth_of_the_time():
    part: Part[str] = Part()
    part.made(1, lambda: time.sleep(0.2) or "one")  # type: ignore[func-returns-value]
    assert part.made(2, lambda: "two") == "one", "for two seconds"


def test_a_page_asks_seldom_when_nothing_runs_and_nothing_has_changed_for_a_minute():
    tempo = Tempo(2.0)
    looks = [
        ("new", False, 0.0),
        ("new", False, 59.0),
        ("new", False, 61.0),
        ("new", True, 62.0),
        ("done", False, 90.0),
    ]
    assert [tempo.seconds(*look) for look in looks] == [2.0, 2.0, 30.0, 2.0, 2.0]
    assert tempo.seconds("done", False, 151.0) == 30.0


def test_pages_that_nobody_has_looked_at_for_long_are_dropped():
    readings: Readings[int] = Readings(60.0)
    made: list[int] = []

    def look(number: int) -> int:
        return readings.latest(number, lambda: lambda: made.append(number) or number)  # type: ignore[func-returns-value]

    for number in range(MOST_KEPT + 1):
        assert look(number) == number
    assert made == list(range(MOST_KEPT + 1))
    look(MOST_KEPT)
    look(0)
    assert made[MOST_KEPT + 1 :] == [0]


# --- a store at a distance


@pytest.fixture(scope="module")
def requests() -> Requests:
    return Requests()


@pytest.fixture(scope="module")
def far(requests: Requests, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A finished sweep on S3."""
    with bucket(requests) as url:
        store = Store(url)
        store.require_writable()
        finish(SWEEP, store, tmp_path_factory.mktemp("far") / "far.yaml")
        yield store


def test_a_finished_sweep_on_s3_costs_a_few_requests_a_look(requests: Requests, far: Store):
    pages = Pages(far)
    assert f"all {STAGES} trials are done" in pages.sweep("far").parts["progress"]
    with requests.counted() as none:
        for _ in range(100):
            assert pages.sweep("far").parts["comparison"]
    assert none.total() == 0, "within ten seconds"
    watch = Watch("far", WatchedStore(far))
    watch.moment()
    with requests.counted() as again:
        watch.moment()
    assert again.total() == 1


def test_what_is_done_is_not_asked_for_again(requests: Requests, far: Store):
    store = WatchedStore(far)
    keys = list(make_plan(require("far", far), far).stages)
    assert set(store.states(keys).values()) == {State.DONE}
    with requests.counted() as known:
        assert set(store.states(keys).values()) == {State.DONE}
    assert known.total() == 0
    with requests.counted() as asked:
        assert store.states([*keys, "0" * 20])["0" * 20] is State.ABSENT
    assert asked.total() == 1


# --- who lives


def test_a_claim_of_another_machine_that_is_not_renewed_is_silent(tmp_path: Path):
    store, key = Store(tmp_path), "0" * 20
    doing = Activity("far", "cuda:0", epoch=3)
    theirs = Claim("0001-them", "their run", "another machine", 1, "1", doing=doing)
    claims = Claims()
    store.write(sealed_json(asdict(theirs)), "stages", key, "claim.1.json")
    assert claims.seen([key], store, 100.0) == {key: theirs}
    assert claims.seen([key], store, 104.0) == {key: theirs}
    assert claims.seen([key], store, 105.0) == {key: None}
    store.write(sealed_json(asdict(replace(theirs, beats=1))), "stages", key, "claim.1.json")
    assert claims.seen([key], store, 106.0) == {key: replace(theirs, beats=1)}
    store.remove("stages", key, "claim.1.json")
    assert claims.seen([key], store, 107.0) == {}


# --- curves


def test_the_curve_of_a_trial_marks_its_prunes():
    rows = [(1, 0.5, 0.4, 0.9, 0.1, 0.0), (2, 0.3, 0.3, 0.95, 0.0, 0.0), (2, None, 0.6, 0.5, None, 0.8)]
    chart = curves.of_trial([*rows, (3, 0.4, 0.3, 0.9, 0.1, 0.8)], CLASSIFICATION)
    assert chart is not None
    accuracy, loss, rate, sparsity = chart.panels
    assert [panel.marks for panel in chart.panels] == [[2]] * 4
    assert list(accuracy.series[0].y) == pytest.approx([90, 95, 50, 90])
    assert [list(series.x) for series in loss.series] == [[1, 2, 3], [1, 2, 2, 3]]
    assert list(rate.series[0].x) == [1, 2, 3]
    assert list(sparsity.series[0].y) == pytest.approx([0, 0, 80, 80])
    assert curves.of_trial([], CLASSIFICATION) is None
