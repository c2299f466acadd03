"""Claims on stages: who has one, how it is lost, and that a process which is gone keeps nobody waiting."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from prunesweep.workers import claims
from prunesweep.workers.claims import EXPIRED_AFTER, Claim, Claimed, Holding, Watch, newest, release
from prunesweep.workers.encoding import encode
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.seal import sealed_json
from prunesweep.workers.store import Store
from tests.cases import last_stage, trial
from tests.damage import DAMAGE, damaged

KEY = "0" * 20
STAGE = last_stage(trial("dense"))
ELSEWHERE = Claim("0001-them", "their run", "another machine", 1, "1")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(claims, "LOOK_SECONDS", 0.0)


def mine(run: str = "my run") -> Claim:
    return Claim.mine("0002-me", run)


def files(store: Store) -> list[str]:
    return [name for name in store.names("stages", KEY) if name.startswith("claim")]


def test_one_run_at_a_time_has_a_stage(store: Store):
    with Holding(store, KEY, mine()):
        with pytest.raises(Claimed, match="is being computed by process"), Holding(store, KEY, mine("another")):
            pass
        assert newest(store, KEY)[1] == mine()
    assert files(store) == []
    with Holding(store, KEY, mine("another")):
        pass


def test_a_run_takes_over_what_it_started_itself(store: Store, quick: None):
    """Its worker's process may be on a machine that is gone; if it is not, it finds that at its next heartbeat."""
    with Holding(store, KEY, replace(ELSEWHERE, run="my run")) as before, Holding(store, KEY, mine()):
        number, claim = newest(store, KEY)
        assert (number, claim.owner if claim else None) == (2, mine().owner)
        before.thread.join(timeout=60)
        with pytest.raises(Claimed, match="taken over"):
            before.require()
    assert files(store) == []


def test_a_run_that_ends_releases_its_own_claims_alone(store: Store):
    for claim, run, left in (mine(), "my run", 0), (mine(), "another", 1), (ELSEWHERE, "my run", 1):
        with Holding(store, KEY, claim):
            release(store, [KEY, "1" * 20], run)
            assert len(files(store)) == left


def test_the_claim_of_a_process_that_ended_here_holds_nobody_up(store: Store):
    code = "import json; from prunesweep.workers.claims import *; print(json.dumps(asdict(Claim.mine('1-a', 'a'))))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    them = Claim(**json.loads(said))
    assert them.orphaned
    assert not mine().orphaned
    assert replace(mine(), born="1").orphaned, "the number of a process is given again to others"
    assert not replace(them, machine="another").orphaned, "nothing is known of processes elsewhere"
    assert not replace(them, machine=None).orphaned
    store.write(sealed_json(asdict(them)), "stages", KEY, "claim.1.json")
    with Holding(store, KEY, mine()):
        assert newest(store, KEY) == (2, mine())


def test_a_claim_expires_when_it_is_not_renewed(store: Store, quick: None):
    with Holding(store, KEY, ELSEWHERE) as them:
        watch = Watch(store, KEY)
        for _ in range(2 * EXPIRED_AFTER):
            beats = newest(store, KEY)[1].beats
            while newest(store, KEY)[1].beats == beats:
                time.sleep(0.005)
            assert not watch.ended(), "it is renewed"
        them.ended.set()
        them.thread.join()
        looks = 1
        while not watch.ended():
            looks += 1
        assert EXPIRED_AFTER <= looks <= EXPIRED_AFTER + 1
        with pytest.raises(Claimed), Holding(store, KEY, mine()):
            pass
        with Holding(store, KEY, mine(), gone=[watch.seen.owner]):
            them._renew()
            with pytest.raises(Claimed, match="taken over"):
                them.require()


def test_no_clock_decides(store: Store, quick: None, monkeypatch: pytest.MonkeyPatch):
    with Holding(store, KEY, ELSEWHERE):
        watch = Watch(store, KEY)
        for jump in (1e9, -1e9, 0.0):
            monkeypatch.setattr(time, "time", lambda jump=jump: jump)
            assert not watch.ended()
            time.sleep(0.05)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_claim_is_written_again_by_its_owner(damage: str, store: Store):
    with Holding(store, KEY, mine()) as me:
        whole = store.read("stages", KEY, "claim.1.json")
        for bad in damaged(whole, damage):
            store.write(bad, "stages", KEY, "claim.1.json")
            assert newest(store, KEY) == (1, None)
            assert Watch(store, KEY).ended(), "to others it is nobody's"
            me._renew()
            me.require()
            assert newest(store, KEY)[1].owner == "0002-me"


def _take(store: Store, barrier, answers, number: int) -> None:
    barrier.wait()
    try:
        with Holding(store, KEY, Claim.mine(f"{number}", f"run {number}")):
            answers.put(number)
            barrier.wait()
    except Claimed:
        barrier.wait()


def test_of_many_at_once_one_gets_the_stage(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    for turn in range(10):
        store, barrier, answers = Store(tmp_path / str(turn)), context.Barrier(8), context.Queue()
        processes = [context.Process(target=_take, args=(store, barrier, answers, number)) for number in range(8)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        answers.get(timeout=5)
        assert answers.empty()


def test_who_lost_its_claim_while_it_was_stopped_neither_publishes_nor_notes_a_failure(store: Store):
    running = run_stage(STAGE, store, Where(run="stopped"))
    next(running)
    number, held = newest(store, STAGE.key)
    taken = replace(held, owner="0002-them", run="theirs")
    store.write(sealed_json(asdict(taken)), "stages", STAGE.key, f"claim.{number + 1}.json")
    time.sleep(claims.BEAT_SECONDS + 0.5)
    with pytest.raises(Claimed):
        list(running)
    assert store.result(STAGE.key) is None
    assert [attempt.cause for attempt in store.attempts(STAGE.key)] == [None]
    assert newest(store, STAGE.key) == (number + 1, taken), "their claim is left alone"


def test_a_process_outside_any_sweep_heeds_claims_and_those_of_the_dead_are_void(store: Store, tmp_path: Path):
    """`prunesweep.workers.run`, twice: the second is refused while the first lives, and goes on after it was killed."""
    spec = tmp_path / "spec.json"
    train = replace(trial("dense").train, epochs=2000)
    long = last_stage(trial("dense", train=train))
    spec.write_text(json.dumps(encode(long)))
    command, root = (
        [sys.executable, "-m", "prunesweep.workers.run", str(spec), "--store", store.location],
        Path(__file__).parents[2],
    )
    first = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while store.checkpointed_epochs(long.key) is None:
            assert first.poll() is None
            time.sleep(0.05)
        second = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert f"is being computed by process {first.pid}" in second.stderr
        assert "Traceback" not in second.stderr
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    third = run_stage(long, store, Where(run="third"))
    assert next(third).epoch > 1
    third.close()
