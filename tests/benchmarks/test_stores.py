"""`benchmarks.stores` in small: it runs, and what it counts is what the tests of requests say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUESTS = 5
"""Which column of the table has them."""


def smoke(kind: str) -> dict[str, list[str]]:
    """The figures of each verb, as they are printed."""
    command = [sys.executable, "-m", "benchmarks.stores", kind, "--smoke"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert answer.returncode == 0, answer.stderr
    heading, *lines = answer.stdout.splitlines()
    assert heading == f"{kind}: CPU s (ms for each), wall s, MB, requests, s until there is a table"
    return {line[2:14].strip(): line[14:].split() for line in lines}


def test_at_a_distance_requests_are_counted() -> None:
    pytest.importorskip("obstore")
    figures = smoke("distance")
    assert list(figures) == ["first run", "plan"]
    assert figures["plan"][REQUESTS] == "4", "the record, accepted code, the index and the listing"
    assert 2 * 20 < int(figures["first run"][REQUESTS]) <= 2 * 20 + 25, "results and curves, and what does not grow"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["trials", "sweeps", "beside"])
def test_on_a_disk_each_kind_of_store_is_made_and_measured(kind: str) -> None:
    figures = smoke(kind)
    assert figures
    assert all(float(cpu) > 0 for cpu, *_ in figures.values())
