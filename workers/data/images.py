"""Image files to pixels: decoding, and the crops that ImageNet's recipe takes. uint8 [3, H, W] throughout."""

from __future__ import annotations

import re
from math import exp, log, sqrt
from random import Random
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from prunesweep.workers.errors import UserError

try:
    from torchcodec.decoders import decode_jpeg  # type: ignore[attr-defined]
except (ImportError, OSError, RuntimeError):  # it is built for some systems and versions of torch only
    decode_jpeg = None  # type: ignore[assignment]

JPEG = b"\xff\xd8"

SCALE = (0.08, 1.0)
"""Share of an image's area that a random crop has (Szegedy et al. 2015)."""

RATIO = (3 / 4, 4 / 3)
"""Width over height of a random crop."""

ATTEMPTS = 10

LEVELS = 100
"""So many of 256 levels must be left when the range of an image's kind is made 0 to 255."""

DARK = 64
"""Pillow keeps the upper 8 of 16 bits a colour. Images of 10 to 14 bits have no value from here on."""

DAMAGED = (OSError, RuntimeError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What the decoders raise on files that are no whole images."""


_PLACE = r"^\w+, \S+:\d+, "
"""Where in torchcodec's source the message comes from."""


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def read(path: str) -> Tensor:
    """The image in three colours: grey is repeated, a palette looked up, transparency dropped.

    Of a file with several images it is the first. Grey of more than 8 bits is scaled as `scaled` says. Orientation
    marks of cameras are ignored, as torchvision's `ImageFolder` does. Raises `UserError` when the file cannot be read
    whole, or would lose its levels.
    """
    try:
        content = np.fromfile(path, np.uint8)
        # By its first bytes: ImageNet has a PNG that is called JPEG.
        if decode_jpeg is not None and content[:2].tobytes() == JPEG:
            # The same pixels as PIL's, in two thirds of the time.
            image = decode_jpeg(torch.from_numpy(content))
            assert isinstance(image, Tensor)
            return image
        with Image.open(path) as opened:
            return torch.from_numpy(np.array(_in_colour(opened))).permute(2, 0, 1)
    except DAMAGED as error:
        reason = re.sub(_PLACE, "", str(error).partition("\n")[0]).rstrip(".")
        raise UserError(f"{path} is no readable image ({reason}); replace it, or remove it from the folder") from error


def scaled(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Grey of more than 8 bits, or of floats, in 0 to 255.

    From the range of its kind, which is 0 to 65535 for whole numbers and 0 to 1 for floats, if the image uses enough
    of it to keep `LEVELS`; else from the image's own smallest to its own largest value. Raises `ValueError` for values
    that are no numbers.
    """
    deep = values.astype(np.float64)
    if not np.isfinite(deep).all():
        raise ValueError("it has values that are not finite numbers")
    low, high = deep.min(), deep.max()
    top = 1.0 if np.issubdtype(values.dtype, np.floating) else 65535.0
    inside = low >= 0 and high <= top
    if not (inside and (high - low) * 255 >= LEVELS * top) and high > low:
        deep = (deep - low) * (top / (high - low))
    levels: npt.NDArray[np.uint8] = np.rint(deep * (255 / top)).clip(0, 255).astype(np.uint8)
    return levels


def _in_colour(opened: Image.Image) -> Image.Image:
    """In mode RGB; raises `ValueError` where Pillow has no way there, or none that keeps the levels."""
    if opened.mode in ("I", "F") or opened.mode.startswith("I;16"):
        return Image.fromarray(scaled(np.asarray(opened))).convert("RGB")
    if opened.mode in ("RGBa", "La"):
        return opened.convert(opened.mode.upper()).convert("RGB")
    deep = any(";16" in str(tile) for tile in getattr(opened, "tile", ()))
    colours = opened.convert("RGB")
    if deep and max(high for _, high in colours.getextrema()) < DARK:  # type: ignore[misc]
        raise ValueError("of its 16 bits a colour only the lower ones are used, which are lost: save it with 8 bits")
    return colours


def resized(image: Tensor, box: Box, size: int) -> Tensor:
    """A part of the image, stretched to size x size: antialiased, at most one level off PIL, in half its time."""
    part = image[:, box.top : box.top + box.height, box.left : box.left + box.width]
    return F.interpolate(_pixels(part), (size, size), mode="bilinear", antialias=True)[0]


def centred(image: Tensor, shorter: int, size: int) -> Tensor:
    """The middle size x size of the image, after its shorter side is made `shorter` long."""
    scaled = functional.resize(_pixels(image), [shorter], antialias=True)
    middle: Tensor = functional.center_crop(scaled, [size, size])
    return middle[0]


def _pixels(image: Tensor) -> Tensor:
    """As a batch, channels-last: so it is scaled with the processor's vector instructions."""
    return image[None].contiguous(memory_format=torch.channels_last)


def random_box(height: int, width: int, draw: Random) -> Box:
    """A crop as torchvision's `RandomResizedCrop` draws it: area and log of the ratio uniform, then the place.

    A shape that does not fit is drawn again; after ten the whole image is taken, its longer side cut to the ratio.
    """
    for _ in range(ATTEMPTS):
        area = height * width * _uniform(draw, *SCALE)
        ratio = exp(_uniform(draw, log(RATIO[0]), log(RATIO[1])))
        box_height, box_width = round(sqrt(area / ratio)), round(sqrt(area * ratio))
        if 0 < box_height <= height and 0 < box_width <= width:
            top, left = (int(draw.random() * (room + 1)) for room in (height - box_height, width - box_width))
            return Box(top, left, box_height, box_width)
    box_height, box_width = min(height, round(width / RATIO[0])), min(width, round(height * RATIO[1]))
    return Box((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)


def _uniform(draw: Random, low: float, high: float) -> float:
    # Python promises the stream of `random()` for all its versions, and of nothing else.
    return low + (high - low) * draw.random()
