"""Values out of files that may be anybody's: a dataclass of plain fields, each held to the type that is written at it.

What is of another type would come to nothing only where it is printed or added up, far from the file. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, NamedTuple, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

LARGEST = 2**63
"""Whole numbers are smaller: a table holds no larger ones."""

LARGEST_FLOAT = 1e300
"""Larger ones, which nothing measures, come to infinity where they are added up."""


class Kind(NamedTuple):
    """The classes that JSON's values of a field may have, and of a list's items."""

    classes: frozenset[type]
    items: frozenset[type] = frozenset()


def typed(cls: type[T], said: Mapping[str, Any]) -> T:
    """The value with these fields, lists as tuples; raises `TypeError` unless they are known, and of their types.

    Types are `str`, `bool`, `int`, `float` (finite), `tuple[..., ...]` of these, `tuple[tuple[str, ...], ...]` for the
    sorted pairs of a mapping to these, and `None` beside one of them.
    """
    kinds = _kinds(cast(Any, cls))
    values = dict(said)
    for name, value in said.items():
        kind = kinds.get(name)
        if kind is None or not _is(value, kind.classes):
            raise TypeError(f"its {name} is {value!r:.40}")
        if value.__class__ is dict:
            if not all(isinstance(key, str) and _is(item, kind.items) for key, item in value.items()):
                raise TypeError(f"its {name} is {value!r:.40}")
            values[name] = tuple(sorted(value.items()))
        if value.__class__ in LISTS:
            if not all(_is(item, kind.items) for item in value):
                raise TypeError(f"its {name} is {value!r:.40}")
            values[name] = tuple(value)
    return cls(**values)


def is_number(value: Any) -> bool:
    """Whether it is a number that a table may hold."""
    return _is(value, NUMBERS)


NUMBERS, LISTS = frozenset({int, float}), frozenset({list, tuple})


def _is(value: Any, classes: frozenset[type]) -> bool:
    cls = value.__class__
    if cls is int:
        return cls in classes and -LARGEST < value < LARGEST
    if cls is float:
        return cls in classes and -LARGEST_FLOAT <= value <= LARGEST_FLOAT  # false of NaN
    return cls in classes


@cache
def _kinds(cls: Any) -> dict[str, Kind]:
    hints = get_type_hints(cls)
    return {field.name: _kind(hints[field.name]) for field in fields(cls)}


def _kind(hint: Any) -> Kind:
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        if get_origin(item) is tuple:
            return Kind(frozenset({dict}), _kind(get_args(item)[1]).classes)
        return Kind(LISTS, _kind(item).classes)
    parts = [_kind(part) for part in get_args(hint)]
    if parts:
        return Kind(frozenset().union(*(part.classes for part in parts)), frozenset().union(*(p.items for p in parts)))
    return Kind(NUMBERS if hint is float else frozenset({hint}))
