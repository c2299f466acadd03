"""The depths and widths that a CIFAR ResNet can have. No torch: sweep files are checked with it."""

from __future__ import annotations

from workers.errors import UserError


def blocks_per_group(depth: int) -> int:
    """The n of a network with 6n+2 layers (He et al. 2015, section 4.2); `UserError` when there is none."""
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        below = 6 * max(blocks, 1) + 2
        raise UserError(f"depth: {depth} is not 6n+2; the nearest allowed depths are {below} and {below + 6}")
    return blocks


def check_width(width: int) -> None:
    """Raise `UserError` when there would be no channels."""
    if width < 1:
        raise UserError(f"width: {width} is not a number of channels; the smallest is 1")
