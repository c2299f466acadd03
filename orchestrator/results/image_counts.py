"""How many images the test set has, and what one of them is worth; from the accuracies alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

MOST_IMAGES = 60_000
"""ImageNet's validation set has 50,000 images."""

LEAST_ACCURACIES = 8
"""Fewer distinct accuracies could be fractions of a smaller number by chance."""

CLOSE = 1e-6
"""Of a whole number of images: accuracies are stored as doubles."""


@dataclass(frozen=True)
class ImageCount:
    """The test set of a dataset: its images, and how many percentage points one of them is."""

    dataset: str
    images: int

    @property
    def worth(self) -> float:
        """In percentage points."""
        return 100 / self.images


def image_counts(trials: pd.DataFrame) -> Iterator[ImageCount]:
    """Of each dataset, where the accuracies of the trials tell."""
    if "test_accuracy" not in trials:
        return
    for dataset, same in trials.groupby("dataset", sort=False):
        images = images_of(same["test_accuracy"])
        if images is not None:
            yield ImageCount(str(dataset), images)


def images_of(accuracies: pd.Series[float]) -> int | None:
    """The smallest number of which all accuracies are whole parts; None where that says nothing.

    An accuracy is correct images by all images, so the number of images is that number or a multiple of it: with many
    accuracies it is that number itself.

    >>> images_of(pd.Series([k / 397 for k in (139, 250, 277, 301, 333, 360, 388, 390)]))
    397
    """
    distinct = np.unique(accuracies.dropna().to_numpy(dtype=float))
    if len(distinct) < LEAST_ACCURACIES:
        return None
    candidates = np.arange(2, MOST_IMAGES + 1)
    for accuracy in distinct:
        hits = accuracy * candidates
        candidates = candidates[np.abs(hits - np.round(hits)) < CLOSE * candidates]
        if not len(candidates):
            return None
    return int(candidates[0])
