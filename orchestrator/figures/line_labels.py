"""Names at the right ends of the lines of a panel, where they fit, in place of a legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from prunesweep.orchestrator.figures.charts import Chart, Panel, Series
from prunesweep.orchestrator.figures.panels import CHARACTER, Looks

HEIGHT = 0.115
"""Of a label in inches."""

MOST_SHIFT = 0.34
"""A label further from its line's end, in inches, would not be seen to belong to it."""

WIDEST = 0.42
"""Labels take at most this share of a panel's width."""


LEADER: Mapping[str, Any] = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}
"""The line from a label, its left side, to the end that it belongs to."""


@dataclass(frozen=True)
class LineLabel:
    """A text for one or several series that end at the same place; `end` and `place` are shares of the axes' height."""

    text: str
    colour: str
    end: float
    place: float


def short_names(chart: Chart) -> dict[str, str]:
    """The names of series without the parts that all of them have: `FT` for `imp, FT` where there is only IMP."""
    names = [s.name for s in chart.all_series() if s.kind in ("line", "points", "bars")]
    parts = [name.split(", ") for name in names]
    shared = {part for part in parts[0] if all(part in other for other in parts)} if len(set(names)) > 1 else set()
    return {name: ", ".join(part for part in name.split(", ") if part not in shared) or name for name in names}


def fit_labels(
    axes: Axes, panel: Panel, names: dict[str, str], looks: Looks, size: tuple[float, float]
) -> Sequence[LineLabel]:
    """The labels of a panel `size` inches wide and high; empty where they do not fit."""
    lines = [series for series in panel.series if series.kind in ("line", "level")]
    ends = {series.x[-1] for series in lines if series.kind == "line" and series.x}
    if len(ends) != 1 or len(lines) < len(panel.series) or panel.below is not None or panel.is_turned:
        return []
    groups: dict[float, list[Series]] = {}
    for series in lines:
        groups.setdefault(round(series.y[-1], 9), []).append(series)
    axes.get_ylim()  # places the axis, which matplotlib does only when it is asked
    height = 0.75 * size[1]
    places = []
    for y, group in groups.items():
        end = float(axes.transAxes.inverted().transform(axes.transData.transform((next(iter(ends)), y)))[1])
        text = " = ".join(names.get(series.name, series.name.split(",")[0]) for series in group)
        places.append((min(max(end, 0.0), 1.0), text, looks[group[0].name].colour))
    if max(len(text) for _, text, _ in places) * CHARACTER > WIDEST * size[0]:
        return []
    places.sort()
    gap = HEIGHT / height
    moved = spread([min(end, 1 - gap * k) for k, (end, _, _) in enumerate(reversed(places))][::-1], gap)
    labels = [LineLabel(text, colour, end, place) for (end, text, colour), place in zip(places, moved, strict=True)]
    return labels if all(abs(label.end - label.place) * height <= MOST_SHIFT for label in labels) else []


def draw_labels(axes: Axes, labels: Sequence[LineLabel]) -> None:
    """At the right of the axes, each with a thin line to the end that it belongs to."""
    for label in labels:
        axes.annotate(
            label.text,
            (1.0, label.end),
            (1.05, label.place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=label.colour,
            fontsize="small",
            va="center",
            ha="left",
            annotation_clip=False,
            arrowprops={"color": label.colour, **LEADER},
        )


def spread(ends: Sequence[float], gap: float) -> list[float]:
    """Sorted places, moved apart as little as it takes for neighbours to be a gap from each other.

    >>> spread([0.0, 0.5, 0.5], 0.1)
    [0.0, 0.45, 0.55]
    """
    blocks: list[list[float]] = []
    for end in ends:
        blocks.append([end, 1])
        while len(blocks) > 1 and _overlap(blocks[-2], blocks[-1], gap):
            (first, n), (second, m) = blocks.pop(-2), blocks.pop()
            blocks.append([(first * n + second * m) / (n + m), n + m])
    return [round(middle + gap * (k - (n - 1) / 2), 9) for middle, n in blocks for k in range(int(n))]


def _overlap(lower: Sequence[float], upper: Sequence[float], gap: float) -> bool:
    return upper[0] - lower[0] < gap * (lower[1] + upper[1]) / 2
