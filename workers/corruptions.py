"""The names of corrupted test sets; what is done to images is in `workers.data.corrupted`. No torch."""

from __future__ import annotations

from prunesweep.workers.errors import UserError

CORRUPTIONS: dict[str, str] = {
    "gaussian_noise": "normal noise, the same in bright and in dark",
    "shot_noise": "Poisson noise, as of few photons",
    "impulse_noise": "values that are all or nothing",
    "speckle_noise": "normal noise in proportion to the brightness",
    "gaussian_blur": "a Gaussian kernel",
    "defocus_blur": "a disk, as of a lens out of focus",
    "brightness": "brighter",
    "contrast": "less contrast",
    "saturate": "colours paler or stronger",
    "pixelate": "fewer pixels",
    "jpeg_compression": "JPEG of low quality",
}
"""Corruptions of ImageNet-C and CIFAR-C (Hendrycks and Dietterich 2019) that need no other images or programs."""

SEVERITIES = range(1, 6)


def named(corruption: str, severity: int) -> str:
    """The name of a corrupted test set in specs and columns: `gaussian_noise_3`."""
    return f"{corruption}_{severity}"


def parsed(name: str) -> tuple[str, int]:
    """The corruption and the severity of a test set's name; raises `UserError` for no such name."""
    corruption, _, severity = name.rpartition("_")
    if corruption not in CORRUPTIONS or severity not in map(str, SEVERITIES):
        raise UserError(f'there is no test set "{name}"; one is called gaussian_noise_3, with a severity from 1 to 5')
    return corruption, int(severity)
