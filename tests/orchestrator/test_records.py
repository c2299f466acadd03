"""What a store remembers of sweeps is data: whoever reads it imports, calls and follows nothing that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.records import RECORD, remember, require, require_own_code
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.errors import UserError
from prunesweep.workers.seal import sealed_json, unsealed_json
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
        {"method": {"name": "mine:Mine", "options": {}}},
        {"model": {"name": "subprocess:getoutput", "options": {"cmd": "touch imported"}}},
        {"dataset": {"name": "mine:Mine", "options": {}}},
        {"method": {"name": "imp", "options": {"no such": 1}}},
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


def test_a_remembered_sweep_is_trained_only_with_code_of_this_folder(cli: Cli):
    hostile(cli, model={"name": "subprocess:getoutput", "options": {"cmd": "touch imported"}})
    error = cli("resume", "quick", code=2)
    assert "the store's record of quick wants to import subprocess:getoutput, which is not of this folder" in error
    assert not (cli.folder / "imported").exists()


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
    sweep = read_sweep(Path("own.yaml"))
    remember(sweep, store)
    remembered = require("own", store)
    assert make_plan(remembered, store).stages == make_plan(sweep, store).stages
    require_own_code(remembered)
    remember(remembered, store)
    assert json.loads(cli("status", "own", "--json"))[0]["trials"] == 1, "in a folder where there is no mine.py"
    assert not (cli.folder / "imported").exists()
    monkeypatch.chdir(elsewhere)
    with pytest.raises(UserError, match=r"wants to import mine:Mine, which is not of this folder"):
        require_own_code(remembered)


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
