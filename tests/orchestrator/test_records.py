"""What a store remembers of sweeps is data: whoever reads it imports, calls and follows nothing that it names."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prunesweep.orchestrator.plan import make_plan, make_plans
from prunesweep.orchestrator.records import RECORD, remember, require, require_own_code
from prunesweep.orchestrator.sweepfile.read import read_sweep, sweep_of
from prunesweep.orchestrator.versions import versioned
from prunesweep.workers import data
from prunesweep.workers.encoding import encode
from prunesweep.workers.errors import UserError
from prunesweep.workers.methods import create
from prunesweep.workers.seal import sealed_json, unsealed_json
from prunesweep.workers.spec import Choice, TrainStage
from prunesweep.workers.store import Store
from tests.orchestrator.conftest import Cli

QUICK = "name: quick\ndataset: digits\nmodel: lenet300\ntrain: {epochs: 1}\ntrials: [{method: dense}]\n"

MINE = '''\
"""A method in the project's own file."""

from pathlib import Path

from prunesweep.workers.methods.dense import Dense

Path("imported").touch()


class Mine(Dense):
    """As dense training."""
'''


def hostile(cli: Cli, **choices: Mapping[str, Any]) -> Store:
    """A store whose record of a sweep names other things than were run, with a seal that is right."""
    store = Store(cli.folder / "results")
    store.require_writable()
    remember(read_sweep(cli.folder / cli.write(QUICK)), store)
    record = unsealed_json(store.read("quick", RECORD) or b"")
    record["trials"][0].update(choices)
    store.write(sealed_json(record), "quick", RECORD)
    return store


@pytest.mark.parametrize(
    "choices",
    [
        {"method": {"name": "subprocess:getoutput", "options": {"cmd": "touch imported"}}},
        *(
            pytest.param(choice, marks=pytest.mark.slow)
            for choice in (
                {"method": {"name": "mine:Mine", "options": {}}},
                {"model": {"name": "subprocess:getoutput", "options": {"cmd": "touch imported"}}},
                {"dataset": {"name": "mine:Mine", "options": {}}},
                {"method": {"name": "imp", "options": {"no such": 1}}},
            )
        ),
    ],
)
def test_reading_verbs_import_nothing_that_a_store_names(cli: Cli, choices: Mapping[str, Any]):
    cli.write(MINE, "mine.py")
    hostile(cli, **choices)
    for verb in (["status"], ["status", "quick"], ["status", "--json"], ["gc", "--dry-run"], ["gc", "--yes"]):
        answer = cli.ask(*verb)
        assert answer.code in (0, 2), answer
        assert "Traceback" not in answer.err
    answer = cli.ask("report", "quick")
    assert "Traceback" not in answer.err
    assert not (cli.folder / "imported").exists()
    assert (cli.folder / "results/quick" / RECORD).exists(), "what cannot be read is needed"


GETOUTPUT = {"name": "subprocess:getoutput", "options": {"cmd": "touch imported"}}

NOT_OF_THIS_FOLDER = [
    *[(kind, GETOUTPUT, "which is not of this folder") for kind in ("model", "dataset")],
    ("model", {"name": "torch.hub:load", "options": {}}, "which is not of this folder"),
    ("model", {"name": "prunesweep.workers.registry:load", "options": {}}, "which is not of this folder"),
    ("dataset", {"name": "no.such-module:X", "options": {}}, "which is not of this folder"),
    ("model", {"name": "mine:Mine", "options": {}}, "without saying in which version"),
    ("model", {"name": "mine:Path", "options": {}, "fingerprint": "code:0"}, "which mine.py does not define"),
]


@pytest.mark.parametrize(("kind", "choice", "why"), NOT_OF_THIS_FOLDER)
def test_what_a_store_names_is_trained_only_with_code_of_this_folder(
    cli: Cli, kind: str, choice: dict[str, Any], why: str
):
    cli.write(MINE, "mine.py")
    hostile(cli, **{kind: choice})
    module, says = choice["name"].partition(":")[0], f"wants to import {choice['name']}, {why}"
    error = cli("resume", "quick", code=2)
    assert f"error: the store's record of quick {says}" in error
    assert f"allow it with --allow {module}" in error
    assert not (cli.folder / "imported").exists()


def test_the_stages_that_a_record_holds_are_trained_with_such_code_only_too(cli: Cli):
    """The trial names nothing but what prunesweep has; what its stage would train with stands beside it."""
    cli.write(MINE, "mine.py")
    store = hostile(cli)
    record = unsealed_json(store.read("quick", RECORD) or b"")
    stage = encode(dense_stage())
    (trial,) = require("quick", store).trials
    record["stages"] = {trial.key: {**stage, "dataset": {**GETOUTPUT, "options": {"cmd": "touch imported"}}}}
    store.write(sealed_json(record), "quick", RECORD)
    assert "wants to import subprocess:getoutput, which is not of this folder" in cli("resume", "quick", code=2)
    assert make_plan(require("quick", store), store).stages.keys() == {dense_stage().key}, "ours need none"
    record["stages"] = {trial.key: {**stage, "sparsity": "x"}}
    store.write(sealed_json(record), "quick", RECORD)
    assert "sweep.json is damaged" in cli("status", "quick", code=2)
    assert not (cli.folder / "imported").exists()


def test_a_sweep_that_cannot_be_read_hides_no_other(cli: Cli):
    store = hostile(cli, method=GETOUTPUT)
    remember(read_sweep(cli.folder / cli.write(QUICK.replace("quick", "whole"))), store)
    answer = cli.ask("status")
    assert (answer.code, answer.out) == (0, "whole: 1 trial: 1 new\n")
    assert answer.err.startswith("error: the record of quick names the method subprocess:getoutput")


SEARCHED = """\
name: quick
dataset: digits
model: lenet300
train: {epochs: 8}
trials: [{method: gmp, sparsity: 0.9, search: {space: {train.lr: [0.1, 0.2]}, budget: 2x}}]
"""


@pytest.mark.parametrize("name", ["antigravity:fly", "mine:Mine"])
def test_a_recorded_search_is_read_without_the_method_that_it_names(cli: Cli, name: str):
    """What a candidate trains is the method's to say: without it nothing of the search is known."""
    store = Store(cli.folder / "results")
    store.require_writable()
    remember(read_sweep(cli.folder / cli.write(SEARCHED)), store)
    record = unsealed_json(store.read("quick", RECORD) or b"")
    record["searches"][0]["base"]["method"] = {"name": name, "options": {}}
    store.write(sealed_json(record), "quick", RECORD)
    remember(read_sweep(cli.folder / cli.write(QUICK.replace("quick", "whole"))), store)
    before = set(sys.modules)
    sweep = require("quick", store)
    refused: list[UserError] = []
    plans = make_plans([sweep, require("whole", store)], store, refused.append)
    assert [plan.sweep.name for plan in plans] == ["whole"], "it hides no other"
    assert f"searches for settings of {name}" in str(refused[0])
    with pytest.raises(UserError, match=f"wants to import {name}"):
        require_own_code(sweep)
    assert not {"antigravity", "mine"} & (set(sys.modules) - before)


@pytest.mark.slow
def test_a_stage_s_specification_is_not_obeyed_either(cli: Cli):
    store = hostile(cli)
    for kind in ("method", "model", "dataset"):
        store.begin(replace(dense_stage(), **{kind: Choice.of(GETOUTPUT["name"], GETOUTPUT["options"])}))
    for spec in cli.folder.glob("results/stages/*/spec.json"):
        done = subprocess.run(
            [sys.executable, "-m", "prunesweep.workers.run", spec], cwd=cli.folder, text=True, capture_output=True
        )
        assert done.returncode == 2
        assert "it wants to import subprocess:getoutput, which is not of this folder" in done.stderr
    assert not (cli.folder / "imported").exists()


def dense_stage() -> TrainStage:
    (trial,) = sweep_of(
        {
            "name": "quick",
            "dataset": "digits",
            "model": "lenet300",
            "train": {"epochs": 1},
            "trials": [{"method": "dense"}],
        }
    ).trials
    stage = create(trial.method).stage(trial)
    assert isinstance(stage, TrainStage)
    return stage


@pytest.mark.parametrize("name", ["load", "Path", "THREE", "absent"])
def test_what_is_called_must_be_of_the_kind_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    """Also in a sweep file: what can be no method or dataset is refused before its first call."""
    module = f"kinds_{name.lower()}"
    text = "from pathlib import Path\nTHREE = 3\ndef load():\n    Path('called').touch()\n"
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=f"{module}:{name}"):
        create(Choice.of(f"{module}:{name}"))
    with pytest.raises(UserError, match=f"{module}:{name}"):
        data.load(Choice.of(f"{module}:{name}"), "data")
    assert not Path("called").exists()


def test_a_sweep_with_a_method_of_ones_own_is_read_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
):
    """Its record holds what the method asked for; only where the file is at hand may it be trained."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (project, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))
    Path("mine.py").write_text(MINE)
    Path("own.yaml").write_text(QUICK.replace("method: dense", "method: 'mine:Mine'").replace("quick", "own"))
    store = Store(cli.folder / "results")
    store.require_writable()
    sweep = versioned(read_sweep(Path("own.yaml")), store)
    remember(sweep, store)
    remembered = require("own", store)
    assert make_plan(remembered, store).stages == make_plan(sweep, store).stages
    require_own_code(remembered)
    remember(remembered, store)
    assert json.loads(cli("status", "own", "--json"))[0]["trials"] == 1, "in a folder where there is no mine.py"
    assert not (cli.folder / "imported").exists()
    monkeypatch.chdir(elsewhere)
    monkeypatch.delitem(sys.modules, "mine")
    with pytest.raises(UserError, match=r"wants to import mine:Mine, which is not of this folder"):
        require_own_code(remembered)
    require_own_code(remembered, ["mine"])


def test_names_lead_nowhere_but_into_the_store(tmp_path: Path):
    store = Store(tmp_path / "store")
    store.require_writable()
    (tmp_path / "outside").write_text("private")
    for parts in (("..", "outside"), ("stages", "../../outside"), ("x/../../outside",), ("",), ("a\0b",)):
        with pytest.raises(UserError, match="no name of a file or folder in the store"):
            store.read(*parts)


def test_gc_follows_no_links(cli: Cli):
    """Of a stage that is a link, and of a folder beside the stages: what they lead to stays."""
    store = Store(cli.folder / "results")
    store.require_writable()
    remember(read_sweep(cli.folder / cli.write(QUICK)), store)
    outside = cli.folder / "outside"
    for name in ("result.json", "checkpoint.safetensors", "damaged-0-x.json", "x.tmp"):
        (outside / name).parent.mkdir(exist_ok=True)
        (outside / name).write_text("{}")
    (cli.folder / "results/stages").mkdir()
    (cli.folder / "results/stages" / ("0" * 20)).symlink_to(outside)
    (cli.folder / "results/elsewhere").symlink_to(outside)
    (cli.folder / "results/quick/damaged-1-y.json").symlink_to(outside / "damaged-0-x.json")
    assert "nothing to remove" in cli("gc", "--yes")
    assert len(list(outside.iterdir())) == 4
    with pytest.raises(UserError, match="is a link, and what it leads to is left alone"):
        store.remove_tree("stages", "0" * 20)
    assert len(list(outside.iterdir())) == 4
