"""What series look like, on paper and in a browser: colours, markers and dashes that differ with and without colour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prunesweep.orchestrator.figures.charts import Chart

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
"""Okabe and Ito's, without the yellow that does not show on white: colour-blind readers tell them apart."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "d", "p")
"""matplotlib's names. Their number has no common factor with that of the colours, so that 77 lines differ."""

DASHES = ("-", "--", "-.", ":")
"""A line has the next one where its colour comes again; horizontal lines take them from the end."""

HATCHES = ("", "///", "...", "xxx", "\\\\\\")
"""Of bars, which differ by them where lines differ by dashes."""

GREY = "#696969"
"""Of dense networks, fronts and marks."""

MOST_BANDS = 8
"""More bands in a panel hide each other: deviations are bars then."""

TINT = 0.35
"""How much of a colour is left where text stands on it."""


@dataclass(frozen=True)
class Look:
    """How a series is drawn, in its panels and in the legend; `marker` is empty for a line without markers."""

    name: str
    colour: str
    dash: str = "-"
    marker: str = ""
    hatch: str = ""


def looks(chart: Chart) -> Mapping[str, Look]:
    """The look of each series by its name, in the order of the legend: levels, fronts, then all others."""
    levels = [name for name in chart.names_of("level") if name not in chart.names]
    made = [Look(name, GREY, DASHES[-1 - number % len(DASHES)]) for number, name in enumerate(levels)]
    made += [Look(name, GREY, "--") for name in chart.names_of("front")]
    made += [_look(name, number) for number, name in enumerate(chart.names)]
    return {look.name: look for look in made}


def _look(name: str, number: int) -> Look:
    return Look(
        name=name,
        colour=colour(number),
        dash=DASHES[number // len(COLOURS) % len(DASHES)],
        marker=MARKERS[number % len(MARKERS)],
        hatch=HATCHES[number % len(HATCHES)],
    )


def colour(number: int) -> str:
    """The colour of a series or category by its place in the chart."""
    return COLOURS[number % len(COLOURS)]
