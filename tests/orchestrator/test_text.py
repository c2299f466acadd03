"""Figures as words."""

from __future__ import annotations

import pytest

from prunesweep.orchestrator.text import counted, duration, grouped, joined, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (89 * 60, "89 min"),
        (200 * 60, "3 h 20 min"),
        (52 * 3600, "2 d 4 h"),
    ],
)
def test_a_duration_has_the_two_units_that_matter(seconds: float | None, text: str):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (12_345, "12.3 kB"), (3.4e6, "3.4 MB"), (1.2e9, "1.2 GB"), (5e12, "5 TB")],
)
def test_sizes_are_in_powers_of_ten(count: float, text: str):
    assert size(count) == text


def test_counts_and_lists_of_words():
    assert [counted(count, "trial") for count in (0, 1, 1234)] == ["0 trials", "1 trial", "1,234 trials"]
    assert grouped(["diverged", "worker died", "diverged"]) == "2 diverged, 1 worker died"
    assert [joined("abc"[:count]) for count in range(4)] == ["", "a", "a and b", "a, b and c"]
