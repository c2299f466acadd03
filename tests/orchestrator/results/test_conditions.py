"""A condition meets what a table shows: numbers as they are printed, days, and values with commas."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from prunesweep.orchestrator.results.filtering import where
from prunesweep.workers.errors import UserError

FRAME = pd.DataFrame(
    {
        "trial": ["a", "b", "c", "d"],
        "target_sparsity": [0.7, 0.1 * 8, 0.7 + 0.2, None],
        "model_options": ["width: 1, depth: 8", "width: 2, depth: 8", "width: 2", None],
        "finished_at": pd.to_datetime(
            ["2026-04-03T00:00:00Z", "2026-04-03T23:59:59Z", "2026-04-04T00:00:00Z", None], utc=True
        ),
    }
)
"""0.1 * 8 is 0.8, and 0.7 + 0.2 is 0.8999999999999999."""


@pytest.mark.parametrize(
    ("condition", "trials"),
    [
        ("target_sparsity=0.9", "c"),
        ("target_sparsity=90%", "c"),
        ("target_sparsity=0.7,0.9", "ac"),
        ("target_sparsity!=0.9", "abd"),
        ("target_sparsity>=0.9", "c"),
        ("target_sparsity<=0.9", "abc"),
        ("target_sparsity<0.9", "ab"),
        ("target_sparsity>80%", "c"),
        ('model_options="width: 2, depth: 8"', "b"),
        ("model_options=width: 2, depth: 8", "b"),
        ("model_options='width: 2, depth: 8',width: 2", "bc"),
        ("finished_at=2026-04-03", "ab"),
        ("finished_at!=2026-04-03", "cd"),
        ("finished_at>2026-04-03", "c"),
        ("finished_at>=2026-04-03", "abc"),
        ("finished_at<=2026-04-03", "ab"),
        ("finished_at<2026-04-04", "ab"),
        ("finished_at>=2026-04-03T23:00", "bc"),
    ],
)
def test_a_condition_meets_what_is_shown(condition: str, trials: str) -> None:
    assert "".join(where(FRAME, [condition]).trial) == trials


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("finished_at=03.04.2026", '"03.04.2026" is no time; write 2025-12-31'),
        ("finished_at=2026-05-01", 'unknown finished_at "2026-05-01"'),
        ("target_sparsity=0.91", 'unknown target_sparsity "0.91": allowed are 0.7, 0.8, 0.9'),
        ("target_sparsity=90%%", '"90%%" is no number'),
        ("target_sparsity=0,9", r'unknown target_sparsity "0".*; these are two values: one would be 0\.9$'),
    ],
)
def test_what_meets_nothing_is_said(condition: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        where(FRAME, [condition])


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("target_sparsity>60", '"target_sparsity>60" leaves none of 4 rows: target_sparsity is from 0.7 to 0.'),
        ("target_sparsity<-1", "leaves none of 4 rows: target_sparsity is from 0.7 to 0."),
        (
            "finished_at<2020-01-01",
            "leaves none of 4 rows: finished_at is from 2026-04-03 00:00:00+00:00 to ",
        ),
    ],
)
def test_a_condition_that_no_row_meets_is_answered_with_the_range_of_what_there_is(condition: str, said: str):
    with pytest.raises(UserError, match=re.escape(said)):
        where(FRAME, [condition])
