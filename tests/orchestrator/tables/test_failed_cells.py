"""A setting whose trials all failed is a row that says so."""

from __future__ import annotations

import pandas as pd
import pytest

from prunesweep.orchestrator.results.aggregation import Cell
from prunesweep.orchestrator.tables.failed_cells import failed_cells, failed_notes
from prunesweep.workers.spec import Stage, TrainStage
from prunesweep.workers.store import Store
from tests.orchestrator.conftest import Cli
from tests.orchestrator.finished import finish

TEXT = """\
dataset: digits
model: lenet300
seeds: 2
train: {epochs: 4}
trials:
  - {method: imp, sparsity: [0.8, 0.9], retrain_epochs: 1, retrain_schedule: [FT, LLR]}
  - {method: gmp, sparsity: [0.8, 0.9]}
"""


def fate(stage: Stage) -> str | None:
    """GMP diverges at 90 %, and once at 80 %."""
    is_gmp = isinstance(stage, TrainStage) and stage.method.name == "gmp"
    return "the loss is nan" if is_gmp and (stage.sparsity == 0.9 or stage.root.seed == 1) else None


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    folder = tmp_path_factory.mktemp("failed")
    finish(TEXT, Store(folder / "results"), folder / "exp.yaml", fate)
    return Cli(folder)


def row(printed: str, *labels: str) -> str:
    return next(line for line in printed.splitlines() if all(label in line for label in labels))


def test_the_table_of_means_says_which_cell_diverged(cli: Cli):
    assert row(cli("results", "exp"), "gmp").split() == ["4", "gmp", "92.01", "(1/2)†", "diverged"]


def test_the_table_of_differences_has_a_row_for_it(cli: Cli):
    printed = cli("compare", "exp", "--at", "target_sparsity")
    assert row(printed, "diverged").split() == ["gmp", "diverged"]
    assert printed.count("diverged") == 1, "at 80% one seed has finished"


def test_a_condition_is_about_failed_trials_too(cli: Cli):
    assert "diverged" not in cli("results", "exp", "--where", "target_sparsity=0.8")


def test_programs_read_it_as_a_row_without_a_mean(cli: Cli):
    (failed,) = [row for row in cli.json("results", "exp") if row.get("failed")]
    assert (failed["method"], failed["mean"], failed["n"], failed["failed"]) == ("gmp", None, 0, "diverged")


def test_a_cell_names_the_causes_of_all_its_trials_and_only_where_all_have_failed():
    asked = pd.DataFrame(
        {
            "method": ["imp", "imp", "gmp", "gmp", "set"],
            "failed": [None, "killed", "killed", "out of GPU memory", "diverged"],
        }
    )
    cells = list(failed_cells(asked, [Cell({"method": "dense"}, 0.9, None, 1)]))
    assert [(cell.settings["method"], cell.failed) for cell in cells] == [
        ("gmp", "failed: killed, out of GPU memory"),
        ("set", "diverged"),
    ]
    assert list(failed_notes(cells)) == ["failed: killed, out of GPU memory; `prunesweep status SWEEP` says what to do"]
