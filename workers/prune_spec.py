"""Which weights of a network may be pruned, and the pruned copy by which an unfinished training is judged.

Frozen values of `workers.spec`. Light to import: no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prunesweep.workers.encoding import added


@dataclass(frozen=True)
class Scope:
    """Which weights may be pruned, of those that can be: what `only` matches, or all, without what `exempt` does.

    The patterns are those of `workers.scope`.
    """

    only: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()

    @classmethod
    def of(cls, only: Iterable[str] = (), exempt: Iterable[str] = ()) -> Scope:
        """The scope with its patterns in canonical order."""
        return cls(tuple(sorted(set(only))), tuple(sorted(set(exempt))))


ALL = Scope()
"""Whatever can be pruned may be."""


@dataclass(frozen=True)
class PrunedCopy:
    """A copy of what a part has trained, pruned by magnitude to the sparsity that the path ends at, and evaluated.

    The training itself goes on as if there were no copy.
    """

    sparsity: float
    allocation: str = "global"
    prune: Scope = added(ALL)
