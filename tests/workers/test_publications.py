"""Two processes publish the same stage with other bits, as two GPUs have: one of them wins, and whole."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import combinations
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from prunesweep.workers.store import CURVE, NETWORK, RESULT, State, Store
from tests.cases import last_stage, trial
from tests.gcs import xml_bucket
from tests.s3 import bucket

STAGE = last_stage(trial("dense"))
FILES = (NETWORK, CURVE)
STEPS = 5
"""The most that a publication takes: two files, the result, and for each file its name, or its removal."""


class Stepping(Store):
    """Waits to be told before everything that it changes."""

    def __init__(self, location: str, pipe: Connection) -> None:
        super().__init__(location)
        self.pipe = pipe

    def _wait(self) -> None:
        self.pipe.send("waiting")
        self.pipe.recv()

    def write(self, data: bytes, *parts: str, replace: bool = True) -> bool:
        self._wait()
        return super().write(data, *parts, replace=replace)

    def remove_many(self, paths) -> None:
        self._wait()
        super().remove_many(paths)

    def _move(self, source: str, target: str) -> bool:
        self._wait()
        return super()._move(source, target)


def _write(pipe: Connection, bits: bytes) -> None:
    while (location := pipe.recv()) is not None:
        store = Stepping(location, pipe)
        files = dict.fromkeys(FILES, bits * 10)
        pipe.send(store.publish(STAGE, files, {"label": bits.decode()}, checkpointed=False))


class Writer:
    """Another process, which publishes step by step."""

    def __init__(self, bits: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_write, args=(theirs, bits), daemon=True)
        self.process.start()
        self.won: bool | None = None

    def begin(self, location: str) -> None:
        self.pipe.send(location)
        self.won = None
        self._hear()

    def step(self) -> None:
        if self.won is None:
            self.pipe.send("go on")
            self._hear()

    def finish(self) -> None:
        while self.won is None:
            self.step()

    def _hear(self) -> None:
        assert self.pipe.poll(60)
        answer = self.pipe.recv()
        self.won = None if answer == "waiting" else answer


@pytest.fixture(scope="module")
def writers() -> Iterator[tuple[Writer, Writer]]:
    one, other = Writer(b"a"), Writer(b"b")
    yield one, other
    for writer in one, other:
        writer.pipe.send(None)
        writer.process.join(60)


def assert_whole(store: Store) -> None:
    """What is published is one writer's; where files are renamed, a plain name is a winner's."""
    result = store.result(STAGE.key)
    if result is None:
        assert not store.is_local or not {NETWORK, CURVE} & set(store.names("stages", STAGE.key))
        return
    bits = result["label"].encode() * 10
    assert [store.read_published(STAGE.key, name) for name in FILES] == [bits, bits]
    if store.is_local:
        assert {store.read("stages", STAGE.key, name) for name in FILES} <= {bits, None}


def race(writers: tuple[Writer, Writer], location: str, turns: list[int]) -> None:
    """Publish in these turns; then both go on to their ends."""
    store = Store(location)
    for writer in writers:
        writer.begin(location)
    for turn in turns:
        writers[turn].step()
        assert_whole(store)
    for writer in writers:
        writer.finish()
    assert sorted(writer.won for writer in writers) == [False, True]
    assert_whole(store)
    assert store.result(STAGE.key)["label"] == ("a" if writers[0].won else "b")
    names = store.names("stages", STAGE.key)
    assert RESULT in names
    assert len(names) == 1 + len(FILES), "the loser has left nothing"
    assert not store.is_local or names == sorted([*FILES, RESULT])


def test_whatever_the_turns_one_publication_wins_and_the_other_leaves_nothing(writers, tmp_path: Path):
    for number, own in enumerate(combinations(range(2 * STEPS), STEPS)):
        race(writers, str(tmp_path / f"{number}"), [int(step in own) for step in range(2 * STEPS)])


@pytest.mark.slow
def test_on_s3_too(writers, tmp_path: Path):
    """Each stopped at each of its steps while the other goes to its end, or as far as it is stopped itself."""
    with bucket() as url:
        late = Writer(b"a"), Writer(b"b")  # they know the endpoint
        try:
            for first in range(STEPS):
                for second in range(STEPS + 1):
                    race(late, f"{url}/{first}-{second}", [0] * first + [1] * second + [0] * STEPS)
        finally:
            for writer in late:
                writer.process.kill()
                writer.process.join()


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[int], str]]:
    if request.param == "local":
        yield lambda number: str(tmp_path / f"{number}")
        return
    with bucket() as url:
        yield lambda number: f"{url}/{number}"


def test_who_is_killed_at_any_step_leaves_a_stage_that_is_done_or_can_be_done(place: Callable[[int], str]):
    for steps in range(STEPS + 1):
        location = place(steps)
        killed = Writer(b"a")
        killed.begin(location)
        for _ in range(steps):
            killed.step()
        killed.process.kill()
        killed.process.join()
        store = Store(location)
        before = store.result(STAGE.key)
        assert_whole(store)
        assert store.publish(STAGE, dict.fromkeys(FILES, b"c" * 10), {"label": "c"}) is (before is None)
        assert store.states([STAGE.key])[STAGE.key] is State.DONE
        assert_whole(store)
        assert store.result(STAGE.key)["label"] == ("a" if before else "c")


def test_a_result_that_cannot_be_written_leaves_nothing(tmp_path: Path):
    """Neither its own files, nor anything else than before of the publication that stands."""
    store = Store(tmp_path)
    store.publish(STAGE, dict.fromkeys(FILES, b"theirs"), {"label": "theirs"})
    with pytest.raises(ValueError, match="JSON"):
        store.publish(STAGE, dict.fromkeys(FILES, b"mine"), {"label": float("nan")})
    assert [store.read_published(STAGE.key, name) for name in FILES] == [b"theirs", b"theirs"]
    assert store.names("stages", STAGE.key) == sorted([*FILES, RESULT])


class Overtaken(Store):
    """Another publishes the same stage, just before this one's result is written."""

    other: Callable[[], bool]

    def write(self, data: bytes, *parts: str, replace: bool = True) -> bool:
        if parts[-1] == RESULT:
            assert self.other()
        return super().write(data, *parts, replace=replace)


