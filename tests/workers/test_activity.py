"""What a process says of itself while it trains: it is true, and what is not known is None."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, fields, replace

import pytest

from prunesweep.workers.activity import Activities, Activity
from prunesweep.workers.checkpoint import Progress
from prunesweep.workers.claims import Claim, Holding, newest
from prunesweep.workers.host import Where, processor
from prunesweep.workers.run import run_stage
from prunesweep.workers.seal import sealed_json
from prunesweep.workers.store import Store
from tests.cases import last_stage, trial

KEY = "0" * 20
CPU = Where(device="cpu")
IMAGES = 180
"""Of an epoch of `TINY`: a tenth of its 200 are for validation."""


def after(activities: Activities, epoch: int, seconds: float) -> Activity:
    time.sleep(seconds)
    activities.reached(Progress(epoch=epoch, images=100 * epoch))
    return activities.look()


def test_before_a_stage_has_begun_only_the_process_is_known():
    said = Activities(CPU).look()
    assert (said.host, said.device) == (socket.gethostname(), "cpu")
    assert said.resident is not None
    assert said.host_memory is not None
    assert 10**7 < said.resident < said.host_memory
    assert said.quiet_seconds is not None
    unknown = {field.name for field in fields(said)} - {"host", "device", "resident", "host_memory", "quiet_seconds"}
    assert {name for name in unknown if getattr(said, name) not in (None, ())} == set(), "never a made-up 0"


def test_a_stage_that_draws_no_batch_for_long_tells_where_it_stands():
    activities = Activities(replace(CPU, stall_limit=0.1))
    activities.drawn()
    assert activities.look().stack == ()
    seen: list[Activity] = []
    looking = threading.Thread(target=lambda: (time.sleep(0.2), seen.append(activities.look())))
    looking.start()
    looking.join()  # where this thread stands meanwhile
    (said,) = seen
    assert said.quiet_seconds is not None
    assert said.quiet_seconds > 0.1
    assert "in test_a_stage_that_draws_no_batch_for_long_tells_where_it_stands" in " ".join(said.stack)
    assert Activity.decoded(asdict(said)) == said


def test_the_rate_is_that_of_the_last_epochs_and_falls_while_one_hangs():
    activities = Activities(CPU)
    first = after(activities, 5, 0)
    assert (first.epoch, first.epochs_per_second, first.device_name) == (5, None, processor())
    begun = activities.latest.time
    second = after(activities, 7, 0.5)
    seconds = activities.latest.time - begun
    assert second.epoch == 7
    assert second.epochs_per_second == pytest.approx(2 / seconds)
    assert second.images_per_second == pytest.approx(200 / seconds)
    time.sleep(1.75)
    assert activities.look().epochs_per_second == pytest.approx(2 / (seconds + 1.5), rel=0.2), "1.5 s longer than usual"
    times = []
    for epoch in range(8, 30):
        said = after(activities, epoch, 0.02)
        times.append(activities.latest.time)
    assert said.epochs_per_second == pytest.approx(15 / (times[-1] - times[-16])), "what was slow is long ago"


def row(epoch: int, **more: float | None) -> dict[str, float | None]:
    measured = {"train_loss": 1 / 3, "train_accuracy": 0.5, "validation_loss": 0.25, "validation_accuracy": 0.9}
    return {"epoch": epoch, **measured, "learning_rate": 0.1, "sparsity": 0.0, **more}


def test_the_curve_so_far_is_told_with_the_digits_of_a_figure():
    activities = Activities(CPU)
    activities.reached(Progress(epoch=1, curve=[row(20, train_loss=None, learning_rate=None), row(21)]))
    told = activities.look()
    assert told.curve == ((20, None, 0.25, 0.9, None, 0.0), (21, 0.33333, 0.25, 0.9, 0.1, 0.0))
    assert Activity.decoded(json.loads(json.dumps(asdict(told)))) == told


def test_of_a_long_curve_a_hundred_epochs_are_told_from_the_first_to_the_last():
    activities = Activities(CPU)
    activities.reached(Progress(epoch=991, curve=[row(epoch) for epoch in range(1, 992)]))
    told = activities.look()
    assert [line[0] for line in told.curve] == list(range(1, 992, 10))
    assert len(json.dumps(told.curve)) < 6000


@pytest.mark.parametrize("curve", [7, "curve", [1, 2], [[1]], [["a"] * 6], {"a": 1}])
def test_a_curve_that_is_none_is_not_taken_for_one(curve: object):
    said = Activity.decoded({"host": "far", "device": "cpu", "curve": curve})
    assert said == Activity("far", "cpu")


def test_the_use_of_processors_is_since_the_look_before():
    activities = Activities(CPU)
    deadline = time.monotonic() + 0.5
    used, begun = time.process_time(), time.monotonic()
    while time.monotonic() < deadline:
        pass
    busy = activities.look().cpu_percent
    share = (time.process_time() - used) / (time.monotonic() - begun)  # others may use this processor as well
    assert busy == pytest.approx(100 * share, rel=0.2)
    time.sleep(0.5)
    idle = activities.look().cpu_percent
    assert busy is not None
    assert idle is not None
    assert idle < busy / 2


def test_a_claim_tells_what_its_stage_does(store: Store):
    """Of a stage that runs; each renewal tells anew."""
    stage = last_stage(trial("dense"))
    running = run_stage(stage, store, replace(CPU, run="mine"))
    next(running)
    deadline = time.monotonic() + 10
    while (said := newest(store, stage.key)[1].doing).epoch != 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert said.device == "cpu"
    assert 0 < said.epochs_per_second < 1000
    assert said.images_per_second == pytest.approx(said.epochs_per_second * IMAGES)
    running.close()


def write(store: Store, **more: object) -> None:
    claim = {**asdict(Claim("0001-them", "their run", "another machine", 1, "1")), **more}
    store.write(sealed_json(claim), "stages", KEY, "claim.1.json")


def test_claims_of_other_versions_are_read(store: Store):
    them = Claim("0001-them", "their run", "another machine", 1, "1")
    old = {name: value for name, value in asdict(them).items() if name != "doing"}
    store.write(sealed_json(old), "stages", KEY, "claim.1.json")
    assert newest(store, KEY) == (1, them)
    write(store, colour="green", doing={"host": "far", "device": "tpu:0", "epoch": 3, "mood": "good"})
    assert newest(store, KEY) == (1, replace(them, doing=Activity("far", "tpu:0", epoch=3)))
    for strange in ("busy", [1], {"mood": "good"}):
        write(store, doing=strange)
        assert newest(store, KEY) == (1, them)


def test_who_looks_in_its_claims_needs_neither_torch_nor_ray(store: Store):
    with Holding(store, KEY, Claim.mine("0002-me", "my run"), look=Activities(CPU).look):
        code = (
            "import sys; from prunesweep.workers.claims import newest; from prunesweep.workers.store import Store\n"
            f"claim = newest(Store({str(store.location)!r}), {KEY!r})[1]\n"
            "print(claim.process, claim.doing.device, [m for m in ('torch', 'ray') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{os.getpid()} cpu []"
