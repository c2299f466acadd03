"""The table of candidates: the best first, and what stands for what is not known."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from prunesweep import load_candidates
from prunesweep.orchestrator.results.schemas import candidates_schema
from prunesweep.orchestrator.tables.candidates import candidates_table
from prunesweep.orchestrator.tables.text_table import Emphasis
from prunesweep.workers.errors import UserError
from tests.orchestrator import frames
from tests.orchestrator.figures.test_figures import CANDIDATES_MADE


def test_candidates_are_ranked_within_their_search_and_the_winner_stands_out():
    table = candidates_table(pd.DataFrame(CANDIDATES_MADE))
    assert table.heads == ("method", "candidate")
    assert [column[0] for column in table.columns] == ["train.lr", "epochs", "validation accuracy"]
    lines = [(*line.labels, *(entry.text for entry in line.entries)) for line in table.lines]
    assert lines == [
        ("gmp", "3", "0.5", "20", "94.00"),
        ("gmp", "2", "0.1", "20", "92.00"),
        ("gmp", "1", "0.01", "2", "50.00"),
        ("imp", "2", "0.1", "20", "90.00"),
        ("imp", "1", "0.01", "20", "80.00"),
        ("imp", "3", "0.5", "20", "diverged"),
    ]
    best = [line.entries[-1].text for line in table.lines if line.entries[-1].emphasis is Emphasis.BEST]
    assert best == ["94.00", "90.00"]
    assert table.records[-1]["score"] is None
    assert table.records[0]["settings"] == {"train.lr": 0.5}


def tried(method: str, winner: int, **settings: list[float]) -> list[dict[str, object]]:
    """A search at 90 % with these values of its settings; its scores do not matter."""
    made = {**CANDIDATES_MADE[0], "method": method, "search": method, "epoch": 20, "score": 0.5, "diverged": False}
    del made["train.lr"]
    return [
        {**made, "candidate": number, "winner": number == winner, **dict(zip(settings, values, strict=True))}
        for number, values in enumerate(zip(*settings.values(), strict=True), 1)
    ]


def test_settings_of_searches_that_have_others_are_in_one_column_in_the_order_of_the_sweep():
    rates = [0.1, 0.2, 0.3, 0.4, 0.5]
    gsm = tried("gsm", 5, **{"train.lr": rates, "momentum": [0.9, 0.95, 0.9, 0.95, 0.9]})
    table = candidates_table(pd.DataFrame([*gsm, *tried("gmp", 3, **{"train.lr": rates})]))
    assert table.columns[0] == ("setting",)
    first = [(line.labels[0], line.entries[0].text) for line in table.lines if line.starts_block]
    assert first == [("gsm", "train.lr 0.5, momentum 0.9"), ("gmp", "train.lr 0.3")]


def test_a_winner_beyond_whose_setting_nothing_was_tried_is_said():
    """Of momentum two values were tried, one of which is always an end; a winner in the middle is none."""
    rates = [0.5, 0.2, 0.3, 0.4, 0.1]
    gsm = tried("gsm", 1, **{"train.lr": rates, "momentum": [0.9, 0.95, 0.9, 0.95, 0.9]})
    table = candidates_table(pd.DataFrame([*gsm, *tried("gmp", 3, **{"train.lr": rates})]))
    assert table.notes[-1] == (
        "winners at an end of the values tried, so that a wider range may be better: gsm train.lr 0.5"
    )
    assert "end of the values" not in str(candidates_table(pd.DataFrame(tried("gmp", 3, **{"train.lr": rates}))).notes)


def test_candidates_are_loaded_from_a_folder_and_absent_ones_said(tmp_path: Path):
    frames.write(tmp_path / "a", CANDIDATES_MADE, candidates_schema({"train.lr": pa.float64()}), "candidates")
    assert load_candidates(tmp_path / "a")["train.lr"].tolist() == [row["train.lr"] for row in CANDIDATES_MADE]
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match="no searches at"):
        load_candidates(tmp_path / "b")


def test_candidates_that_missed_the_target_come_last_whatever_they_score():
    rows = tried("str", 1, s_initial=[-2.0, -3.0])
    rows[0] |= {"own_sparsity": 0.9007, "on_target": True, "score": 0.5}
    rows[1] |= {"own_sparsity": 0.2438, "on_target": False, "score": 0.99, "winner": False}
    table = candidates_table(pd.DataFrame(rows))
    assert [[entry.text for entry in line.entries][-2:] for line in table.lines] == [
        ["90.07", "50.00"],
        ["24.38 (missed)", "99.00"],
    ]
    assert "1 candidate missed the target sparsity, and can't win" in table.notes
