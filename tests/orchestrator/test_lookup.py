"""A sweep is named by its name, its file or its folder, on the command line and in Python alike."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from prunesweep.orchestrator.lookup import find_sweep, load_sweep, results_place, sweep_name
from prunesweep.orchestrator.records import read_records, remember
from prunesweep.orchestrator.results.parquet import load_results
from prunesweep.orchestrator.status.checking import Check
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location
from prunesweep.workers.store import Store
from tests.orchestrator.conftest import Cli
from tests.orchestrator.finished import finish

BLOCKS = """\
dataset: digits
model: lenet300
train: {epochs: 2}
trials:
  - {method: dense}
  - {method: imp, sparsity: 0.9, retrain_epochs: 1}
"""


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """A store in which the sweep of study.yaml, whose name is `first`, has been run."""
    finish(f"name: first\n{BLOCKS}", Store(tmp_path / "results"), tmp_path / "study.yaml")
    return Cli(tmp_path)


def test_all_ways_of_naming_it_lead_to_one_sweep(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(cli.folder)
    store = Store("results")
    first = load_sweep("study.yaml")
    for named in ("first", "study.yaml", Path("study.yaml"), "results/first", "./results/first/", first):
        assert find_sweep(named, store).trials == first.trials
        assert Path(results_place(named, store)).resolve() == cli.folder / "results/first"
    assert [sweep_name(text) for text in ("first", "study.yaml", "results/first")] == ["first"] * 3


def test_a_name_goes_before_a_folder_and_a_folder_elsewhere_has_results_of_its_own(cli: Cli):
    store = Store(cli.folder / "results")
    (cli.folder / "first").mkdir()
    assert results_place("first", store) == store.url("first")
    assert results_place(str(cli.folder / "first"), store) == Location(cli.folder / "first")
    assert results_place("s3://bucket/first", store) == Location("s3://bucket/first")


@pytest.mark.parametrize("table", ["trials", "curves", "layers"])
def test_another_sweeps_table_in_a_sweeps_folder_is_said(cli: Cli, table: str):
    store = Store(cli.folder / "results")
    finish(f"name: second\n{BLOCKS}", store, cli.folder / "second.yaml")
    shutil.copy(cli.folder / f"results/second/{table}.parquet", cli.folder / "results/first")
    with pytest.raises(UserError, match=rf"{table}\.parquet is a table of the sweep second; `prunesweep resume first`"):
        results_place("first", store)
    assert results_place("second", store) == store.url("second")
    shutil.copytree(cli.folder / "results/second", cli.folder / "archived")
    assert results_place(str(cli.folder / "archived"), store) == Location(cli.folder / "archived"), (
        "a copy may be renamed"
    )


def test_what_is_not_here_of_a_store_under_git_is_said_with_how_to_get_it(cli: Cli):
    table = cli.folder / "results/first/trials.parquet"
    for pointer in (
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n",
        "/annex/objects/MD5E-s12--4d\n",
    ):
        table.write_text(pointer)
        with pytest.raises(UserError, match="is a pointer of Git's to a table that is not here: git lfs pull"):
            load_results(table.parent)
    table.unlink()
    table.symlink_to("../../.git/annex/objects/x")
    with pytest.raises(UserError, match="is a link to a file that is not here; git annex get, or copy it"):
        load_results(table.parent)


def test_a_copy_that_a_file_manager_made_is_said_to_be_one(cli: Cli):
    shutil.copytree(cli.folder / "results/first", cli.folder / "results/first (1)")
    read = read_records(Store(cli.folder / "results"))
    assert [sweep.name for sweep in read if isinstance(sweep, Sweep)] == ["first"]
    assert "first (1) has a record, and no sweep has such a name: remove it if it is a copy" in str(read[1])


def test_another_sweeps_record_is_not_taken_for_the_sweeps_own(cli: Cli):
    store = Store(cli.folder / "results")
    finish(
        f"name: second\n{BLOCKS.replace('0.9', '0.8').replace('- {method: dense}', '')}",
        store,
        cli.folder / "second.yaml",
    )
    shutil.copy(cli.folder / "results/second/sweep.json", cli.folder / "results/first")
    (fault,) = Check(store).faults()
    assert (fault.place, fault.problem) == ("first/sweep.json", "is that of the sweep 'second'")
    with pytest.raises(UserError, match="is the record of 'second', in the wrong folder: move it to where it belongs"):
        remember(load_sweep(cli.folder / "study.yaml"), store)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("frist", 'has no sweep "frist": it knows first; did you mean "first"?'),
        ("studi.yaml", 'studi.yaml: no such file; did you mean "study.yaml"?'),
        ("elsewhere/second", "is a sweep of another store than {folder}/results: add --store elsewhere"),
        ("elsewhere", "elsewhere: is a folder; name one of the sweep files in it: second.yaml"),
    ],
)
def test_what_names_no_sweep_is_an_error(named: str, message: str, cli: Cli, monkeypatch: pytest.MonkeyPatch):
    (cli.folder / "elsewhere").mkdir()
    finish(BLOCKS, Store(cli.folder / "elsewhere"), cli.folder / "elsewhere/second.yaml")
    monkeypatch.chdir(cli.folder)
    with pytest.raises(UserError) as error:
        find_sweep(named, Store("results"))
    assert message.format(folder=cli.folder) in str(error.value)


def test_verbs_take_a_name_a_file_and_a_folder(cli: Cli):
    for verb in ("plan", "results", "report"):
        by_name, by_file, by_folder = (cli(verb, named) for named in ("first", "study.yaml", "results/first"))
        assert by_name == by_file == by_folder


def test_settings_in_python_are_those_of_a_file(tmp_path: Path):
    import numpy as np

    settings = {
        "name": "grid",
        "dataset": "digits",
        "model": {"name": "lenet300"},
        "seeds": [0, 3],
        "train": {"epochs": 2, "lr": 1e-05},
        "trials": [{"method": "imp", "sparsity": np.array([0.8, 0.9], np.float32), "retrain_epochs": range(1, 3)}],
    }
    sweep = load_sweep(settings)
    assert len(sweep.trials) == 8
    (tmp_path / "other.yaml").write_text(sweep.text)
    assert load_sweep(tmp_path / "other.yaml").trials == sweep.trials
    assert {trial.sparsity for trial in sweep.trials} == {0.8, 0.9}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": None}, "name: null is not allowed: a folder's name of letters"),
        ({"trials": [{"method": "gmp", "sparsity": 90}]}, "trials[0].sparsity: 90 is not allowed: a number in [0, 1)"),
        ({"dataset": object()}, "a sweep's settings are numbers, texts, lists and mappings"),
        ({"seeds": float("nan")}, "seeds: .nan is not allowed: numbers are finite"),
    ],
)
def test_wrong_settings_in_python_are_named_without_a_line(changes: dict[str, object], message: str):
    settings = {"name": "x", "dataset": "digits", "model": "lenet300", "trials": [{"method": "dense"}], **changes}
    with pytest.raises(UserError) as error:
        load_sweep(settings)
    assert str(error.value).startswith(message)


def test_settings_without_a_name_are_refused():
    with pytest.raises(UserError, match="a sweep that has no file needs one"):
        load_sweep({"dataset": "digits", "model": "lenet300", "trials": [{"method": "dense"}]})
