"""What is wrong with a file that is not YAML, in words, with the line and a caret under the place.

YAML notices many a mistake only where the text after it makes no sense any more. Shown is the place to mend.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml.error import StringMark, YAMLError

from prunesweep.workers.errors import UserError

MAX_SHOWN = 100
"""Characters of a line."""


class Mistake(NamedTuple):
    """Line and column, counted from 0, and what is wrong there; no column where the line alone is known."""

    line: int
    column: int | None
    reason: str


def yaml_error(path: Path | None, text: str, error: YAMLError) -> UserError:
    """The error for the user: a sentence, and below it the line with a caret."""
    lines = text.splitlines() or [""]
    mistake = _mistake(lines, text, error)
    message = f"{path}:{mistake.line + 1}: not valid YAML: {' '.join(mistake.reason.split())}"
    if mistake.column is None:
        return UserError(message)
    start = max(0, mistake.column - MAX_SHOWN // 2)
    shown = lines[min(mistake.line, len(lines) - 1)][start : start + MAX_SHOWN]
    printable = "".join(character if character.isprintable() else " " for character in shown)
    return UserError(f"{message}\n  {printable}\n  {' ' * (mistake.column - start)}^")


def _mistake(lines: list[str], text: str, error: YAMLError) -> Mistake:
    mark, begun = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    context = getattr(error, "context", None) or ""
    if not isinstance(mark, StringMark):
        return Mistake(text[: getattr(error, "position", 0)].count("\n"), None, problem)
    if isinstance(begun, StringMark):
        if "simple key" in context:
            return _without_colon(lines, begun.line)
        if "quoted scalar" in context:
            return Mistake(begun.line, begun.column, "this quotation mark is not closed")
        if "flow" in context and mark.line > begun.line:
            return _unclosed(lines, begun.line, begun.column)
        if "flow" in context and "<stream end>" in problem and (brackets := _open_brackets(text)):
            return _unclosed(lines, *brackets[-1])
    if "mapping values" in problem:
        before = _line_before(lines, mark.line)
        if before is not None and ":" not in lines[before] and not lines[before].lstrip().startswith("-"):
            return _without_colon(lines, before)
        return Mistake(mark.line, mark.column, "no colon may stand here: put a text that has one into quotes")
    if "<block end>" in problem:
        return Mistake(mark.line, mark.column, "the indentation does not fit the lines above")
    if "'\\t'" in problem:
        return Mistake(mark.line, mark.column, "a tab; indent with spaces")
    return Mistake(mark.line, mark.column, f"{problem} ({context})" if context else problem)


def _unclosed(lines: list[str], line: int, column: int) -> Mistake:
    return Mistake(line, column, f"this {lines[line][column]} is not closed, or a comma is missing after it")


def _open_brackets(text: str) -> list[tuple[int, int]]:
    """Line and column of the brackets that are open at the end, outside of quotes and comments."""
    opened: list[tuple[int, int]] = []
    for token in re.finditer(r"""\s#.*|"(?:[^"\\]|\\.)*"|'[^']*'|[][{}]""", text):
        if token[0] in ("[", "{"):
            start = text.rfind("\n", 0, token.start()) + 1
            opened.append((text.count("\n", 0, token.start()), token.start() - start))
        elif token[0] in ("]", "}") and opened:
            opened.pop()
    return opened


def _without_colon(lines: list[str], line: int) -> Mistake:
    return Mistake(line, len(lines[line].rstrip()), "a colon is missing in this line")


def _line_before(lines: list[str], line: int) -> int | None:
    """The nearest line above that has anything but a comment."""
    return next((n for n in range(line - 1, -1, -1) if lines[n].partition("#")[0].strip()), None)
