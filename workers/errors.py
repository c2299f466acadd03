"""The errors that a user may see."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """The request was wrong. The message says what was given, what is allowed and what to do."""


class SpecError(UserError):
    """A setting of a trial is wrong; `field` names it as the sweep file spells it (`train.epochs`, `sparsity`)."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Diverged(RuntimeError):
    """The training loss is no longer finite."""


class Ineffective(RuntimeError):
    """The kernels of the evaluation receive other zeros than the masks have; the message names the layers."""


class ReplicaLost(RuntimeError):
    """A process that trained the same network has ended without a word."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`; did you mean "digits"?` when one of the allowed names is close, or to its last part, else nothing."""
    spelled = {str(a).lower(): str(a) for a in allowed}
    last = name.lower().rpartition(".")[2]
    match = [last] if last in spelled else get_close_matches(name.lower(), spelled, n=1, cutoff=0.6)
    return f'; did you mean "{spelled[match[0]]}"?' if match else ""


def unknown(what: str, name: str, allowed: Iterable[str], *, more: str = "") -> str:
    """One line for an unknown name: `unknown method "imb": allowed are bimp, dense, ...; did you mean "imp"?`."""
    names = sorted(allowed)
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f'unknown {what} "{name}": allowed are {shown}{more}{nearest(name, names)}'