PLACES = {"local": nullcontext, "s3": lambda _: bucket(), "google": lambda _: xml_bucket()}


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("same", [(NETWORK, CURVE), (NETWORK,), ()])
def test_a_loser_with_the_same_bits_leaves_the_winners_files(where: str, same: tuple[str, ...], tmp_path: Path):
    """On processors both have the same network; curves and results tell how long each took."""
    mine = {name: b"same" if name in same else b"mine" for name in FILES}
    theirs = {name: b"same" if name in same else b"theirs" for name in FILES}
    with PLACES[where](tmp_path) as url:
        overtaken, store = Overtaken(f"{url}/store"), Store(f"{url}/store")
        overtaken.other = lambda: store.publish(STAGE, theirs, {"label": "theirs"})
        assert not overtaken.publish(STAGE, mine, {"label": "mine"})
        assert {name: store.read_published(STAGE.key, name) for name in FILES} == theirs
        assert len(store.names("stages", STAGE.key)) == 1 + len(FILES), "the loser has left nothing"


@pytest.mark.parametrize("where", PLACES)
def test_a_publication_that_breaks_off_takes_nothing_of_the_next_ones_away(where: str, tmp_path: Path):
    """The other has found its own bits under the plain names, and is about to write its result."""
    files = dict.fromkeys(FILES, b"same")
    with PLACES[where](tmp_path) as url:
        broken, other = Overtaken(f"{url}/store"), Overtaken(f"{url}/store")

        def break_off() -> bool:
            with pytest.raises(OSError, match="no answer"):
                broken.publish(STAGE, files, {"label": "broken"})
            return True

        other.other = break_off
        broken.other = no_answer
        assert other.publish(STAGE, files, {"label": "other"})
        assert {name: other.read_published(STAGE.key, name) for name in FILES} == files
        assert len(other.names("stages", STAGE.key)) == 1 + len(FILES)


def no_answer() -> bool:
    raise OSError("no answer")
