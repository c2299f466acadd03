"""A sweep file as text and as plain values, and what is wrong with it, at its line."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from prunesweep.workers.errors import UserError, nearest

SUFFIXES = (".yaml", ".yml", ".py")
"""Of sweep files."""

MAX_BYTES = 200_000
"""A file of this size takes seconds to read; what is larger is better written in Python, or no sweep."""

MAX_WHOLE = 10**12
"""No setting counts so far, and sums of settings still fit into 64 bits."""

SHOWN = 5
"""So many problems of one file are shown, a line each."""

MANY = 100
"""So many problems of one file are looked for."""

T = TypeVar("T")

Loc = tuple[str | int, ...]
"""Where a value stands within a file: `("trials", 0, "sparsity", 2)`."""


@dataclass(frozen=True)
class Problem:
    """Something wrong in a file, and where; `line` when that is not the line of the value at `loc`."""

    loc: Loc
    message: str
    line: int | None = None


class Rejected(Exception):
    """Problems on their way to the document that they are in."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*(problem.message for problem in problems))
        self.problems = problems


@contextmanager
def noting(problems: list[Problem]) -> Iterator[None]:
    """Go on after what is rejected in here, so that one reading shows all that is wrong."""
    try:
        yield
    except Rejected as rejected:
        problems += rejected.problems


def until_many(items: Iterable[T], problems: Sequence[Problem]) -> Iterator[T]:
    """The items, until so much is wrong with them that nobody would read on; looking up a wrong name takes its time."""
    return takewhile(lambda _: len(problems) < MANY, items)


@dataclass(frozen=True)
class Document:
    """A sweep file as plain values, and the line of each, counted from 1; `path` is None for settings out of Python."""

    path: Path | None
    value: dict[str, Any]
    lines: Mapping[Loc, int]

    def line(self, loc: Loc) -> int:
        """The line of a value; of the nearest thing around it when the file does not have it."""
        return next(self.lines[loc[:end]] for end in range(len(loc), -1, -1) if loc[:end] in self.lines)

    def error(self, problems: Iterable[Problem]) -> UserError:
        """The first few problems in the order of the file, a line each."""
        placed = dict.fromkeys((p.line or self.line(p.loc), where(p.loc), p.message) for p in problems)
        lines = sorted(placed, key=itemgetter(0))
        return listed(
            f"{f'{self.path}:{line}: ' if self.path else ''}{f'{place}: ' if place else ''}{text}"
            for line, place, text in lines
        )


def listed(messages: Iterable[str]) -> UserError:
    """One error out of several messages, a line each: the first few, and how many more there are."""
    lines = [" ".join(message.split()) for message in messages]
    rest = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return UserError("\n".join(lines[:SHOWN] + rest))


def where(loc: Loc) -> str:
    """A place as people write it: `trials[0].sparsity[2]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def shown(value: Any) -> str:
    """A value as the file has it, cut when long."""
    match value:
        case None | True | False:
            text = {None: "null", True: "true", False: "false"}[value]
        case str():
            text = f'"{value}"' if value.isprintable() else repr(value)
        case int() if abs(value) > MAX_WHOLE:
            text = f"a whole number of {value.bit_length()} bits"
        case list() | tuple():
            text = f"[{', '.join(shown(item) for item in value)}]"
        case dict():
            text = f"{{{', '.join(f'{name}: {shown(item)}' for name, item in value.items())}}}"
        case _:
            text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def read_text(path: Path) -> str:
    """The file's text; a `UserError` that names what is there instead when it cannot be read."""
    try:
        # Asked before it is opened: opening a pipe waits for whoever writes to it.
        _check_kind(path, path.stat())
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{_beside(path)}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not a text file in UTF-8; a sweep is a YAML or a Python file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def _check_kind(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise UserError(f"{path}: is a folder; name one of the sweep files in it: {_sweeps_in(path)}")
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: is a pipe or a device; a sweep is a YAML or a Python file")
    if status.st_size > MAX_BYTES:
        raise UserError(
            f"{path}: {status.st_size:,} bytes are too many: at most {MAX_BYTES:,}; "
            "shorten it with axes, or write the sweep in Python"
        )


def _sweeps(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES)


def _sweeps_in(folder: Path) -> str:
    return ", ".join(file.name for file in _sweeps(folder)) or "(there is none)"


def _beside(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; there is no folder {path.parent} either"
    return nearest(str(path), [str(file) for file in _sweeps(path.parent)])
