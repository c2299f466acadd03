"""Networks in which a layer kept no weight: what they score says little about the method that pruned them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

COLLAPSED = "collapsed_layers"

MARK = "‡"
"""Stands behind a mean of which such a network is part."""


def collapsed_seeds(frame: pd.DataFrame, names: Sequence[str]) -> list[int]:
    """Of each group of trials that agree in these settings, in the frame's order, how many lost a layer."""
    groups = frame.groupby(list(names), dropna=False, sort=False)
    if COLLAPSED not in frame:
        return [0] * groups.ngroups
    lost = frame[COLLAPSED].astype(float) > 0
    return [int(count) for count in lost.groupby([frame[name] for name in names], dropna=False, sort=False).sum()]
