"""`compare` across budgets: what has no rival is named, and the dense networks stay in view."""

from __future__ import annotations

import pytest

from prunesweep.workers.store import Store
from tests.orchestrator.conftest import Cli
from tests.orchestrator.finished import finish

TEXT = """\
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
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    folder = tmp_path_factory.mktemp("left_out")
    finish(TEXT, Store(folder / "results"), folder / "exp.yaml")
    return Cli(folder)


def test_what_has_no_rival_at_its_budget_is_named(cli: Cli):
    printed = " ".join(cli("compare", "exp").split())
    assert (
        "left out, with no rival of the same sparsity and total epochs: gmp at sparsity 80%, 4 epochs and "
        "sparsity 90%, 4 epochs; --at target_sparsity compares those of different total epochs" in printed
    )
    assert "digits, lenet300: test accuracy in percent, differences to the best dense, 4 epochs: " in printed


def test_rivals_of_different_budgets(cli: Cli):
    rows = cli.json("compare", "exp", "--at", "target_sparsity=0.9", "--against", "gmp")
    assert [(row["method"], row["retrain_schedule"], row["against_method"]) for row in rows] == [
        ("imp", "FT", "gmp"),
        ("imp", "LLR", "gmp"),
    ]
    assert "left out" not in cli("compare", "exp", "--at", "target_sparsity")
    both = cli.json("compare", "exp", "--at", "target_sparsity")
    assert len(both) == 4
    assert {row["target_sparsity"] for row in both} == {0.8, 0.9}


def test_best_settings_compete_whatever_their_budgets(cli: Cli):
    rows = cli.json("compare", "exp", "--best-by", "validation_accuracy")
    assert len(rows) == 2, "one schedule of IMP and GMP at each sparsity"


def test_nothing_to_compare_names_the_way_out(cli: Cli):
    said = cli("compare", "exp", "--against", "gmp", code=2)
    assert "no two settings, one of them with method gmp, have the same dataset, model, target sparsity" in said
    assert "; --at target_sparsity compares those of different total epochs" in said


@pytest.mark.parametrize("verb", ["results", "compare"])
def test_dense_stays_in_view_where_a_condition_is_about_sparsity(verb: str, cli: Cli):
    assert "dense, 4 epochs: " in cli(verb, "exp", "--where", "target_sparsity>=0.9")
    assert "dense, 4 epochs: " not in cli(verb, "exp", "--where", "method=imp")
