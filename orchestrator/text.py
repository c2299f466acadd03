"""Figures as words for people: sizes, durations, counts, lists. And texts of others, made harmless for each output."""

from __future__ import annotations

import re
import unicodedata
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


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 trial`, `1,234 trials`; the plural is given where it has more than an s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {plural or f'{noun}s'}"


def grouped(words: Iterable[str]) -> str:
    """How often each word occurs, in the order of first use: `2 diverged, 1 worker died`."""
    words = list(words)
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


def joined(words: Sequence[str]) -> str:
    """`imp`, `imp and gmp`, `imp, gmp and str`; nothing for no words."""
    before_last = [", ".join(words[:-1])] if len(words) > 1 else []
    return " and ".join([*before_last, *words[-1:]])


# --- texts that may be anybody's: names, messages, logs

_ALONE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of characters that no text needs, and that steer a terminal or turn the reading direction around."""

_JOINERS = frozenset("\u200c\u200d")
"""Letters of some scripts, and emoji, are put together with these."""

_PIECE = re.compile(r"[^\n\t]+")

_FORMULA = re.compile(r"[=+\-@\t\r].", re.DOTALL)


def visible(text: str) -> str:
    """One line, in which control characters and those that turn the reading direction are written as their codes."""
    if text.isprintable():  # most texts are, and one character at a time takes long
        return text
    return "".join(_written(char) if _is_unwanted(char) else char for char in text)


def for_terminal(text: str) -> str:
    """As `visible`, with its lines and tabs."""
    return text if text.isprintable() else _PIECE.sub(lambda piece: visible(piece[0]), text)


def for_csv(text: str) -> str:
    """As `visible`; what a spreadsheet would take for a formula is behind an apostrophe, a number is not."""
    return f"'{visible(text)}" if _FORMULA.match(text) and not _is_number(text) else visible(text)


def for_markdown(text: str) -> str:
    """As `visible`, without tags, links, images, columns and emphasis."""
    escaped = re.sub(r"[\\`*|]", lambda char: f"\\{char[0]}", visible(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace("](", "]\\(").replace("][", "]\\[")


def for_html(text: str) -> str:
    """As `for_terminal`; the template's escaping does the rest."""
    return for_terminal(text)


def _is_unwanted(char: str) -> bool:
    return unicodedata.category(char) in _ALONE and char not in _JOINERS


def _written(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
