"""Mistakes on the command line: each is answered in a line or two that names the value and what is allowed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from prunesweep.workers.store import Store
from tests.orchestrator.cli.conftest import Ask
from tests.orchestrator.finished import finish

TEXT = """\
name: mine
dataset: digits
model: lenet300
seeds: 2
train: {epochs: 2}
trials:
  - {method: [imp, random], sparsity: [0.5, 0.9], retrain_epochs: 1}
"""

MISTAKES = {
    # verbs and options
    "nosuchverb": "No such command 'nosuchverb'. (see `prunesweep -h`)",
    "pln mine": "Did you mean 'plan'?",
    "results": "Missing argument 'SWEEP'. (see `prunesweep results -h`)",
    "status a b": "(b) (see `prunesweep status -h`)",
    "results mine --zzz": "No such option: --zzz (see `prunesweep results -h`)",
    "results mine --metrc x": "--metrc (Possible options: --metric",
    "results mine --where": "'--where' requires an argument",
    # sweeps, files and stores
    "results nosuch": 'has no sweep "nosuch": it knows mine',
    "report nosuch": 'has no sweep "nosuch": it knows mine',
    "logs mine zzz": 'a key that begins with "zzz"',
    "run absent.yaml": "absent.yaml: no such file",
    "validate folder": "folder: is a folder; name one of the sweep files in it",
    "validate empty.yaml": "empty.yaml:1: the file is empty; a sweep needs dataset, model and trials",
    "status --store absent": "absent: `prunesweep run` makes one; name another with --store",
    "gc --store absent": "absent: `prunesweep run` makes one; name another with --store",
    "ui absent": "absent: `prunesweep run` makes one; name another with --store",
    "run mine.yaml --store file": "file is not a folder; choose another with --store",
    # which results
    "results mine --where methd=imp": 'unknown column "methd"',
    "results mine --where method": '"method" is no condition; write column=value',
    "results mine --where method=nosuch": 'unknown method "nosuch": allowed are imp, random',
    "results mine --where target_sparsity=high": '"high" is no number',
    "results mine --by nosuch": 'unknown column "nosuch": allowed are',
    "results mine --metric method": 'unknown metric "method": allowed are',
    "results mine --best-by nosuch": 'unknown column "nosuch": allowed are',
    "results mine --format xml": 'unknown format "xml": allowed are csv, json, latex, markdown, table',
    "results mine --tolerance far": '--tolerance: "far" is not allowed: a number',
    "compare mine --at nosuch": 'unknown column "nosuch": allowed are',
    "compare mine --at target_sparsity=2": 'unknown target_sparsity "2": allowed are 0.5, 0.9',
    "compare mine --against nosuch": 'unknown method "nosuch": allowed are imp, random',
    "compare mine --published nosuch": "at nosuch: give a CSV file, or one of paper",
    "compare mine --across method": "--across goes with --published",
    # figures and reports
    "plot mine --kind nosuch": 'unknown kind of plot "nosuch": allowed are budget,',
    "plot mine --width wide": '--width: "wide" is not a width: 3.25in is a column',
    "plot mine --width 100in": '"100in" is not between 2 and 20 inches',
    "plot mine --ylim 90:80": '--ylim: "90:80" is not LOW:HIGH, such as 90:98',
    "plot mine --order imp,nosuch": 'unknown name in --order "nosuch": allowed are ALLR, imp, random',
    "plot mine --output plot.gif": "plot.gif: a figure's file ends in .png, .svg, .pdf",
    "plot mine --output absent/plot.png": "--output absent/plot.png: there is no folder absent",
    "report mine --output report.pdf": "report.pdf: a report's file ends in .html",
    "report mine --watts much": '--watts: "much" is not allowed: a number',
    "report mine --price -1": '--price: "-1" is not allowed: at least 0',
    # runs
    "plan mine.yaml --set train.epochs": '"train.epochs" is no change; write key=value',
    "plan mine.yaml --set train.epochs=many": '"many" is not allowed: a whole number of at least 1',
    "plan mine.yaml --set nosuch=1": 'unknown key of sweep file "nosuch": allowed are authors,',
    "run mine.yaml --only method=nosuch": 'unknown method "nosuch": allowed are imp, random',
    "run mine.yaml --only target_sparsity>0.95": '"target_sparsity>0.95" leaves none of 8 rows: target_sparsity is',
    "run mine.yaml --trial zzz": '--trial: "zzz" begins no key of the 8 trials; one of them is ',
    "run mine.yaml --device gpu": '--device: "gpu" is not allowed: auto, cpu, cuda or cuda:N',
    "run mine.yaml --loaders many": '--loaders: "many" is not allowed: a whole number',
    "run mine.yaml --max-failures -1": '--max-failures: "-1" is not allowed: at least 0',
    "run mine.yaml --max-concurrent 0": '--max-concurrent: "0" is not allowed: at least 1',
    "run mine.yaml --stall-limit soon": '--stall-limit: "soon" is not allowed: a number',
    "run mine.yaml --notify nonsense": "--notify, or PRUNESWEEP_NOTIFY, is not the http:// or https:// URL",
    # and the others
    "ui --port 99999": '--port: "99999" is not allowed: at most 65535',
    "ui --port http": '--port: "http" is not allowed: a whole number',
    "watch mine --every 0": '--every: "0" is not allowed: at least 0.1',
    "list nosuch": 'unknown kind "nosuch": allowed are columns, datasets,',
    "data check nosuch": 'unknown dataset "nosuch": allowed are cifar10,',
    "init --output mine.yaml": "mine.yaml is there already; name another file with --output",
    "init --output absent/x.yaml": "--output absent/x.yaml: there is no folder absent",
    "export network mine --to file": "--to file: this is a file; name a folder",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wrong_calls")
    store = Store(folder / "results")
    store.require_writable()
    finish(TEXT, store, folder / "mine.yaml")
    (folder / "folder").mkdir()
    for name in ("file", "empty.yaml"):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(("call", "said"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_named_with_what_is_allowed(
    ask: Ask, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, said: str
):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    answer = ask(*shlex.split(call))
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert said in answer.err
    assert answer.err.count("\n") <= 2
    assert sorted(folder.rglob("*")) == before, "nothing is written"


def test_an_option_s_secret_is_not_repeated(ask: Ask):
    assert "s3cret" not in ask("list", "--nosuch=s3://key:s3cret@bucket/x").err
