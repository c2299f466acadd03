"""Which stages wait for which, and how long the chains are that are behind each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prunesweep.workers.spec import Stage


def children_of(needs: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """By stage those that need it."""
    children: dict[str, list[str]] = {key: [] for key in needs}
    for key, before in needs.items():
        for need in before:
            children[need].append(key)
    return children


def chain_lengths(stages: Mapping[str, Stage], children: Mapping[str, list[str]]) -> dict[str, int]:
    """Epochs from the start of each stage to the end of its longest chain of descendants."""
    lengths: dict[str, int] = {}
    for key in reversed(list(stages)):
        lengths[key] = stages[key].epochs + max((lengths[child] for child in children[key]), default=0)
    return lengths
