"""The space of a search: a range or a list of values for each setting, and points of it out of the unit cube."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import exp, log
from typing import Any

from prunesweep.workers.spec import Value, freeze
from prunesweep.workers.typed import typed

Point = tuple[tuple[str, Value], ...]
"""A value for each setting of a space, in the order of their names."""

MOST_VALUES = 10_000
"""A range with more whole numbers is drawn from as if it had no end of them; nobody lists so many."""

DIGITS = 4
"""Significant digits of a drawn number: nobody needs more, and tables stay readable."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; `scale` is `uniform` or `log`. `whole` ones are integers.

    With `steps` only so many, equally far apart on the scale.
    """

    name: str
    scale: str
    low: float
    high: float
    whole: bool = False
    steps: int | None = None

    @property
    def values(self) -> tuple[Value, ...] | None:
        """All of them, None where they cannot be listed."""
        if self.steps is not None:
            parts = max(self.steps - 1, 1)
            return tuple(dict.fromkeys(self._value(step / parts) for step in range(self.steps)))
        if self.whole and self.scale == "uniform" and self.high - self.low < MOST_VALUES:
            return tuple(range(int(self.low), int(self.high) + 1))
        return None

    def at(self, share: float) -> Value:
        """The value at this share of the range, in [0, 1)."""
        values = self.values
        return self._value(share) if values is None else values[min(int(share * len(values)), len(values) - 1)]

    def _value(self, share: float) -> Value:
        if self.scale == "log":
            number = exp(log(self.low) + share * (log(self.high) - log(self.low)))
        else:
            number = self.low + share * (self.high - self.low)
        return self.rounded(number)

    def share(self, value: Any) -> float:
        """Where in the range a value lies, in [0, 1]: `at` of it is the value."""
        if (values := self.values) is not None:
            return (values.index(value) + 0.5) / len(values)
        if self.scale == "log":
            return (log(value) - log(self.low)) / (log(self.high) - log(self.low))
        return float((value - self.low) / (self.high - self.low))

    def rounded(self, number: float) -> int | float:
        """A number of the range as a setting has it."""
        if self.whole:
            return min(max(round(number), int(self.low)), int(self.high))
        return min(max(float(f"{number:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Values:
    """A list of values, in the order of the file."""

    name: str
    values: tuple[Value, ...]

    def at(self, share: float) -> Value:
        """The value at this share of the list, in [0, 1)."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


Dimension = Range | Values
Space = tuple[Dimension, ...]
"""By name."""


def point(space: Space, shares: Sequence[float]) -> Point:
    """The point at these coordinates of the unit cube."""
    return tuple((dimension.name, dimension.at(share)) for dimension, share in zip(space, shares, strict=True))


def grid_points(space: Space) -> list[Point]:
    """All points, the last setting fastest; of a space whose values can be listed."""
    lists = [dimension.values or () for dimension in space]
    return [tuple(zip((dimension.name for dimension in space), values, strict=True)) for values in product(*lists)]


def size(space: Space) -> int | None:
    """How many points there are, None where they cannot be counted."""
    count = 1
    for dimension in space:
        if dimension.values is None:
            return None
        count *= len(dimension.values)
    return count


def decode_dimension(data: Mapping[str, Any]) -> Dimension:
    """The dimension that `encode` made this from; raises `TypeError` for anything else."""
    if "values" in data:
        return Values(str(data["name"]), freeze(data["values"]))
    dimension = typed(Range, data)
    known = dimension.scale in ("uniform", "log") and 0 < (dimension.steps or 1) <= MOST_VALUES
    if not known or not dimension.low <= dimension.high or (dimension.scale == "log" and dimension.low <= 0):
        raise TypeError(f"its range of {dimension.name!r:.40} is none")
    return dimension
