"""Which weights a sweep file says may be pruned."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunesweep.orchestrator.sweep import Sweep
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import ALL, Scope

HEAD = "dataset: digits\nmodel: resnet8\ntrain: {epochs: 4}\n"
PYTHON = """\
from prunesweep import Choice, Scope, TrialSpec

def trials():
    yield TrialSpec(Choice("digits"), Choice("resnet8"), Choice("%s"), 0, %s, prune=Scope(exempt=("last", "first")))
"""


def read(folder: Path, text: str, name: str = "x.yaml") -> Sweep:
    (folder / name).write_text(text)
    return read_sweep(folder / name)


def test_a_block_goes_before_the_file_key_by_key_and_dense_training_has_no_scope(tmp_path: Path):
    text = HEAD + (
        "prune: {except: [last, first]}\n"
        "trials:\n"
        "  - {method: dense}\n"
        "  - {method: gmp, sparsity: 0.5}\n"
        "  - {method: gmp, sparsity: 0.5, prune: {only: [Conv2d]}}\n"
        "  - {method: gmp, sparsity: 0.5, prune: {except: []}}\n"
    )
    scopes = [trial.prune for trial in read(tmp_path, text).trials]
    ends = ("first", "last")
    assert scopes == [ALL, Scope((), ends), Scope(("Conv2d",), ends), ALL]


def test_a_list_of_lists_is_an_axis_of_which_exclude_drops_cells(tmp_path: Path):
    block = "{method: [gmp, rigl], sparsity: [0.5, 0.8], prune: {except: [[], [first], [first, last]]}"
    whole = read(tmp_path, f"{HEAD}trials: [{block}}}]")
    assert len(whole.trials) == 2 * 2 * 3
    fewer = read(tmp_path, f"{HEAD}trials: [{block}, exclude: [{{sparsity: 0.5, prune: {{except: [first]}}}}]}}]")
    assert {t.key for t in whole.trials} - {t.key for t in fewer.trials} == {
        t.key for t in whole.trials if t.sparsity == 0.5 and t.prune == Scope((), ("first",))
    }


def test_files_in_python_have_the_same_trials(tmp_path: Path):
    block = "{method: gmp, sparsity: 0.5, prune: {except: [first, last]}}"
    by_yaml = read(tmp_path, f"{HEAD}trials: [{block}]".replace("train: {epochs: 4}\n", ""))
    by_python = read(tmp_path, PYTHON % ("gmp", 0.5), "x.py")
    assert by_python.trials == by_yaml.trials
    with pytest.raises(UserError, match=r'x\.py:4: .*prune: unknown key of method dense "prune"'):
        read(tmp_path, PYTHON % ("dense", 0.0), "x.py")
