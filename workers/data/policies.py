"""RandAugment and TrivialAugment for many images at once, each with operations and strengths that are drawn for it.

torchvision's `transforms.v2.RandAugment` and `TrivialAugmentWide` draw once for all images that they are given: on a
batch every image would be changed alike, and image by image they are the slowest part of a training. Here the images
that drew an operation go through it together, each with its own strength. Pixels are computed with integers, so that
all devices give the same image. Images are uint8 [B, H, W, C], as in `workers.data.augmentation`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from prunesweep.workers.data.augmentation import FRACTION_BITS, warped
from prunesweep.workers.data.base import epoch_generator
from prunesweep.workers.errors import UserError
from prunesweep.workers.seeding import derive

STRONGEST = 30
"""Strengths are whole numbers from 0 to this, in both papers and in torchvision."""

UNIT = 2**FRACTION_BITS

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
COLOUR = ("brightness", "color", "contrast", "sharpness")
OPERATIONS = ("identity", *GEOMETRIC, *COLOUR, "posterize", "solarize", "auto_contrast", "equalize")
"""In the order in which torchvision lists them; both policies draw all of them equally often."""


class Space(NamedTuple):
    """What the greatest strength is: shear, degrees, change of a colour, and the bits that posterize takes away.

    Translation is a share of the side, or in pixels where those are given.
    """

    shear: float
    degrees: float
    colour: float
    bits: int
    share: float = 0.0
    pixels: float = 0.0


RANDAUGMENT = Space(shear=0.3, degrees=30.0, colour=0.9, bits=4, share=150 / 331)
TRIVIALAUGMENT = Space(shear=0.99, degrees=135.0, colour=0.99, bits=6, pixels=32.0)


class Drawn(NamedTuple):
    """What each image drew, images last: operations [K, B], their strengths [K, B], and the sign of these [K, B]."""

    operations: Tensor
    strengths: Tensor
    negative: Tensor

    def at(self, places: slice | Tensor) -> Drawn:
        """What the images there drew."""
        return Drawn(*(values[:, places] for values in self))


@dataclass(frozen=True)
class Policy:
    """Which operations are drawn for a training image: none, RandAugment's with one strength, or TrivialAugment's.

    RandAugment (Cubuk et al. 2020) draws `operations` one after another, all of strength `magnitude`; TrivialAugment
    (Müller and Hutter 2021, its wide space) draws one and its strength. Strengths have a random sign where that has a
    meaning. `copies` is how often each image comes in a batch, augmented anew (repeated augmentation).
    """

    magnitude: int | None = None
    operations: int = 2
    trivial: bool = False
    copies: int = 1

    @property
    def changes(self) -> bool:
        """Whether images are changed at all."""
        return self.trivial or self.magnitude is not None

    def draw(self, seed: int, epoch: int, count: int) -> Drawn:
        """For all images of an epoch, in a stream of its own: crops and flips stay as they are without a policy."""
        generator = epoch_generator(derive(seed, "policy"), epoch)
        shape = (1 if self.trivial else self.operations, count)
        operations = torch.randint(len(OPERATIONS), shape, generator=generator)
        strengths = torch.randint(STRONGEST + 1, shape, generator=generator)
        negative = torch.rand(shape, generator=generator) < 0.5
        return Drawn(operations, strengths if self.trivial else strengths.fill_(self.magnitude or 0), negative)

    def apply(self, images: Tensor, drawn: Drawn, brightest: int = 255) -> Tensor:
        """The images [B, H, W, C], whose values go up to `brightest`, after the operations that each drew."""
        scale = 255 // brightest
        images = images * scale if scale > 1 else images
        space = TRIVIALAUGMENT if self.trivial else RANDAUGMENT
        for operations, strengths, negative in zip(*drawn, strict=True):
            images = _applied(images, operations, strengths * (1 - 2 * negative.long()), space)
        if scale == 1:
            return images
        return images.int().add_(scale // 2).div_(scale, rounding_mode="floor").clamp_(max=brightest).to(torch.uint8)


def _applied(images: Tensor, operations: Tensor, strengths: Tensor, space: Space) -> Tensor:
    """One operation for each image; `operations` and `strengths`, with their signs, are on the CPU: none is waited for.

    Those that move pixels are one, with a matrix for each image.
    """
    images = images.clone()
    for group in (GEOMETRIC, *((name,) for name in OPERATIONS[1 + len(GEOMETRIC) :])):
        numbers = torch.tensor([OPERATIONS.index(name) for name in group])
        chosen = torch.isin(operations, numbers).nonzero().squeeze(1)
        if len(chosen):
            places, drawn = chosen.to(images.device), strengths[chosen]
            part = images.index_select(0, places)
            if group == GEOMETRIC:
                _, height, width, _ = part.shape
                moves = matrices(operations[chosen], drawn, height, width, space)
                part = warped(part, moves.to(images.device))
            else:
                part = CHANGES[group[0]](part, drawn.to(images.device), space)
            images.index_copy_(0, places, part)
    return images


def matrices(operations: Tensor, strengths: Tensor, height: int, width: int, space: Space) -> Tensor:
    """The moves of pixels [N] as `warped` takes them, by operations of `GEOMETRIC` and signed strengths; PIL's."""
    relative = strengths.double() / STRONGEST
    is_drawn = {name: operations == OPERATIONS.index(name) for name in GEOMETRIC}
    one, none = torch.ones_like(relative), torch.zeros_like(relative)
    angle = torch.where(is_drawn["rotate"], -relative * space.degrees * pi / 180, none)
    shear = relative * space.shear
    sides = [torch.trunc(relative * (space.pixels or space.share * side)) for side in (width, height)]
    right, down = (torch.where(is_drawn[f"translate_{axis}"], -by, none) for axis, by in zip("xy", sides, strict=True))
    # Rows of the matrix: where the pixel at (column, row) is taken from, about the centre for a rotation only.
    along_x = [angle.cos() * one, angle.sin() + torch.where(is_drawn["shear_x"], shear, none)]
    along_y = [-angle.sin() + torch.where(is_drawn["shear_y"], shear, none), angle.cos() * one]
    x, y = torch.where(is_drawn["rotate"], width / 2, none), torch.where(is_drawn["rotate"], height / 2, none)
    column = x - along_x[0] * x - along_x[1] * y + right + (along_x[0] + along_x[1]) / 2
    row = y - along_y[0] * x - along_y[1] * y + down + (along_y[0] + along_y[1]) / 2
    coefficients = torch.stack([*along_x, column, *along_y, row])
    return coefficients.mul(UNIT).add(0.5).floor().int()


