"""How numbers are written for people."""

from __future__ import annotations

import pytest

from prunesweep.orchestrator.results.units import scale


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("train_flops", 3.15e18, "3.2e18"),
        ("train_flops", 9.96e9, "1.0e10"),
        ("train_flops", 0.0, "0"),
        ("inference_flops", 4.2e7, "4.2e7"),
        ("train_flops_ratio", 0.5449, "0.54x"),
        ("train_flops_ratio", 1200.0, "1,200.00x"),
        ("test_accuracy", 0.885, "88.50"),
        ("theoretical_speedup", 4.5, "4.50"),
    ],
)
def test_a_number_is_written_as_people_write_it(column: str, value: float, text: str) -> None:
    assert scale(column).number(value) == text


def test_a_count_that_all_seeds_agree_in_has_no_deviation() -> None:
    """Nor one that shows in no digit; of an accuracy a deviation of 0 is a finding."""
    ratio, flops, accuracy = scale("train_flops_ratio"), scale("train_flops"), scale("test_accuracy")
    assert ratio.text(0.24, 1e-16, 5) == "0.24x (5)"
    assert ratio.text(0.24, 0.03, 5) == "0.24x ± 0.03x (5)"
    assert ratio.text(0.24, 0.004, 5) == "0.24x (5)"
    assert flops.text(3.2e18, 6e16, 5) == "3.2e18 ± 6.0e16 (5)"
    assert flops.text(3.2e18, 4e16, 5) == "3.2e18 (5)"
    assert flops.text(3.2e18, None, 1) == "3.2e18 (1)"
    assert accuracy.text(0.24, 0.0, 5) == "24.00 ± 0.00 (5)"
