"""What a figure's titles, headings and names of series say, in the words of the tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from prunesweep.orchestrator.results.aggregation import SUBJECT, Cell, Key
from prunesweep.orchestrator.results.collapse import MARK
from prunesweep.orchestrator.results.units import Scale
from prunesweep.orchestrator.tables.grid import chosen_by, label
from prunesweep.orchestrator.tables.means import Table
from prunesweep.orchestrator.tables.wording import FORMS, words

COLLAPSE = f"{MARK} a layer kept no weight"
"""Above a panel."""


def series_name(table: Table, cell: Cell, names: Iterable[str]) -> str:
    """`imp, FT, phases 2, 20+1 epochs`: the settings `names` of a cell, the budget last."""
    ordered = sorted((name for name in names if name not in SUBJECT), key=lambda name: name == "total_epochs")
    given = [name for name in ordered if cell.settings[name] is not None]
    return ", ".join(setting_text(table, name, cell.settings[name]) for name in given) or "none"


def setting_text(table: Table, name: str, value: Any) -> str:
    """A setting within a name: `FT`, `phases 2`, `20+1 epochs`."""
    return value if isinstance(value, str) else FORMS.get(name, f"{words(name)} {{}}").format(label(table, name, value))


def chart_title(table: Table) -> str:
    """The table's title, and below it how settings were chosen."""
    return table.title.removesuffix(" (seeds)") + how_chosen(table)


def title_about(trials: pd.DataFrame, what: str) -> str:
    """`digits, resnet8: density of layers in percent, mean ± standard deviation`.

    A dataset or model of which the trials have several is left out, because the panels name it.
    """
    fixed = ", ".join(str(trials[name].iloc[0]) for name in SUBJECT if trials[name].nunique() == 1)
    return f"{fixed}{': ' if fixed else ''}{what}, mean ± standard deviation"


def how_chosen(table: Table) -> str:
    """A line for below a title that says by what settings were chosen; empty where they were not."""
    return f"\n{chosen_by(table)}" if table.best_by else ""


def heading(key: Key) -> str:
    """A panel's title."""
    return ", ".join(map(str, key))


def percent(fraction: float) -> str:
    """`90%`."""
    return f"{100 * fraction:.6g}%"


def in_unit(what: str, scale: Scale) -> str:
    """`test accuracy in percent`."""
    return " in ".join(filter(None, [what, scale.name]))
