"""A file's checksum in the file itself, for JSON and safetensors: neither has one of its own. No torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

FIELD = "sha256"
BLANK = "0" * 64
"""What the field holds while the sum is taken, so that the sum covers every other byte, the field's name included."""

_FIELD = re.compile(rb'"sha256": ?"([0-9a-f]{64})"')


def seal(data: bytes | memoryview, *, last: bool = False) -> bytes:
    """The file with its sum filled in; it has one text entry `FIELD`, and that is `BLANK`.

    With `last` it is the last of such entries: Parquet has its metadata at the end.
    """
    match = _field(data, last)
    assert match is not None, "nowhere to put the sum"
    view = memoryview(data)
    return b"".join((view[: match.start(1)], _sum(data, match), view[match.end(1) :]))


def intact(data: bytes, *, last: bool = False) -> bool:
    """Whether these are the bytes that were sealed; a flipped bit anywhere, a cut or an empty file is noticed."""
    match = _field(data, last)
    return match is not None and match[1] == _sum(data, match)


def _field(data: bytes | memoryview, last: bool) -> re.Match[bytes] | None:
    match = _FIELD.search(data)
    while last and match is not None and (after := _FIELD.search(data, match.end())):
        match = after
    return match


def _sum(data: bytes | memoryview, field: re.Match[bytes]) -> bytes:
    view = memoryview(data)
    digest = hashlib.sha256(view[: field.start(1)])
    digest.update(BLANK.encode())
    digest.update(view[field.end(1) :])
    return digest.hexdigest().encode()


def sealed_json(content: Mapping[str, Any], *, indent: int | None = 1) -> bytes:
    """JSON with its sum; what is large is written in a tenth of the time where it is not indented."""
    return seal(json.dumps({**content, FIELD: BLANK}, indent=indent, allow_nan=False).encode())


def sealed_long_json(content: Mapping[str, Any]) -> bytes:
    """As `sealed_json` without indentation, of an object in which iterators stand for lists.

    Their items are written one by one: all of a large list together take ten times what the file does.
    """
    return seal(b"".join(_pieces({**content, FIELD: BLANK})))


def _pieces(value: Any) -> Iterator[bytes]:
    """A value's JSON, piece by piece."""
    if isinstance(value, Iterator):
        yield b"["
        for number, item in enumerate(value):
            yield from (b", ",) if number else ()
            yield from _pieces(item)
        yield b"]"
    elif isinstance(value, dict) and any(isinstance(held, Iterator) for held in value.values()):
        for number, (name, held) in enumerate(value.items()):
            yield f"{', ' if number else '{'}{json.dumps(name)}: ".encode()
            yield from _pieces(held)
        yield b"}"
    else:
        yield json.dumps(value, allow_nan=False).encode()


def unsealed_json(data: bytes) -> dict[str, Any]:
    """What `sealed_json` was given; raises `ValueError` for anything else: whoever writes a file can seal it."""
    content = parsed(data)
    if not isinstance(content, dict) or FIELD not in content:
        raise ValueError("it is no object with a checksum")
    del content[FIELD]
    return content


def parsed(text: bytes | str) -> Any:
    """JSON that may be anybody's; raises `ValueError` for whatever is wrong with it."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
