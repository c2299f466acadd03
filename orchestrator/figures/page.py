"""How a figure is printed: its width on paper, a title, the ends of its axis; as the options of `plot` say it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite

from prunesweep.workers.errors import UserError

INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}
"""By unit; points are TeX's, in which a document's column width is printed."""

NARROWEST, WIDEST = 2.0, 20.0


@dataclass(frozen=True)
class Page:
    """A figure's width in inches, a title above it or none, and the ends for the axis of the metric."""

    width: float = 5.5
    title: str = ""
    limits: tuple[float, float] | None = None


def read_width(text: str) -> float:
    """Inches from `3.25in`, `8.2cm`, `82mm` or `234pt`; raises `UserError`.

    >>> read_width("5.5in")
    5.5
    """
    match = re.fullmatch(r"([\d.]+)\s*([a-z]+)", text.strip().lower())
    if not match or match[2] not in INCHES or not re.fullmatch(r"\d+\.?\d*|\.\d+", match[1]):
        raise UserError(
            f'--width: "{text}" is not a width: 3.25in is a column of a paper, 5.5in its text; or cm, mm, pt'
        )
    width = float(match[1]) * INCHES[match[2]]
    if not NARROWEST <= width <= WIDEST:
        raise UserError(f'--width: "{text}" is not between {NARROWEST:g} and {WIDEST:g} inches')
    return width


def read_limits(text: str) -> tuple[float, float]:
    """The ends of an axis from `90:98`, in the unit that the axis names; raises `UserError`."""
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        low = high = 0.0
    if not (isfinite(low) and isfinite(high) and low < high):
        raise UserError(f'--ylim: "{text}" is not LOW:HIGH, such as 90:98, in the unit that the axis names')
    return low, high
