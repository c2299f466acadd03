"""Specs as plain JSON values, and the keys that are the hashes of these.

`workers.spec` has the specs. Light to import: no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import field, fields, is_dataclass
from functools import cache
from typing import Any

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


def encode(value: Any, *, canonical: bool = False) -> Any:
    """A spec as plain JSON values; a stage's parent is nested whole, so the text alone says what to run.

    In the `canonical` form numbers that are equal become the same number: 1.0 and 1 must not name two stages.
    """
    if isinstance(value, float):  # most are numbers or texts: asked first, since there are millions
        return int(value) if canonical and value.is_integer() else value
    if value is None or isinstance(value, str | int):
        return value
    if is_dataclass(value):
        return {name: encode(held, canonical=canonical) for name, held in said(value, canonical=canonical)}
    if isinstance(value, tuple | list):
        return [encode(item, canonical=canonical) for item in value]
    if isinstance(value, dict):
        return {name: encode(item, canonical=canonical) for name, item in value.items()}
    return value


def said(value: Any, *, canonical: bool = True) -> Iterator[tuple[str, Any]]:
    """The fields of a spec that its key holds, under the names that they have there; else those of its records."""
    for name, left_out_at, pairs, in_keys in _fields(value.__class__):
        held = getattr(value, name)
        if held != left_out_at and (in_keys or not canonical):
            yield name, dict(held) if pairs else held


def digest(kind: str, canonical: Any) -> str:
    """A key: twenty hexadecimal digits."""
    text = json.dumps({"version": KEY_VERSION, kind: canonical}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@cache
def _fields(cls: Any) -> tuple[tuple[str, Any, bool, bool], ...]:
    def described(of: Any) -> tuple[str, Any, bool, bool]:
        known = of.metadata.get
        return of.name, known("left out at", ALWAYS), known("pairs", False), known("in keys", True)

    return tuple(map(described, fields(cls)))
