"""A sweep is killed again and again while it trains: tables and networks have the same bits, wherever it is kept.

The queue, the searches, the workers and the training are real; without Ray a kill costs seconds. `tests.chaos` kills
runs under Ray.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pyarrow import fs

from prunesweep import load_candidates
from prunesweep.workers.files import File
from prunesweep.workers.store import CHECKPOINT, RESULT, Store
from tests.chaos import SWEEP, write_weights
from tests.s3 import bucket
from tests.same_tables import assert_same, compare
from tests.ways import share, users

ROOT = Path(__file__).parents[3]
SEARCHES = ROOT / "tests/chaos_search.yaml"
DRIVER = [sys.executable, "-m", "tests.in_process"]
KILLS = 30

NEEDS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root may run something as another user")


@dataclass(frozen=True)
class Ways:
    """How a sweep is run, by turns, and where it is kept."""

    sweep: Path
    place: str
    commands: Sequence[Sequence[str]] = ((),)
    environments: Sequence[Mapping[str, str]] = ({},)

    def start(self, number: int) -> subprocess.Popen[bytes]:
        command = [*self.commands[number % len(self.commands)], *DRIVER, str(self.sweep), self.place]
        more = self.environments[number % len(self.environments)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **more}, **quiet)

    def kept(self) -> frozenset[File]:
        """What is kept with each epoch: a kill waits for more, so that none comes where the one before came."""
        return frozenset(file for file in Store(self.place).files("stages") if file.path[-1] in (CHECKPOINT, RESULT))

    def kill(self, number: int, wait: float) -> bool:
        """Run on until an epoch more is kept, and `wait` seconds; false where the run ends before."""
        before, process = self.kept(), self.start(number)
        while process.poll() is None and self.kept() == before:
            time.sleep(0.05)
        time.sleep(wait)
        if process.poll() is not None:
            return False
        process.kill()
        process.wait()
        return True


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where another user may look; with the sweep of `tests.chaos` and what it needs."""
    with TemporaryDirectory(prefix="ps", dir="/tmp") as made:
        folder = Path(made)
        (folder / SWEEP.name).write_bytes(SWEEP.read_bytes())
        write_weights(folder / "chaos_weights.safetensors")
        yield folder


def ways_of(kind: str, folder: Path, stack: ExitStack) -> Ways:
    match kind:
        case "searches":
            return Ways(SEARCHES, str(folder / "killed"))
        case "in a bucket":
            return Ways(folder / SWEEP.name, f"{stack.enter_context(bucket())}/killed")
    share(folder / "killed")
    both = users(folder)
    commands = [[str(word) for word in way.command[:-1]] for way in both]
    return Ways(folder / SWEEP.name, str(folder / "killed"), commands, [way.environment for way in both])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["searches", "in a bucket", pytest.param("by two users", marks=NEEDS_ROOT)])
def test_thirty_kills_while_it_trains_change_no_bit(kind: str, folder: Path):
    with ExitStack() as stack:
        ways = ways_of(kind, folder, stack)
        undisturbed = Ways(ways.sweep, str(folder / "undisturbed"))
        assert undisturbed.start(0).wait() == 0
        chance = random.Random(5)
        for number in range(KILLS):
            assert ways.kill(number, chance.uniform(0, 0.4)), "the sweep ended before"
        assert ways.start(KILLS).wait() == 0
        copied = folder / "copied"
        source, root = fs.FileSystem.from_uri(ways.place if "://" in ways.place else Path(ways.place).as_uri())
        fs.copy_files(root, str(copied), source_filesystem=source)
    name = ways.sweep.stem
    assert_same(folder / "undisturbed" / name, copied / name)
    assert all(rows.equal for rows in compare(folder / "undisturbed" / name, copied / name).values())
    if kind == "searches":
        tried = load_candidates(copied / name)
        assert tried["diverged"].any()
        assert tried[tried["winner"]]["search"].nunique() == 7
        assert tried["on_target"].eq(True).any()
        assert tried["pruned_loss"].notna().any()
