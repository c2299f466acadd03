"""Small picture files for tests, all different and the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"daisy": (200, 180, 60), "rose": (180, 30, 60), "tulip": (90, 60, 190)}


def picture(number: int, height: int, width: int, colour: Sequence[int] = (90, 120, 150)) -> Image.Image:
    """Of a colour that changes over the picture, with some noise."""
    random = np.random.RandomState(number)
    y, x = np.mgrid[:height, :width]
    waves = 50 * np.sin(x / random.uniform(5, 20)) + 50 * np.cos(y / random.uniform(5, 20))
    pixels = np.array(colour) + waves[:, :, None] + random.normal(0, 8, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_flowers(folder: Path, each: int, endings: Sequence[str] = ("jpg",), sizes: range = range(40, 90)) -> Path:
    """`folder`/<class>/<number>.<ending>: heights and widths out of `sizes`, every seventh picture grey."""
    for kind, (name, colour) in enumerate(COLOURS.items()):
        (folder / name).mkdir(parents=True)
        for index in range(each):
            number = 1000 * kind + index
            height, width = np.random.RandomState(number).choice(sizes, 2)
            mode = "L" if index % 7 == 0 else "RGB"
            file = folder / name / f"{index:03}.{endings[index % len(endings)]}"
            picture(number, height, width, colour).convert(mode).save(file)
    return folder
