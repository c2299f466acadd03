"""Corrupted images: functions of a corruption, its severity and the number of the image in the test set, and no more.

The corruptions, and their strengths at severities 1 to 5, are those of ImageNet-C and CIFAR-C (Hendrycks and Dietterich
2019, https://github.com/hendrycks/robustness, `create_c`). The images are not theirs: noise is drawn for each image by
its number, and no image is kept as JPEG but for the corruption of that name. Images of up to `SMALL` pixels get the
strengths of CIFAR-C.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from prunesweep.workers.corruptions import parsed
from prunesweep.workers.errors import UserError
from prunesweep.workers.seeding import derive

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float64]
Draws = np.random.RandomState
"""NumPy promises that its stream never changes."""

SMALL = 64

TRUNCATE = 4
"""A Gaussian kernel reaches so many deviations, as in scikit-image."""


class Strengths(NamedTuple):
    """What a corruption's parameter is at severities 1 to 5, for large images and for small ones."""

    large: tuple[Any, ...]
    small: tuple[Any, ...]


STRENGTHS = {
    "gaussian_noise": Strengths((0.08, 0.12, 0.18, 0.26, 0.38), (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": Strengths((60, 25, 12, 5, 3), (500, 250, 100, 75, 50)),
    "impulse_noise": Strengths((0.03, 0.06, 0.09, 0.17, 0.27), (0.01, 0.02, 0.03, 0.05, 0.07)),
    "speckle_noise": Strengths((0.15, 0.2, 0.35, 0.45, 0.6), (0.06, 0.1, 0.12, 0.16, 0.2)),
    "gaussian_blur": Strengths((1, 2, 3, 4, 6), (0.4, 0.6, 0.7, 0.8, 1)),
    "defocus_blur": Strengths(
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)), ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
    ),
    "brightness": Strengths((0.1, 0.2, 0.3, 0.4, 0.5), (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": Strengths((0.4, 0.3, 0.2, 0.1, 0.05), (0.75, 0.5, 0.4, 0.3, 0.15)),
    "saturate": Strengths(
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)), ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))
    ),
    "pixelate": Strengths((0.6, 0.5, 0.4, 0.3, 0.25), (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": Strengths((25, 18, 15, 10, 7), (80, 65, 58, 50, 40)),
}


def corrupted(image: Pixels, test_set: str, number: int, brightest: int = 255) -> Pixels:
    """The image [H, W, C], with values up to `brightest`, as it is in a test set; `number` is its place there."""
    corruption, severity = parsed(test_set)
    scale = 255 // brightest
    strengths = STRENGTHS[corruption]
    strength = (strengths.small if min(image.shape[:2]) <= SMALL else strengths.large)[severity - 1]
    draws = Draws(derive("corruption", corruption, severity, number) % 2**32)
    values = CHANGES[corruption](image.astype(np.float64) * scale / 255, strength, draws)
    changed = (values.clip(0, 1) * 255).astype(np.uint8)  # truncated, as in the published sets
    return (
        changed if scale == 1 else np.minimum((changed.astype(int) + scale // 2) // scale, brightest).astype(np.uint8)
    )


def require_corruptible(name: str, channels: int, test_set: str) -> None:
    """Raise `UserError` where a corruption has no meaning for images with so many channels."""
    corruption, _ = parsed(test_set)
    if channels not in (1, 3) or (corruption == "saturate" and channels == 1):
        raise UserError(
            f"test_sets: {corruption} is for {'' if corruption == 'saturate' else 'grey or '}RGB images, and those of "
            f"{name} have {channels} channels; leave it out"
        )


def _gaussian_noise(values: Values, deviation: float, draws: Draws) -> Values:
    return values + draws.normal(size=values.shape, scale=deviation)


def _shot_noise(values: Values, photons: float, draws: Draws) -> Values:
    counts: Values = draws.poisson(values * photons) / photons
    return counts


def _impulse_noise(values: Values, share: float, draws: Draws) -> Values:
    drawn = draws.random_sample(values.shape)
    return np.where(drawn < share / 2, 0.0, np.where(drawn < share, 1.0, values))


def _speckle_noise(values: Values, deviation: float, draws: Draws) -> Values:
    return values + values * draws.normal(size=values.shape, scale=deviation)


def _gaussian_blur(values: Values, deviation: float, draws: Draws) -> Values:
    kernel = _gaussian(deviation, int(TRUNCATE * deviation + 0.5))
    return _filtered(_filtered(values, kernel[:, None], "edge"), kernel[None], "edge")


def _defocus_blur(values: Values, lens: tuple[float, float], draws: Draws) -> Values:
    return _filtered(values, _disk(*lens), "reflect")


def _brightness(values: Values, added: float, draws: Draws) -> Values:
    """The value of hue, saturation and value; the others stay."""
    value: Values = values.max(2, keepdims=True)
    brighter: Values = (value + added).clip(0, 1)
    return np.where(value > 0, values * (brighter / np.maximum(value, 1e-12)), brighter)


def _contrast(values: Values, kept: float, draws: Draws) -> Values:
    means: Values = values.mean((0, 1), keepdims=True)
    return (values - means) * kept + means


def _saturate(values: Values, change: tuple[float, float], draws: Draws) -> Values:
    """The saturation of hue, saturation and value; what is grey has the hue of red."""
    value, least = values.max(2, keepdims=True), values.min(2, keepdims=True)
    saturation = (value - least) / np.maximum(value, 1e-12)
    changed = (saturation * change[0] + change[1]).clip(0, 1)
    greys = np.concatenate([value, *[value * (1 - changed)] * 2], 2)
    return np.where(saturation > 0, value - (value - values) * (changed / np.maximum(saturation, 1e-12)), greys)


def _pixelate(values: Values, share: float, draws: Draws) -> Values:
    height, width, _ = values.shape
    fewer = max(1, int(width * share)), max(1, int(height * share))
    small = _picture(values).resize(fewer, Image.Resampling.BOX)
    return _values(small.resize((width, height), Image.Resampling.BOX), values)


def _jpeg_compression(values: Values, quality: int, draws: Draws) -> Values:
    written = BytesIO()
    _picture(values).save(written, "JPEG", quality=quality)
    with Image.open(written) as picture:
        return _values(picture, values)


CHANGES: dict[str, Callable[[Values, Any, Draws], Values]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "speckle_noise": _speckle_noise,
    "gaussian_blur": _gaussian_blur,
    "defocus_blur": _defocus_blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "saturate": _saturate,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}
"""Of values in [0, 1] [H, W, C], a strength and a source of random numbers."""


def _picture(values: Values) -> Image.Image:
    pixels = np.round(values * 255).astype(np.uint8)
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])


def _values(picture: Image.Image, like: Values) -> Values:
    # A hair above, for these pixels are whole already and will be truncated.
    return (np.asarray(picture, np.float64).reshape(like.shape) + 1e-6) / 255


def _filtered(values: Values, kernel: Values, beyond: Any) -> Values:
    """Correlated with a kernel of odd sides; what is `beyond` the border is as `numpy.pad` calls it."""
    down, right = (side // 2 for side in kernel.shape)
    height, width, _ = values.shape
    padded = np.pad(values, ((down, down), (right, right), (0, 0)), beyond)
    rows, columns = kernel.nonzero()
    filtered = np.zeros_like(values)
    for row, column in zip(rows, columns, strict=True):
        filtered += kernel[row, column] * padded[row : row + height, column : column + width]
    return filtered


def _gaussian(deviation: float, reach: int) -> Values:
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    shares: Values = weights / weights.sum()
    return shares


@cache
def _disk(radius: float, deviation: float) -> Values:
    """A disk with its edge smoothed by a Gaussian kernel of 3x3, or 5x5 for a radius above 8."""
    reach = max(8, int(radius))
    side = np.arange(-reach, reach + 1)
    disk = (side[:, None] ** 2 + side**2 <= radius**2).astype(np.float64)[:, :, None]
    smooth = _gaussian(deviation, 1 if radius <= 8 else 2)
    kernel = _filtered(disk / disk.sum(), smooth[:, None] * smooth, "reflect")[:, :, 0]
    used = int(np.abs(side)[(kernel > 0).any(0)].max())
    return kernel[reach - used : reach + used + 1, reach - used : reach + used + 1]
