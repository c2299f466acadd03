"""A search is killed again and again while it trains: candidates, promotions, winners, networks have the same bits."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prunesweep import load_candidates
from tests.same_tables import assert_same

ROOT = Path(__file__).parents[3]
SWEEP = ROOT / "tests/chaos_search.yaml"
KILLS = 30


def started(store: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.in_process", str(SWEEP), str(store)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def epochs_written(store: Path) -> float:
    """Changes with each epoch that is kept: what a kill waits for, so that none comes where the one before came."""
    kept = [path for name in ("checkpoint.safetensors", "result.json") for path in store.glob(f"stages/*/{name}")]
    return sum(path.stat().st_mtime for path in kept)


@pytest.mark.slow
def test_thirty_kills_while_it_trains_change_no_bit(tmp_path: Path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert started(undisturbed).wait() == 0
    chance, kills = random.Random(5), 0
    while kills < KILLS:
        process, before = started(killed), epochs_written(killed)
        while process.poll() is None and epochs_written(killed) == before:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.4))
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        kills += 1
    assert started(killed).wait() == 0
    assert kills == KILLS, "the search ended before"
    assert_same(undisturbed / "chaos_search", killed / "chaos_search")
    tried = load_candidates(killed / "chaos_search")
    assert tried["diverged"].any()
    assert tried[tried["winner"]]["search"].nunique() == 6
