"""`python -m benchmarks.gpu` in small on a CPU: all its code runs, without Ray, and what is broken is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.kernels import idle_share
from benchmarks.gpu.methods import by_histogram, tried
from benchmarks.gpu.report import Outcome, Report, read
from prunesweep.workers.methods import METHODS

ROOT = Path(__file__).parents[2]

BROKEN = """
from prunesweep import Method, Pruner

class Broken(Method):
    '''Breaks as soon as it may act.'''

class BrokenPruner(Pruner, method=Broken):
    def adjust_gradients(self):
        raise RuntimeError("this method is broken")
"""

QUICK = ("rigl",)
"""One that is sparse throughout, whose masks move: it goes through all sections."""

SMALL = ["--device", "cpu", "--smoke", "--threads", "1", "--seconds", "3000"]

Rows = list[dict[str, object]]


def script(folder: Path, *arguments: str) -> tuple[int, str, Rows]:
    """Exit code, output and rows; Ray cannot be imported, as where the card is."""
    (folder / "path" / "ray").mkdir(parents=True)
    (folder / "path" / "ray" / "__init__.py").write_text("raise ImportError('there is no Ray here')\n")
    (folder / "path" / "broken.py").write_text(BROKEN)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *SMALL, "--output", str(folder), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder / "path"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert (folder / "gpu.json").exists(), done.stderr
    return done.returncode, done.stdout, json.loads((folder / "gpu.json").read_text())["rows"]


@pytest.mark.parametrize(
    "methods", [pytest.param(QUICK, id="quick"), pytest.param(tuple(METHODS), id="all", marks=pytest.mark.slow)]
)
def test_every_method_stands_in_the_table_and_a_broken_one_is_reported(methods: tuple[str, ...], tmp_path: Path):
    """The only wrong or failed rows are those of the broken method; every section has come to its end."""
    names = [option for name in (*methods, "broken:Broken") for option in ("--method", name)]
    code, output, rows = script(tmp_path, *names)
    assert list(dict.fromkeys(row["section"] for row in rows)) == ["right", "methods", "loops", "sharing", "kernels"]
    bad = [row for row in rows if row["outcome"] in ("WRONG", "FAILED")]
    assert {row["subject"] for row in bad} == {"broken:Broken", "resnet8, broken:Broken"}, bad
    assert all("this method is broken" in str(row["said"]) for row in bad), bad
    assert code == 1
    assert not [row for row in rows if row["outcome"] == "left out"]
    for check in ("as on the CPU, float64", "as on the CPU, float32", "no waits"):
        assert {str(row["subject"]) for row in rows if row["check"] == check} >= {*methods}
    for check, prefix in (("hook", ""), ("launches", ""), ("over dense", "resnet8, ")):
        subjects = {str(row["subject"]).removeprefix(prefix) for row in rows if row["check"] == check}
        expected = {*tried(methods)} - (set() if check == "over dense" else {"dense"})
        assert expected <= {subject.partition(":")[0] for subject in subjects}
    assert {"memory cap", "out of memory", "peak memory", "two processes", "two ranks", "exported as in its table"} <= {
        row["check"] for row in rows
    }
    told = [line for line in output.splitlines() if line.startswith("[")]
    assert len(told) == len(rows) + len(bad), "each row is printed when it is there, and the bad ones at the end again"
    table = (tmp_path / "gpu.md").read_text()
    assert table.count("\n| ") == len(rows) + 2 * 5


def test_one_section_alone_without_a_fault_ends_with_0(tmp_path: Path):
    code, _, rows = script(tmp_path, "--only", "kernels")
    assert {row["section"] for row in rows} == {"kernels"}
    assert code == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_card_a_section_says_so(tmp_path: Path):
    """The later `--device` counts."""
    code, _, rows = script(tmp_path, "--only", "kernels", "--device", "cuda")
    assert [row["outcome"] for row in rows] == ["FAILED"]
    assert code == 1


def report(folder: Path, seconds: float) -> Report:
    from time import monotonic

    return Report("right", torch.device("cpu"), True, monotonic() + seconds, folder / "right.jsonl", ("gmp",))


def test_a_check_that_fails_is_a_row_and_one_for_which_there_is_no_time_too(tmp_path: Path, capsys):
    told = report(tmp_path, 10.0)
    assert not told.attempt("a check", "gmp", lambda: [][1], seconds=1.0)
    assert not told.attempt("a long check", "gmp", lambda: None, seconds=60.0)
    assert told.attempt("a check", "dpf", lambda: told.judge("a check", "dpf", True, "as it should be"))
    outcomes = [Outcome.FAILED, Outcome.LEFT_OUT, Outcome.RIGHT]
    assert [row.outcome for row in read(told.file)] == outcomes
    assert "IndexError" in read(told.file)[0].said


def test_idle_is_what_no_kernel_covers():
    """From 0 to 10: 0 to 4 and 6 to 8, and 7 to 10 on another stream."""
    assert idle_share([(6.0, 8.0), (0.0, 4.0), (1.0, 2.0), (7.0, 10.0)]) == pytest.approx(0.2)


@pytest.mark.parametrize("k", [1, 2, 500, 999])
def test_a_histogram_finds_the_kth_largest(k: int):
    scores = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    scores[:300] = scores[300]
    assert by_histogram(scores, k) == scores.sort(descending=True).values[k - 1]
