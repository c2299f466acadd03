"""The allocation N:M: what the methods that take one beside the names of `workers.allocation` share."""

from __future__ import annotations

from collections.abc import Sequence

from prunesweep.workers.errors import SpecError, nearest
from prunesweep.workers.methods.phases import DIGITS
from prunesweep.workers.patterns import is_pattern, parsed

PATTERN = "; N:M keeps N of every M weights along the input dimension"
"""What the hyperparameter `allocation` means, in addition."""


def pattern_level(allocation: str, sparsity: float | None) -> float | None:
    """The target sparsity: a pattern has one of its own; raises `SpecError` for what looks like a pattern and is none.

    Patterns are reached as sparsities are: at sparsity s every group keeps m - round(s m) of its m weights.
    """
    if not is_pattern(allocation):
        return sparsity
    try:
        n, m = parsed(allocation)
    except ValueError as error:
        raise SpecError("allocation", str(error)) from error
    return round(1 - n / m, DIGITS)


def check_allocation(allocation: str, names: Sequence[str], sparsity: float) -> None:
    """Raise `SpecError` unless it is one of the names, or a pattern whose sparsity is the target."""
    own = pattern_level(allocation, sparsity)
    if own != sparsity:
        raise SpecError("sparsity", f"{allocation} is {own:g}, not {sparsity:g}")
    if not is_pattern(allocation):
        check_name(allocation, names, ", or a pattern such as 2:4")


def check_name(allocation: str, names: Sequence[str], more: str = "") -> None:
    """Raise `SpecError` unless it is one of the names."""
    if allocation not in names:
        raise SpecError(
            "allocation",
            f'"{allocation}" is not allowed: one of {", ".join(names)}{more}{nearest(allocation, names)}',
        )


def check_one_phase(allocation: str, phases: int, fraction: float | None = None) -> None:
    """Raise `SpecError` where a pattern is to be reached in several prunes that each have a level of their own."""
    if is_pattern(allocation) and (phases > 1 or fraction is not None):
        raise SpecError(
            "allocation", f"{allocation} is reached in one phase, by its own sparsity; leave phases and fractions out"
        )
