"""Networks of one's own with a share of their weights: by the options that their channels go by. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prunesweep.workers.errors import UserError, unknown
from prunesweep.workers.spec import Choice, Value

BY = "size by "
"""How the option begins that a narrower network has beside its own; no parameter of Python can be called so."""


def scaled_by(choice: Choice, size: float, options: Sequence[str]) -> Choice:
    """The network with this share of its weights, for which all these options are multiplied by one factor.

    Raises `UserError` on an option that the network lacks, or that is no number above zero.
    """
    own = dict(choice.options)
    for option in options:
        if option not in own:
            raise UserError(unknown(f"option of model {choice.name}", option, own))
        if not _is_number(own[option]):
            raise UserError(f"{option} of model {choice.name} is {own[option]!r}: what is scaled is a number above 0")
    return Choice.of(choice.name, {**own, BY + ", ".join(options): size}, choice.fingerprint)


def parted(settings: Mapping[str, Value]) -> tuple[dict[str, Value], float, tuple[str, ...]]:
    """What the network is made with, the share of its weights, and the options that are multiplied for it."""
    own = {option: value for option, value in settings.items() if not option.startswith(BY)}
    for option, size in settings.items():
        if option.startswith(BY):
            assert isinstance(size, float), "`scaled_by` has made it"
            return own, size, tuple(option.removeprefix(BY).split(", "))
    return own, 1.0, ()


def multiplied(settings: Mapping[str, Value], options: Sequence[str], factor: float) -> dict[str, Value]:
    """The settings with these options times the factor: whole numbers rounded, and at least 1."""
    return {option: _times(value, factor) if option in options else value for option, value in settings.items()}


def _times(value: Value, factor: float) -> Value:
    if isinstance(value, tuple):
        return tuple(_times(item, factor) for item in value)
    assert isinstance(value, int | float), "`scaled_by` has seen to it"
    return max(1, round(value * factor)) if isinstance(value, int) else value * factor


def _is_number(value: Value) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(_is_number(item) for item in value)
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
