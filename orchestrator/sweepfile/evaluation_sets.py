"""`test_sets: [clean, {corruption: gaussian_noise, severity: 3}]`: the corrupted test sets of a trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prunesweep.orchestrator.sweepfile.document import Loc, Problem, Rejected, shown
from prunesweep.workers.corruptions import CORRUPTIONS, SEVERITIES, named, parsed
from prunesweep.workers.errors import unknown

KEY, CLEAN = "test_sets", "clean"

EXAMPLE = "clean, or a mapping such as {corruption: gaussian_noise, severity: 3}"


def asked(settings: Mapping[str, Any], around: Mapping[str, Any], loc: Loc) -> tuple[tuple[str, ...], Loc]:
    """The corrupted test sets of a block at `loc`, or of the file `around`, and where they are; raises `Rejected`."""
    place: Loc = (*loc, KEY) if KEY in settings else (KEY,)
    given = (settings if KEY in settings else around).get(KEY)
    return _names_of(given, place) if given else (), place


def _names_of(given: Sequence[Any], loc: Loc) -> tuple[str, ...]:
    """In the order of the file. The clean one is always evaluated."""
    names: list[str] = []
    for index, item in enumerate(given):
        if item != CLEAN:
            names += _names(item, (*loc, index))
    for name in names:
        if names.count(name) > 1:
            corruption, severity = parsed(name)
            raise Rejected(Problem(loc, f"{corruption} of severity {severity} is given twice"))
    if not names:
        raise Rejected(Problem(loc, f"no corrupted test set: leave out {KEY}, for the clean one is always evaluated"))
    return tuple(names)


def mappings(names: Sequence[str]) -> list[dict[str, Any]]:
    """The test sets as a sweep file names them."""
    return [dict(zip(("corruption", "severity"), parsed(name), strict=True)) for name in names]


def _names(item: Any, loc: Loc) -> Iterator[str]:
    if not isinstance(item, Mapping):
        raise Rejected(Problem(loc, f"{shown(item)} is not allowed: {EXAMPLE}"))
    for key in item:
        if key not in ("corruption", "severity"):
            raise Rejected(Problem((*loc, key), unknown("key of a test set", str(key), ("corruption", "severity"))))
    corruption = item.get("corruption")
    if corruption not in CORRUPTIONS:
        said = "missing: " + ", ".join(CORRUPTIONS) if corruption is None else ""
        raise Rejected(Problem((*loc, "corruption"), said or unknown("corruption", str(corruption), CORRUPTIONS)))
    severity = item.get("severity")
    for number in severity if isinstance(severity, list) and severity else [severity]:
        if type(number) is not int or number not in SEVERITIES:
            raise Rejected(
                Problem((*loc, "severity"), f"{shown(number)} is not allowed: a whole number from 1 to 5, or several")
            )
        yield named(str(corruption), number)
