"""What was found out about weights, remembered by the files' content, so that a second plan loads no torch."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from prunesweep.workers.appearing import appearing
from prunesweep.workers.data.content import file_digests, user_cache

VERSION = 1
"""Raised when weights are read, hashed or compared in another way."""


def file_digest(path: Path) -> str:
    """A hash of the file's bytes, remembered by its size and times."""
    name = hashlib.sha256(str(path.absolute()).encode(errors="surrogateescape")).hexdigest()[:16]
    return file_digests([(path.name, str(path.absolute()))], user_cache(), name)[0]


def remembered(*of: str) -> dict[str, Any] | None:
    """What was kept under these words; None where nothing is, or it is damaged."""
    with suppress(OSError, ValueError):
        known = json.loads(_place(of).read_text())
        return known if isinstance(known, dict) else None
    return None


def remember(known: dict[str, Any], *of: str) -> None:
    """Keep it for the next time, where that can be."""
    place = _place(of)
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with appearing(place) as temporary:
            temporary.write_text(json.dumps(known))


def _place(of: tuple[str, ...]) -> Path:
    name = hashlib.sha256("\0".join((str(VERSION), *of)).encode(errors="surrogateescape")).hexdigest()[:32]
    return user_cache() / "weights" / f"{name}.json"
