"""A worker that keeps Python's lock while it hangs is named and ended from outside, by its watchdog."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from prunesweep.workers.claims import newest
from prunesweep.workers.store import Store
from prunesweep.workers.watchdog import calls

MODEL = """\
import ctypes
import os

import torch


class Holds(torch.nn.Module):
    def __init__(self, *, classes):
        super().__init__()
        self.layer, self.batches = torch.nn.Linear(64, classes), 0

    def forward(self, images):
        self.batches += self.training
        if self.batches == 3:
            ctypes.PyDLL(None).read(os.pipe()[0], ctypes.create_string_buffer(1), 1)
        return self.layer(images.flatten(1))
"""

SWEEP = """\
name: mine
dataset: digits
model: [lenet300, 'mine:Holds']
train: {epochs: 2, batch_size: 64}
trials: [{method: dense}]
"""

RUN = """\
from prunesweep import plan
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.store import Store

harmless, holds = plan("mine.yaml", "results").stages.values()
list(run_stage(harmless, Store("results"), Where(device="cpu")))  # all is loaded then
print(holds.key, flush=True)
list(run_stage(holds, Store("results"), Where(device="cpu", stall_limit=6.0)))
"""


def test_a_stage_that_holds_the_lock_is_named_and_ended(tmp_path: Path):
    for name, text in {"mine.py": MODEL, "mine.yaml": SWEEP, "run.py": RUN}.items():
        (tmp_path / name).write_text(text)
    command, store = [sys.executable, "run.py"], Store(tmp_path / "results")
    worker = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    key = worker.stdout.readline().strip()
    named: list[tuple[str, ...]] = []
    try:
        while worker.poll() is None:
            claim = newest(store, key)[1]
            named += [claim.doing.stack] if claim and claim.doing and claim.doing.stack else []
            time.sleep(0.2)
    finally:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
    assert worker.wait() == -signal.SIGKILL
    place = f"{tmp_path / 'mine.py'}, line 15, in forward"
    assert {stack[-1] for stack in named} == {place}
    (attempt,) = store.attempts(key)
    assert attempt.cause == "stalled"
    assert attempt.message is not None
    assert attempt.message.startswith("it drew no batch for ")
    assert attempt.message.endswith(f"and stood in {place}")
    assert attempt.traceback is not None
    assert "run_stage" in attempt.traceback


DUMP = """\
Thread 0x00007f0000000001 [name] (most recent call first):
  File "/a/b, c.py", line 3 in wait
  File "/a/d.py", line 33 in <module>

Current thread 0x00007f00000000ff (most recent call first):
  File "/a/e.py", line 7 in forward
  File "/a/f.py", line 8 in step
"""


def test_of_all_threads_the_one_is_read_that_is_asked_for():
    assert calls(DUMP, 0x7F0000000001) == ("/a/d.py, line 33, in <module>", "/a/b, c.py, line 3, in wait")
    assert calls(DUMP, 0x7F00000000FF) == ("/a/f.py, line 8, in step", "/a/e.py, line 7, in forward")
    assert calls(DUMP, 1) == ()
