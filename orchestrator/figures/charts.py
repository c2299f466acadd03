"""A figure as a value: what is drawn where, for whoever draws it, on paper or in a browser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A side of a panel: its label with the unit, and how values are placed along it.

    `scale` is `linear`, `log`, `density` (values are densities on a logarithmic axis that falls, so that sparsity
    grows), `logit` (values are percent; the logarithm of what lacks to 100), or `category` (values are positions 0, 1,
    ... of `labels`). `ticks` are the places to label, and `labels` what to write there, as many; without ticks, whoever
    draws it chooses them. Categories always have both. `limits` are the ends, where they are not the data's;
    those of densities are always given. Values that are `whole` numbers have whole numbers as labels.
    """

    label: str
    scale: str = "linear"
    ticks: Sequence[float] = ()
    labels: Sequence[str] = ()
    limits: tuple[float, float] | None = None
    whole: bool = False


@dataclass(frozen=True)
class Series:
    """Points that belong together, each a mean over `n` trials, with its sample deviation, None for one trial.

    Values are in the unit that the axis names. On an axis of categories `x` is the category's number. `kind` is `line`
    (with a band of one deviation), `points`, `front` (joined as the Pareto front, without markers), `bars`, or `level`:
    one `y` without an `x`, a line across the panel.

    `hue` is what the colour stands for, one of the chart's `hues`; without one the name stands for itself. `variant` is
    what tells series of one hue apart, such as a budget: they differ in dashes. A control may lie outside the axis.
    `collapsed` says of each mean in how many seeds a layer kept no weight; it may be empty where that is none.
    """

    name: str
    kind: str
    x: Sequence[float]
    y: Sequence[float]
    deviation: Sequence[float | None]
    n: Sequence[int]
    hue: str = ""
    variant: str = ""
    is_control: bool = False
    collapsed: Sequence[int] = ()

    @property
    def collapses(self) -> list[tuple[float, float]]:
        """The points that get a mark, since a network is part of them of which a layer kept no weight."""
        return [(x, y) for x, y, count in zip(self.x, self.y, self.collapsed, strict=False) if count]


@dataclass(frozen=True)
class Panel:
    """Axes with series; `marks` are places on the x axis that get a thin vertical line, and `marked` what they are.

    `below` is a lower panel under this one, on the same x axis and with series of the same names. In one that
    `is_turned` the x axis, of categories, runs from top to bottom, and y from left to right.
    """

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    marks: Sequence[float] = ()
    marked: str = ""
    below: Panel | None = None
    is_turned: bool = False


@dataclass(frozen=True)
class HeatMap:
    """A grid of cells, rows from top to bottom; its axes are of categories.

    `values` are the cells' colours as numbers of `categories`, None for no colour; a text may have several lines.
    `hues` are what the colours of the categories stand for, in the same order.
    """

    title: str
    x: Axis
    y: Axis
    values: Sequence[Sequence[int | None]]
    texts: Sequence[Sequence[str]]
    categories: Sequence[str]
    hues: Sequence[str] = ()


@dataclass(frozen=True)
class Chart:
    """A figure: a series has the same colour and marker in all panels, and the panels share one legend.

    `hues` are all that has a colour in any figure of the sweep, so that it has the same one in each. `notes` are
    sentences for below the figure, or for the terminal.
    """

    title: str
    panels: Sequence[Panel | HeatMap]
    notes: Sequence[str] = ()
    hues: Sequence[str] = ()

    def names_of(self, kind: str) -> list[str]:
        """The series of a kind in all panels, each once."""
        return list(dict.fromkeys(series.name for series in self.all_series() if series.kind == kind))

    @property
    def names(self) -> list[str]:
        """The series that need a look of their own, in the order of the panels: all but levels and fronts."""
        return list(dict.fromkeys(s.name for s in self.all_series() if s.kind not in ("level", "front")))

    def all_series(self) -> Iterator[Series]:
        """The series of all panels; one that is in several panels comes as often."""
        for panel in self.panels:
            if isinstance(panel, Panel):
                yield from panel.series
