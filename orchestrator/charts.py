"""A figure as a value: what is drawn where, for whoever draws it, on paper or in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """What lies along a side of a panel: its label with the unit, and how values are placed.

    `scale` is `linear`, `log`, `density` (1 - sparsity on a logarithmic axis that grows in sparsity) or `category`.
    `ticks` are the places to label, where they are known, and `labels` what to write there.
    """

    label: str
    scale: str = "linear"
    ticks: Sequence[float] = ()
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Series:
    """Points that belong together, each a mean over `n` seeds, with its sample deviation, None for one seed.

    On an axis of categories `x` is the category's number. `kind` is `line` (with a band of one deviation), `points`,
    `front` (joined as the Pareto front), `bars`, or `level`: one point, a horizontal line across the panel.
    """

    name: str
    kind: str
    x: Sequence[float]
    y: Sequence[float]
    deviation: Sequence[float | None]
    n: Sequence[int]


@dataclass(frozen=True)
class Panel:
    """Axes with series; `marks` are places on the x axis that get a thin vertical line, such as prunes."""

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    marks: Sequence[float] = ()


@dataclass(frozen=True)
class HeatMap:
    """A grid of cells, `rows` from top to bottom: a value for the colour and a text; None where there is none.

    Colours are of categories where `categories` names them (a value is then the category's number), else of numbers.
    """

    title: str
    x: Axis
    y: Axis
    values: Sequence[Sequence[float | None]]
    texts: Sequence[Sequence[str]]
    categories: Sequence[str] = ()


@dataclass(frozen=True)
class Chart:
    """A figure: a series has the same colour and marker in all panels, and the panels share one legend."""

    title: str
    panels: Sequence[Panel | HeatMap]
    notes: Sequence[str] = ()
