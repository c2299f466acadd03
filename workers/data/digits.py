"""scikit-learn's handwritten digits: small enough to answer a sweep on a laptop in minutes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from prunesweep.workers.data.memory import InMemory, Split, channel_statistics, split_validation

TEST_IMAGES = 397


def digits(
    folder: str, *, validation_fraction: float = 0.1, validation_seed: int = 0, stratify: bool = False
) -> InMemory:
    """1,797 images of 8x8 with values 0 to 16; `folder` is not used, scikit-learn brings the images.

    The last 397 are the test set. Neighbours in the file come from the same hand, so a random split would test on
    writers seen in training.
    """
    table = torch.from_numpy(np.loadtxt(_file(), delimiter=",", dtype=np.uint8))
    images, classes = table[:, :64].reshape(-1, 1, 8, 8), table[:, 64].long()
    train, validation = split_validation(
        *(images[:-TEST_IMAGES], classes[:-TEST_IMAGES]),
        fraction=validation_fraction,
        seed=validation_seed,
        stratify=stratify,
    )
    test = Split(images[-TEST_IMAGES:], classes[-TEST_IMAGES:])
    mean, std = channel_statistics(train.images)
    return InMemory("digits", train, validation, test, 10, mean, std, padding=1, brightest=16)


def _file() -> Path:
    """scikit-learn's file, found without importing scikit-learn: that would cost every worker process a second."""
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
