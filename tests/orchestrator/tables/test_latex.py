"""Tables pasted into a document that has `\\usepackage{booktabs}` and nothing else: it compiles."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from prunesweep import load_published
from prunesweep.orchestrator.tables.compare import differences
from prunesweep.orchestrator.tables.compare_published import differences_to_published
from prunesweep.orchestrator.tables.grid import laid_out
from prunesweep.orchestrator.tables.means import best_table, means_table
from prunesweep.orchestrator.tables.rendering import render
from prunesweep.orchestrator.tables.text_table import TextTable
from tests.orchestrator.frames import dense, imp, trials

pytestmark = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")

HARD = r"my_pkg:50%_&_$x^2$ #1 {a} ~b \c <d> |e| é"

NAMES = pd.DataFrame(
    [
        *(row for s in (0.9, 0.995) for row in imp([0.90, 0.92], HARD, 1, s)),
        *(row for s in (0.9, 0.995) for row in imp([0.93, 0.94], "[optional]", 1, s, dataset_options="[a: 1, *]")),
        *imp([0.93, 0.95], "*", 2, 0.9),
        *dense([0.96, 0.98], model_options=HARD),
    ]
)

TABLES: dict[str, Callable[[pd.DataFrame], TextTable]] = {
    "results": lambda frame: laid_out(means_table(frame)),
    "two datasets": lambda frame: laid_out(
        means_table(pd.concat([frame, frame.assign(dataset=HARD, trial="2" + frame.trial)]))
    ),
    "a row begins with a bracket": lambda frame: laid_out(means_table(frame, by=["dataset_options"])),
    "best": lambda frame: laid_out(best_table(frame.assign(validation_accuracy=0.5, reached_sparsity=0.9))),
    "compare": lambda frame: differences(frame.drop(columns="dataset_options")),
    "published": lambda frame: differences_to_published(
        frame.assign(retrain_schedule="FT", weight_decay=frame.retrain_schedule),
        load_published(),
        "test_accuracy",
        ["dataset", "model", "retrain_epochs", "pretrain_epochs"],
    ),
}


def latex(table: TextTable) -> str:
    return str(render(table, "latex"))


def compiled(table: str, folder: Path) -> str:
    """What the document says in the end."""
    text = f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{table}\n\\end{{document}}\n"
    (folder / "paper.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "paper.pdf").stat().st_size > 1000
    return done.stdout


@pytest.mark.parametrize("name", TABLES)
def test_a_table_compiles_as_pasted_whatever_the_names_are(name: str, tmp_path: Path) -> None:
    compiled(latex(TABLES[name](NAMES)), tmp_path)


def test_the_check_can_fail(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        compiled(latex(TABLES["results"](NAMES)).replace(r"\_", "_"), tmp_path)


def test_signs_are_those_of_mathematics() -> None:
    rows = [
        *imp([0.90, 0.92, 0.91, 0.90, 0.92], "FT"),
        *imp([0.95, 0.9701, 0.96, 0.96, 0.97], "LLR"),
        *trials([0.95, 0.98, 0.94, 0.97, 0.95], method="gmp", retrain_epochs=1),
    ]
    text = latex(differences(pd.DataFrame(rows)))
    assert "$-$5.2" in text
    assert "$<$0.001" in latex(differences(pd.DataFrame(rows[:10])))