def _factors(strengths: Tensor, space: Space) -> Tensor:
    """Of a colour operation: 1 leaves the image, 0 is what it is blended with. int32 [N, 1, 1, 1] of `UNIT`."""
    factors: Tensor = (strengths * round(space.colour * UNIT)).div(STRONGEST, rounding_mode="floor") + UNIT
    return factors.int()[:, None, None, None]


def _blended(base: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    base = base.int()
    mixed = (images.int() - base).mul_(factors).add_(base * UNIT).bitwise_right_shift_(FRACTION_BITS)
    return mixed.clamp_(0, 255).to(torch.uint8)


def grey(images: Tensor) -> Tensor:
    """The luma of images [N, H, W, 3], as PIL rounds it, or those with one channel: int32 [N, H, W, 1]."""
    if images.shape[3] == 1:
        return images.int()
    red, green, blue = images.int().unbind(3)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000).bitwise_right_shift_(16).unsqueeze(3)


def _brightness(images: Tensor, strengths: Tensor, space: Space) -> Tensor:
    return _blended(torch.zeros_like(images), images, _factors(strengths, space))


def _color(images: Tensor, strengths: Tensor, space: Space) -> Tensor:
    return _blended(grey(images), images, _factors(strengths, space))


def _contrast(images: Tensor, strengths: Tensor, space: Space) -> Tensor:
    lumas = grey(images).flatten(1)
    means = (lumas.sum(1).mul(2).add(lumas.shape[1])).div(2 * lumas.shape[1], rounding_mode="floor")
    return _blended(means[:, None, None, None].expand(-1, 1, 1, 1), images, _factors(strengths, space))


def _sharpness(images: Tensor, strengths: Tensor, space: Space) -> Tensor:
    """Blended with the image that PIL's SMOOTH gives, which leaves the border."""
    if min(images.shape[1:3]) < 3:
        return images
    values = images.int()
    height, width = values.shape[1] - 2, values.shape[2] - 2
    around = [values[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    middle = (torch.stack(around).sum(0, dtype=torch.int32) + 4 * around[4] + 6).div_(13, rounding_mode="floor")
    smooth = values.clone()
    smooth[:, 1:-1, 1:-1] = middle
    return _blended(smooth, images, _factors(strengths, space))


def _posterize(images: Tensor, strengths: Tensor, space: Space) -> Tensor:
    away = torch.round(strengths.abs() * (space.bits / STRONGEST)).int()
    masks: Tensor = ((255 >> away) << away).to(torch.uint8)
    return images & masks[:, None, None, None]


def _solarize(images: Tensor, strengths: Tensor, space: Space) -> Tensor:
    inverted = STRONGEST * images.int() >= 255 * (STRONGEST - strengths.abs()).int()[:, None, None, None]
    return torch.where(inverted, 255 - images, images)


def _auto_contrast(images: Tensor, strengths: Tensor, space: Space) -> Tensor:
    values = images.int()
    low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
    stretched = ((values - low) * 255).div((high - low).clamp(min=1), rounding_mode="floor").to(torch.uint8)
    return torch.where(high > low, stretched, images)


def _equalize(images: Tensor, strengths: Tensor, space: Space) -> Tensor:
    """torchvision's, which takes each image and channel of a batch for itself."""
    equalized: Tensor = functional.equalize(images.permute(0, 3, 1, 2).contiguous())
    return equalized.permute(0, 2, 3, 1)


CHANGES: dict[str, Callable[[Tensor, Tensor, Space], Tensor]] = {
    "brightness": _brightness,
    "color": _color,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
}
"""The operations that move no pixel: images [N, H, W, C] and signed strengths [N] -> images."""


def repeated(order: Tensor, copies: int, batch_size: int) -> tuple[Tensor, Tensor]:
    """The order of an epoch in which a batch holds its images `copies` times, and which copy each is: int64 [N] both.

    Repeated augmentation (Hoffer et al. 2020, as DeiT samples): as many iterations as before, over 1 / `copies` of the
    images. Copies of one image stand apart, so that mixing pairs it with others.
    """
    if copies == 1:
        return order, torch.zeros_like(order)
    images, copy, start = [], [], 0
    for first in range(0, len(order), batch_size):
        size = min(batch_size, len(order) - first)
        distinct = -(-size // copies)
        images.append(order[start : start + distinct].repeat(copies)[:size])
        copy.append(torch.arange(size) // distinct)
        start += distinct
    return torch.cat(images), torch.cat(copy)


def require_pictures(name: str, channels: int, policy: Policy) -> None:
    """Nothing is known of the colours of images with other channels; raises `UserError`."""
    if policy.changes and channels not in (1, 3):
        setting = "trivialaugment" if policy.trivial else "randaugment"
        raise UserError(
            f"train.{setting}: it changes colours, and the images of {name} have {channels} channels, neither grey nor "
            "RGB; leave it out"
        )
