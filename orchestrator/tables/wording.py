"""How settings and columns are written in tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prunesweep.orchestrator.results.best_settings import ASKED_SPARSITY, REACHED, TARGET
from prunesweep.orchestrator.results.filtering import spelled
from prunesweep.orchestrator.results.units import Scale

FORMS: Mapping[str, str] = {"target_sparsity": "sparsity {}", "total_epochs": "{} epochs", "budget": "budget {}"}
"""How a value is written where nothing else says what it is."""

SHOWN_DIFFERENCE = 0.0005
"""A sparsity reached is shown where it is off its target by half of the last digit shown, or more."""


def words(name: str) -> str:
    """A column's name as people write it."""
    return name.replace("_", " ")


def written(name: str, value: Any, budgets: Mapping[int, str]) -> str:
    """A setting's value as people write it, empty for none; `budgets` says how total epochs are written."""
    if value is None:
        return ""
    if name == REACHED:
        return f"{100 * float(value):.1f}%"
    if name in (TARGET, ASKED_SPARSITY):
        return f"{100 * float(value):.6g}%"
    if name == "budget":
        return f"{value:.4g}x"
    if name == "total_epochs":
        return budgets[value]
    return f"{value:g}" if isinstance(value, float) else spelled(value)


def in_unit(name: str, scale: Scale) -> str:
    """`test accuracy in percent`."""
    return " in ".join(filter(None, [words(name), scale.name]))
