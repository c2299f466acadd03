"""Image files below a folder, with their classes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class ImageFiles:
    """Image files below a folder, with their classes (int64 [N])."""

    def __init__(self, folder: Path, names: list[str], targets: list[int] | Tensor) -> None:
        self.folder = folder
        # As text, ImageNet's names would take four times the memory in every trial.
        self.names: npt.NDArray[np.bytes_] = np.array([os.fsencode(name) for name in names], dtype=np.bytes_)
        self.targets = torch.as_tensor(targets, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.targets)

    def path(self, index: int) -> str:
        """The file of an image."""
        return os.path.join(self.folder, os.fsdecode(self.names[index]))  # noqa: PTH118 (a Path costs as much as a crop)

    def paths(self) -> Iterator[str]:
        """All files, in order."""
        return (self.path(index) for index in range(len(self)))

    def subset(self, indices: Tensor) -> ImageFiles:
        """The images with these numbers."""
        chosen = ImageFiles(self.folder, [], self.targets[indices])
        chosen.names = self.names[indices.numpy()]
        return chosen
