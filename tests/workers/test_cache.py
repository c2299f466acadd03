"""Decoded images in a file that is mapped."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from prunesweep.workers.data.cache import FOLDER, decoded


@pytest.mark.parametrize("system", ["linux", "macOS"])
def test_decoded_images_are_filled_once_and_mapped(system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """macOS has no call to take the space of a file: zeros are written in its place, and not over the header."""
    if system == "macOS":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    filled: list[int] = []

    def fill(pixels: np.ndarray) -> None:
        filled.append(1)
        pixels[:] = np.arange(3 * 2**20, dtype=np.uint8).reshape(pixels.shape)

    arrays = [decoded(tmp_path, "digits", (3, 1024, 1024), fill) for _ in range(2)]
    assert filled == [1]
    assert np.array_equal(arrays[0].ravel(), np.arange(3 * 2**20, dtype=np.uint8))
    assert np.array_equal(arrays[0], arrays[1])
    assert [place.name for place in sorted((tmp_path / FOLDER).iterdir())] == ["digits.lock", "digits.npy"]
