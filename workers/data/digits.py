"""scikit-learn's handwritten digits: small enough to answer a sweep on a laptop in minutes."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

from workers.data.base import Dataset, Split, channel_statistics, split_validation

TEST_IMAGES = 397


def digits(folder: str) -> Dataset:
    """1,797 images of 8x8 with values 0 to 16; `folder` is not used, scikit-learn brings the images.

    The last 397 are the test set. Neighbours in the file come from the same hand, so a random split would test on
    writers seen in training.
    """
    images, targets = load_digits(return_X_y=True)
    every = torch.from_numpy(images).to(torch.uint8).view(-1, 1, 8, 8)
    classes = torch.from_numpy(targets).long()
    train, validation = split_validation(every[:-TEST_IMAGES], classes[:-TEST_IMAGES])
    test = Split(every[-TEST_IMAGES:], classes[-TEST_IMAGES:])
    mean, std = channel_statistics(train.images)
    return Dataset("digits", train, validation, test, 10, mean, std, padding=1)
