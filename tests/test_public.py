"""The public interface: `import prunesweep` shows the names of docs/python.md and nothing else, and loads nothing."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest

import prunesweep
from prunesweep.workers.store import Store
from tests.orchestrator.finished import finish

ROOT = Path(__file__).parent.parent
SETTINGS = {
    "name": "study",
    "dataset": "digits",
    "model": "lenet300",
    "train": {"epochs": 2},
    "trials": [{"method": "dense"}, {"method": "imp", "sparsity": 0.9, "retrain_epochs": 1}],
}


def test_importing_it_loads_nothing_and_shows_public_names_only():
    code = "import prunesweep, sys; print([m for m in ('torch', 'ray', 'pandas', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    assert dir(prunesweep) == sorted(prunesweep.__all__)
    assert all(getattr(prunesweep, name).__doc__ for name in dir(prunesweep) if name != "torch")
    with pytest.raises(AttributeError, match="no attribute 'comparison'"):
        _ = prunesweep.comparison


def test_type_checkers_see_the_names_that_are_there():
    tree = ast.parse((ROOT / "prunesweep/__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {
        alias.asname: getattr(sys.modules[node.module], alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module and __import__(node.module)
        for alias in node.names
    }
    assert seen == {name: getattr(prunesweep, name) for name in prunesweep.__all__}


def test_a_store_is_checked_from_python(tmp_path: Path):
    with pytest.raises(prunesweep.UserError, match="there is no store at"):
        prunesweep.check(tmp_path / "store")
    store = Store(tmp_path / "store")
    store.require_writable()
    plan = finish(json.dumps(SETTINGS), store, tmp_path / "study.yaml")
    assert prunesweep.check(tmp_path / "store") == []
    place = tmp_path / "store/stages" / next(iter(plan.stages)) / "curve.parquet"
    place.write_bytes(place.read_bytes()[:-1])
    (fault,) = prunesweep.check(str(tmp_path / "store"))
    assert (fault.place, fault.problem) == (f"stages/{place.parent.name}/curve.parquet", "is missing, or damaged")
    assert fault.remedy == "the next run of its sweep computes the stage again"


def test_docs_list_all_of_it():
    listed = re.findall(r"^\| `.*", (ROOT / "docs/python.md").read_text(), re.MULTILINE)
    names = {name for line in listed for name in re.findall(r"`(\w+)", line.split(" | ")[0])}
    text = (ROOT / "docs/python.md").read_text()
    assert {name for name in prunesweep.__all__ if f"`{name}" not in text} == set()
    fields = {"sweep", "counts", "stages", "to_run", "trial_state"}
    assert names - fields <= set(prunesweep.__all__)


def test_documents_and_examples_use_public_names_only():
    files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/examples").glob("*.py")]
    private = re.compile(r"(?:from|import) prunesweep\.\S+")
    lines = {file.name: private.findall(file.read_text()) for file in files}
    assert {name: line for name, line in lines.items() if line} == {}


def test_plans_and_results_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sweep = prunesweep.load_sweep(SETTINGS)
    store = Store(tmp_path / "results")
    finish(sweep.text, store, tmp_path / "study.yaml")
    for place in (store.location, tmp_path / "results"):
        plan = prunesweep.plan(SETTINGS, place)
        assert (plan.counts.trials, plan.counts.done, plan.to_run) == (2, 2, {})
        assert [plan.trial_state(trial) for trial in plan.sweep.trials] == ["done", "done"]
    monkeypatch.chdir(tmp_path)
    for named in ("study", "study.yaml", "results/study", SETTINGS, sweep):
        assert list(prunesweep.load_results(named).method) == ["dense", "imp"]
    assert len(prunesweep.load_curves("study")) == 2 + 2 + 2
    assert len(prunesweep.load_layers("study")) == 4
    monkeypatch.setenv("PRUNESWEEP_STORE", str(tmp_path / "none"))
    with pytest.raises(prunesweep.UserError, match='has no sweep "study"'):
        prunesweep.load_results("study")
    assert len(prunesweep.load_results("study", store=store.location)) == 2


def test_a_run_in_python_is_quiet_and_returns_the_plan(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """A Ray of its own; what is done already is not run again, and starts none."""
    plan = prunesweep.run(SETTINGS, tmp_path / "results")
    assert (plan.counts.done, plan.counts.trials) == (2, 2)
    assert len(prunesweep.load_results("study", store=tmp_path / "results")) == 2
    assert prunesweep.run("study", tmp_path / "results").counts.done == 2
    assert capfd.readouterr().out == ""
    with pytest.raises(prunesweep.UserError, match="--device"):
        prunesweep.run(SETTINGS, tmp_path / "results", device="gpu")


COUNTING = """
from prunesweep import Method, Pruner, magnitude_masks

