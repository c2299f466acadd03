"""Which of the weights that can be pruned may be: patterns of their names and kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from prunesweep.workers.errors import UserError, nearest
from prunesweep.workers.recorded import Recording
from prunesweep.workers.spec import ALL, Scope

if TYPE_CHECKING:
    from torch import nn

SHOWN = 12


def in_scope(
    scope: Scope, model: nn.Module, weights: Mapping[str, nn.Parameter], recording: Recording
) -> dict[str, nn.Parameter]:
    """Those of the weights that may be pruned, in their order.

    A pattern is `first` or `last`, in the order in which layers are computed, the kind of a layer (`Linear`, its
    class), or the name of a weight or of a module that it is in. The latter two may have the wildcards of a shell;
    `*` matches dots, too. Raises `UserError` for one that matches nothing, and where nothing is left.
    """
    if scope == ALL:
        return dict(weights)
    places = {name: _places(name, model, weight) for name, weight in weights.items()}
    computed = [name for name in dict.fromkeys(use.name for use in recording.uses) if name in weights]
    ends = {"first": computed[0], "last": computed[-1]}
    only, exempt = (
        _matched(key, given, places, ends) for key, given in (("only", scope.only), ("except", scope.exempt))
    )
    left = {name: w for name, w in weights.items() if (name in only or not scope.only) and name not in exempt}
    if not left:
        raise UserError(f"prune: nothing is left to prune of {_listed(places)}; exempt less of it")
    return left


def _places(name: str, model: nn.Module, weight: nn.Parameter) -> set[str]:
    """What may stand for a weight: its name, the modules that it is in, and the classes of those that hold it."""
    parts = name.split(".")
    modules = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    holders = {type(m).__name__ for m in model.modules() if any(p is weight for p in m.parameters(recurse=False))}
    return modules | holders


def _matched(key: str, patterns: Iterable[str], places: Mapping[str, set[str]], ends: Mapping[str, str]) -> set[str]:
    matched: set[str] = set()
    for pattern in patterns:
        names = {name for name, own in places.items() if any(fnmatchcase(place, pattern) for place in own)}
        if pattern in ends:
            names = {ends[pattern]}
        if not names:
            closest = nearest(pattern, sorted(set().union(*places.values())))
            raise UserError(
                f'prune: {key}: "{pattern}" matches no prunable weight; there are {_listed(places)}{closest}'
            )
        matched |= names
    return matched


def _listed(places: Mapping[str, object]) -> str:
    names = list(places)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
