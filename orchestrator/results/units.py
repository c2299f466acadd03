"""How the numbers of a column are written for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, log10
from statistics import median

from prunesweep.orchestrator.results.schemas import unit


@dataclass(frozen=True)
class Scale:
    """How a unit is written for people: multiplied by `factor`, rounded to `decimals`, called `name`.

    `after` stands right after each number. Numbers that are `powers` are written with a power of ten: `3.2e18`.
    """

    factor: float
    decimals: int
    name: str
    after: str = ""
    powers: bool = False

    def text(self, mean: float, std: float | None, n: int, planned: int | None = None) -> str:
        """`88.5 ± 0.4 (3)`, without the deviation when there is none; `(3/5)` where more than `n` seeds are planned.

        What is counted, such as FLOPs, hardly differs between seeds: a deviation is there where it shows in a digit.
        """
        hides = std is None or ((self.powers or bool(self.after)) and std * self.factor < self._half_digit(mean))
        deviation = "" if std is None or hides else f" ± {self.number(std)}"
        return f"{self.number(mean)}{deviation} ({n}{f'/{planned}' if planned and planned > n else ''})"

    def number(self, value: float, sign: str = "") -> str:
        """`88.5`; with `+` as the sign `+88.5`."""
        if self.powers and value:
            digits, power = f"{value * self.factor:{sign}.{self.decimals}e}".split("e")
            return f"{digits}e{int(power)}{self.after}"
        return f"{value * self.factor:{sign},.{0 if self.powers else self.decimals}f}{self.after}"

    def _half_digit(self, value: float) -> float:
        """Half of one in the last digit that is written of a value."""
        power = floor(log10(abs(value * self.factor))) if self.powers and value else 0
        return float(0.5 * 10.0 ** (power - self.decimals))

    def suited(self, deviations: Sequence[float]) -> Scale:
        """With one decimal for percent when the second is noise: from a deviation of 0.355 on, as physicists round."""
        noisy = self.name == "percent" and len(deviations) > 0 and median(deviations) * self.factor >= 0.355
        return replace(self, decimals=1) if noisy else self


_SCALES: Mapping[str, Scale] = {
    "fraction": Scale(100.0, 2, "percent"),
    "nats": Scale(1.0, 3, ""),
    "factor": Scale(1.0, 2, ""),
    "times": Scale(1.0, 2, "", "x"),
    "FLOPs": Scale(1.0, 1, "FLOPs", powers=True),
    "images/s": Scale(1.0, 0, ""),
    "seconds": Scale(1.0, 1, ""),
    "bytes": Scale(2.0**-20, 0, "MiB"),
    "count": Scale(1.0, 0, ""),
}


def scale(name: str) -> Scale:
    """How the column is written for people; three decimals where it has no unit."""
    return _SCALES.get(unit(name), Scale(1.0, 3, ""))
