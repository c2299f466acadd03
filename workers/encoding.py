"""Specs as plain JSON values, and the keys that are the hashes of these.

`workers.spec` has the specs. Light to import: no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import field, fields, is_dataclass
from functools import cache, lru_cache
from typing import Any, TypeVar

T = TypeVar("T")

KEY_VERSION = 1
"""Raised when the meaning of a field changes, so that old results are not taken for new ones."""

ALWAYS = object()
"""Equal to no value of a field: stands for a field that is in every key."""


def added(default: Any, *, pairs: bool = False) -> Any:
    """A field that came after `KEY_VERSION`: at its default it is in no key and in no record, so that old keys stay.

    One of `pairs`, sorted, is a mapping there.
    """
    return field(default=default, metadata={"left out at": default, "pairs": pairs})


def remark(default: Any) -> Any:
    """A field for people alone: in records, but in no key, and equal specs may differ in it."""
    return field(default=default, compare=False, metadata={"left out at": default, "in keys": False})


def encode(value: Any) -> Any:
    """A spec as plain JSON values; a stage's parent is nested whole, so the text alone says what to run.

    What specs share is shared there, too, and so is not to be changed.
    """
    return _encoded(value) if is_dataclass(value) else _nested(value)


def _encoded(spec: Any) -> dict[str, Any]:
    return {name: _nested(held) for name, held in said(spec, in_keys=False)}


def _nested(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):  # most are: asked first, since there are millions
        return value
    if is_dataclass(value):
        return _made_once(_values, value, _encoded)
    if isinstance(value, tuple | list):
        return [_nested(item) for item in value]
    if isinstance(value, dict):
        return {name: _nested(item) for name, item in value.items()}
    return value


def said(value: Any, *, in_keys: bool = True) -> Iterator[tuple[str, Any]]:
    """The fields of a spec that its key holds, under the names that they have there; else those of its records."""
    for name, left_out_at, pairs, is_in_keys in _fields(value.__class__):
        held = getattr(value, name)
        if held != left_out_at and (is_in_keys or not in_keys):
            yield name, dict(held) if pairs else held


def digest(kind: str, value: Any) -> str:
    """A key: twenty hexadecimal digits."""
    return hashlib.sha256(f'{{"{kind}":{_canonical(value)},"version":{KEY_VERSION}}}'.encode()).hexdigest()[:20]


def _canonical(value: Any) -> str:
    """The JSON of which keys are hashes: names are sorted, and equal numbers are the same: 1.0 and 1 are one stage."""
    if value is None or isinstance(value, str | int | float):
        return _scalar(value)
    if is_dataclass(value):
        return _made_once(_texts, value, _of_fields)
    if isinstance(value, dict):
        return f"{{{','.join(f'{_scalar(name)}:{_canonical(held)}' for name, held in sorted(value.items()))}}}"
    if isinstance(value, tuple | list):
        return f"[{','.join(map(_canonical, value))}]"
    raise TypeError(f"a key cannot hold a {type(value).__name__}")


def _of_fields(spec: Any) -> str:
    return _canonical(dict(said(spec)))


@lru_cache(2**12, typed=True)
def _scalar(value: str | float | None) -> str:
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


_texts: dict[int, tuple[Any, str]] = {}
_values: dict[int, tuple[Any, dict[str, Any]]] = {}
"""By identity, since specs may be equal that are not the same: True == 1."""


def _made_once(made: dict[int, tuple[Any, T]], spec: Any, make: Callable[[Any], T]) -> T:
    """What is made of a spec within another: thousands of trials have a few hundred choices and trainings in common."""
    if (known := made.get(id(spec))) is not None:
        return known[1]
    if len(made) >= 2**12:
        made.clear()
    of_spec = make(spec)
    made[id(spec)] = spec, of_spec
    return of_spec


@cache
def _fields(cls: Any) -> tuple[tuple[str, Any, bool, bool], ...]:
    def described(of: Any) -> tuple[str, Any, bool, bool]:
        known = of.metadata.get
        return of.name, known("left out at", ALWAYS), known("pairs", False), known("in keys", True)

    return tuple(map(described, fields(cls)))
