"""Figures as words for people: sizes, durations, counts, lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def duration(seconds: float | None) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`; a dash when it is not known."""
    if seconds is None:
        return "-"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"


def size(count: float) -> str:
    """`12 kB`, `3.4 MB`, `1.2 GB`: bytes in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def counted(count: int, noun: str) -> str:
    """`1 trial`, `1,234 trials`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def grouped(words: Iterable[str]) -> str:
    """How often each word occurs, in the order of first use: `2 diverged, 1 worker died`."""
    words = list(words)
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


def joined(words: Sequence[str]) -> str:
    """`imp`, `imp and gmp`, `imp, gmp and str`; nothing for no words."""
    before_last = [", ".join(words[:-1])] if len(words) > 1 else []
    return " and ".join([*before_last, *words[-1:]])