class Late(Method):
    \"\"\"Prunes after an epoch: {when}.\"\"\"

class LatePruner(Pruner, method=Late):
    count = 0

    def after_epoch(self, epoch):
        self.count += 1
        if {when}:
            self.hold(magnitude_masks(self.weights, {sparsity}))
        return True
"""


@pytest.mark.parametrize(
    ("when", "sparsity", "complaint"),
    [
        ("epoch == 2", "self.sparsity", None),
        ("self.count == 2", "self.sparsity", "its state and load_state lack something"),
        ("epoch == 2", "0.5", "it reaches a sparsity of 0.5"),
    ],
)
def test_check_method_tells_a_method_that_forgets_from_one_that_does_not(
    when: str, sparsity: str, complaint: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = f"late_{len(when)}_{len(sparsity)}"
    (tmp_path / f"{name}.py").write_text(COUNTING.format(when=when, sparsity=sparsity))
    monkeypatch.syspath_prepend(tmp_path)
    block = {"method": f"{name}:Late", "sparsity": 0.9}
    if complaint is None:
        prunesweep.check_method(block, epochs=3, model="lenet300")
    else:
        with pytest.raises(AssertionError, match=complaint):
            prunesweep.check_method(block, epochs=3, model="lenet300")


RIVALS = """\
dataset: digits
model: lenet300
seeds: 2
train: {epochs: 4}
trials:
  - {method: dense}
  - {method: imp, sparsity: [0.8, 0.9], retrain_epochs: 1, retrain_schedule: [FT, LLR]}
  - {method: gmp, sparsity: [0.8, 0.9]}
"""


@pytest.fixture(scope="module")
def rivals(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Results of dense, two schedules of IMP and GMP, at two sparsities."""
    folder = tmp_path_factory.mktemp("rivals")
    store = Store(folder / "results")
    finish(RIVALS, store, folder / "rivals.yaml")
    return prunesweep.load_results("rivals", store=store.location)


def test_whole_numbers_and_booleans_stay_so_where_some_rows_have_none(rivals: pd.DataFrame):
    assert (str(rivals.phases.dtype), str(rivals.recover.dtype)) == ("Int64", "boolean")
    assert rivals[rivals.phases == 1].method.unique().tolist() == ["imp"]
    assert rivals[rivals.recover == False].method.unique().tolist() == ["gmp"]  # noqa: E712
    assert rivals.phases.isna().sum() == 2 + 4


def test_a_text_is_one_column_and_one_method(rivals: pd.DataFrame):
    with pytest.warns(UserWarning, match="over several settings that differ in target_sparsity, retrain_schedule, and"):
        pooled = prunesweep.aggregate(rivals, "test_accuracy", "method")
    assert pooled.n.tolist() == [2, 8, 4]
    at = ["dataset", "model", "target_sparsity"]
    rows = prunesweep.compare(rivals, against="gmp", at=at)
    assert rows[["method", "n"]].to_numpy().tolist() == [["imp", 2]] * 4
    pd.testing.assert_frame_equal(rows, prunesweep.compare(rivals, against={"method": "gmp"}, at=at))


def test_one_setting_in_each_group_needs_no_warning(rivals: pd.DataFrame):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        means = prunesweep.aggregate(rivals, "test_accuracy", ["method", "retrain_schedule", "target_sparsity"])
    assert means.n.tolist() == [2] * 7, "the dense networks are a group, too"


def test_what_cannot_be_compared_is_said(rivals: pd.DataFrame):
    with pytest.raises(
        prunesweep.UserError, match='unknown method "gmpp": allowed are dense, gmp, imp; did you mean "gmp"'
    ):
        prunesweep.compare(rivals, against="gmpp")
    with pytest.raises(prunesweep.UserError, match="no two settings, one of them with method gmp, have the same"):
        prunesweep.compare(rivals, against="gmp")
