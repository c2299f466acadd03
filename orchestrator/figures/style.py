"""What series look like: colours, markers and dashes that can be told apart, in colour and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
"""Okabe and Ito's, without the yellow that does not show on white: colour-blind readers tell them apart."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "d", "p")
"""As many as have no common factor with the colours: 77 lines differ. Without colour the first eleven do."""

DASHES = ("-", "--", "-.", ":")
"""A line has the next where its colour comes again; horizontal lines take them from the end."""

HATCHES = ("", "///", "...", "xxx", "\\\\\\")
"""Of bars, as dashes are of lines."""


@dataclass(frozen=True)
class Looks:
    """Which series look how, by their places in these lists, of all panels; and how wide a panel is, in inches."""

    names: Sequence[str]
    levels: Sequence[str]
    width: float

    def line(self, name: str) -> dict[str, Any]:
        """Colour, marker and dashes."""
        number = self.names.index(name)
        return {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": DASHES[number // len(COLOURS) % len(DASHES)],
        }

    def bar(self, name: str) -> dict[str, Any]:
        """Colour and hatch."""
        number = self.names.index(name)
        return {"color": COLOURS[number % len(COLOURS)], "hatch": HATCHES[number % len(HATCHES)]}

    def level(self, name: str) -> dict[str, Any]:
        """Grey, with dashes."""
        return {"color": "dimgray", "linestyle": DASHES[-1 - self.levels.index(name) % len(DASHES)]}
