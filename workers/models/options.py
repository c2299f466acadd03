"""What the models' options can be. No torch: sweep files are checked with it."""

from __future__ import annotations

from prunesweep.workers.errors import UserError

FORMS = ("auto", "cifar", "imagenet")
"""The forms of a network that was made for ImageNet and is used on small images as well."""

SMALL = 64
"""Up to this height in pixels images are small: CIFAR's 32, Tiny ImageNet's 64."""


def check_cifar_resnet(*, depth: int, width: int) -> None:
    """Raise `UserError` when there is no CIFAR ResNet of that depth or width."""
    blocks_per_group(depth)
    _check_width(width)


def check_wide_resnet(*, depth: int, width: int, dropout: float) -> None:
    """Raise `UserError` when there is no WideResNet of that depth or width, or no such dropout."""
    blocks_per_group(depth, extra=4)
    _check_width(width)
    if not 0 <= dropout < 1:
        raise UserError(f"dropout: {dropout:g} is not a fraction in [0, 1)")


def check_share(option: str, share: object) -> None:
    """Raise `UserError` unless it is a share that can be left out while training, or None for the network's own."""
    if share is not None and not (isinstance(share, int | float) and 0 <= share < 1):
        raise UserError(f"{option}: {share!r} is not a fraction in [0, 1)")


def check_size(size: float) -> None:
    """Raise `UserError` unless it is a share of a network's weights that one with fewer channels can have."""
    if not 0 < size <= 1:
        raise UserError(f"size: {size:g} is not a fraction in (0, 1]")


def check_form(option: str, form: str) -> None:
    """Raise `UserError` when a network has no such form; `option` is the part of it that differs."""
    if form not in FORMS:
        raise UserError(f'{option}: "{form}" is not allowed: one of {", ".join(FORMS)}')


def blocks_per_group(depth: int, *, extra: int = 2) -> int:
    """The n of a network with 6n+`extra` layers; `UserError` when there is none.

    6n+2 in He et al. 2015, section 4.2; 6n+4 in Zagoruyko & Komodakis 2016, section 2.
    """
    blocks, rest = divmod(depth - extra, 6)
    if rest or blocks < 1:
        below = 6 * max(blocks, 1) + extra
        raise UserError(f"depth: {depth} is not 6n+{extra}; the nearest allowed depths are {below} and {below + 6}")
    return blocks


def is_cifar(form: str, shape: tuple[int, int, int]) -> bool:
    """Whether `form` means the CIFAR form for images of `shape`; `auto` goes by their height."""
    return form == "cifar" or (form == "auto" and shape[1] <= SMALL)


def _check_width(width: int) -> None:
    if width < 1:
        raise UserError(f"width: {width} is too small; the smallest is 1")
