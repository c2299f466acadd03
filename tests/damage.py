"""Ways in which a file may be damaged."""

from __future__ import annotations

import random
from collections.abc import Iterator

DAMAGE = ("empty", "cut", "a bit of the beginning", "any bit", "one byte in a hundred", "longer")


def damaged(data: bytes, how: str, seed: int = 0) -> Iterator[bytes]:
    """The file as it may be afterwards; several where chance decides."""
    rng = random.Random(seed)
    match how:
        case "empty":
            yield b""
        case "cut":
            yield data[: len(data) // 2]
            yield data[:-1]
        case "a bit of the beginning":
            for position in range(0, min(len(data), 400), 17):
                yield _flipped(data, [position], rng)
        case "any bit":
            for _ in range(20):
                yield _flipped(data, [rng.randrange(len(data))], rng)
        case "one byte in a hundred":
            yield _flipped(data, rng.sample(range(len(data)), max(1, len(data) // 100)), rng)
        case "longer":
            yield data + b"\0"


def _flipped(data: bytes, positions: list[int], rng: random.Random) -> bytes:
    changed = bytearray(data)
    for position in positions:
        changed[position] ^= 1 << rng.randrange(8)
    return bytes(changed)
