"""Crops, mirror images and rotations of many images at once, each as drawn for it.

Images are uint8 [B, H, W, C] in one piece of memory, so that a row of a crop, or a pixel, is copied as a whole.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FRACTION_BITS = 16
"""Bits of a fraction in a rotated pixel's coordinates, which are integers so that all devices take the same pixel."""


def cropped(images: Tensor, offsets: Tensor, padding: int) -> Tensor:
    """Each image cut out of itself with `padding` zeros around it, at its own `offsets` (down, right) [2, B]."""
    count, height, width, channels = images.shape
    sides = (padding * channels, padding * channels, padding, padding)
    padded = F.pad(images.view(count, height, width * channels), sides)
    stride = width + 2 * padding
    # Overlapping rows: one begins at every pixel.
    rows = padded.as_strided((padded.numel() // channels - width + 1, width * channels), (channels, 1))
    first = (torch.arange(count, device=images.device) * (height + 2 * padding) + offsets[0]) * stride + offsets[1]
    starts = first[:, None] + torch.arange(height, device=images.device) * stride
    return rows.index_select(0, starts.flatten()).view(images.shape)


def flip(images: Tensor, chosen: Tensor) -> None:
    """Turn the images at the indices `chosen` [M] into their mirror images (left to right), in place."""
    mirrored = images.index_select(0, chosen).flip(2)
    # The copy goes element by element, so fewer and larger elements are faster.
    element = torch.int64 if images[0].numel() % 8 == 0 else torch.uint8
    images.flatten(1).view(element)[chosen] = mirrored.flatten(1).view(element)


def turns(degrees: Tensor, height: int, width: int) -> Tensor:
    """The rotations by counter-clockwise angles [N], as `rotated` takes them: int32 [5, N].

    They are the matrix of PIL's `Image.rotate`: cosine, sine, -sine, and the column and row that the first pixel is
    taken from.
    """
    angles = torch.deg2rad(-degrees.double())
    cos, sin = angles.cos(), angles.sin()
    column = (1 - cos) * (width / 2) - sin * (height / 2) + (cos + sin) / 2
    row = (1 - cos) * (height / 2) + sin * (width / 2) + (cos - sin) / 2
    coordinates = torch.stack([cos, sin, -sin, column, row])
    return coordinates.mul(2**FRACTION_BITS).add(0.5).floor().int()


def rotated(images: Tensor, turns: Tensor) -> Tensor:
    """Each image turned about its centre: the nearest pixel, and 0 beyond the border, as PIL does it."""
    cos, sin, minus_sin, column, row = turns
    return warped(images, torch.stack([cos, sin, column, minus_sin, cos, row]))


def warped(images: Tensor, matrices: Tensor) -> Tensor:
    """Each image with its pixels moved: the nearest one, and 0 beyond the border, as PIL's `Image.transform` does it.

    `matrices` are int32 [6, B] with `FRACTION_BITS` bits of fraction: the pixel at (x, y) is the one in the column
    a x + b y + c and the row d x + e y + f.
    """
    count, height, width, channels = images.shape
    x_x, y_x, column, x_y, y_y, row = matrices[:, :, None, None]
    y = torch.arange(height, dtype=torch.int32, device=images.device)[:, None]
    x = torch.arange(width, dtype=torch.int32, device=images.device)
    columns = ((column + y_x * y) + x_x * x).bitwise_right_shift_(FRACTION_BITS).clamp_(-1, width)
    rows = ((row + y_y * y) + x_y * x).bitwise_right_shift_(FRACTION_BITS).clamp_(-1, height)
    pixels = F.pad(images, (0, 0, 1, 1, 1, 1)).view(-1, channels)
    stride = width + 2
    first = torch.arange(count, dtype=torch.int32, device=images.device) * (stride * (height + 2)) + stride + 1
    sources = rows.mul_(stride).add_(columns).add_(first[:, None, None])
    return pixels.index_select(0, sources.flatten()).view(images.shape)
