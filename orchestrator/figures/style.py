"""What series look like, on paper and in a browser: colours, markers and dashes that differ with and without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prunesweep.orchestrator.figures.charts import Chart, Series
from prunesweep.orchestrator.figures.hues import DENSE

COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    *("#882255", "#999933", "#332288"),
)
"""Okabe and Ito's without the yellow that does not show on white, and three of Tol's: colour-blind readers tell them
apart."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "d", "p")
"""matplotlib's names. Their number has no common factor with that of the colours, so that 110 series differ."""

DASHES = ("-", "--", "-.", ":")
"""Series of one colour differ in them; horizontal lines take them from the end."""

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
    """The look of each series by its name, in the order of the legend: levels, fronts, then all others.

    The colour and the marker are those of the hue, the dashes those of the variant within the hue.
    """
    levels = [name for name in chart.names_of("level") if name not in chart.names]
    made = [Look(name, GREY, DASHES[-1 - number % len(DASHES)]) for number, name in enumerate(levels)]
    made += [Look(name, GREY, "--") for name in chart.names_of("front")]
    shown = {series.name: series for series in chart.all_series() if series.name in chart.names}
    hues = [*dict.fromkeys([*chart.hues, *(hue for series in shown.values() if (hue := _hue(series)) != DENSE)])]
    variants: dict[str, list[str]] = {}
    for series in shown.values():
        variants.setdefault(_hue(series), [])
        if series.variant not in variants[_hue(series)]:
            variants[_hue(series)].append(series.variant)
    made += [_look(series, hues, variants[_hue(series)].index(series.variant)) for series in shown.values()]
    return {look.name: look for look in made}


def _look(series: Series, hues: Sequence[str], variant: int) -> Look:
    dash = DASHES[variant % len(DASHES)]
    if _hue(series) == DENSE:
        return Look(series.name, GREY, dash)
    number = hues.index(_hue(series))
    return Look(
        name=series.name,
        colour=colour(number),
        dash=dash if variant else DASHES[number // len(COLOURS) % len(DASHES)],
        marker=MARKERS[(number + variant // len(DASHES)) % len(MARKERS)],
        hatch=HATCHES[number % len(HATCHES)],
    )


def _hue(series: Series) -> str:
    return series.hue or series.name


def colour(number: int) -> str:
    """The colour of a hue by its place among the hues."""
    return COLOURS[number % len(COLOURS)]


def category_colours(hues: Sequence[str], chart: Chart) -> list[str]:
    """The colours of a heat map's categories: those of their hues, or by their place where they have none."""
    return [colour(chart.hues.index(hue) if hue in chart.hues else number) for number, hue in enumerate(hues)]
