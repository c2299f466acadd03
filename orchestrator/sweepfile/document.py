"""Sweep files as text: YAML to plain values, and the line on which each of them stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from workers.errors import UserError, nearest

SHOWN = 5
"""So many problems of one file are shown, a line each."""

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


@dataclass(frozen=True)
class Document:
    """A sweep file as plain values; `root` knows where each stands."""

    path: Path
    value: dict[str, Any]
    root: Node

    def line(self, loc: Loc) -> int:
        """The line of a value, counted from 1; of the nearest thing around it when the file does not have it."""
        node, line = self.root, self.root.start_mark.line
        for part in loc:
            found = _child(node, part)
            if found is None:
                break
            node, line = found
        return int(line) + 1

    def error(self, problems: Iterable[Problem]) -> UserError:
        """The first few problems in the order of the file, a line each."""
        placed = dict.fromkeys((p.line or self.line(p.loc), where(p.loc), p.message) for p in problems)
        lines = sorted(placed, key=itemgetter(0))
        return listed(f"{self.path}:{line}: {f'{place}: ' if place else ''}{text}" for line, place, text in lines)


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
            text = f'"{value}"'
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
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{_beside(path)}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; name one of the sweep files in it: {_sweeps_in(path)}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not a text file in UTF-8; a sweep is a YAML or a Python file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def parse(path: Path, text: str) -> Document:
    """A sweep file's values, by YAML 1.2; a `UserError` when it is not YAML or not a mapping."""
    root = _compose(path, text)
    if root is None:
        raise UserError(f"{path}:1: the file is empty; a sweep needs dataset, model and trials")
    if not isinstance(root, MappingNode):
        kind, line = "a list" if isinstance(root, SequenceNode) else shown(root.value), root.start_mark.line + 1
        raise UserError(f"{path}:{line}: {kind} at the top; a sweep is a mapping with dataset, model and trials")
    problems: list[Problem] = []
    value = _Values(problems).of(root, ())
    document = Document(path, value, root)
    if problems:
        raise document.error(problems)
    return document


def _compose(path: Path, text: str) -> Node | None:
    try:
        root: Node | None = YAML(typ="safe", pure=True).compose(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else text[: getattr(error, "position", 0)].count("\n") + 1
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        context = getattr(error, "context", None)
        during = f" ({context})" if context else ""
        raise UserError(f"{path}:{line}: not valid YAML: {reason}{during}") from error
    return root


class _Values:
    """Nodes to plain values; collects what the nodes cannot say."""

    # YAML 1.2 has neither dates nor merge keys: those of YAML 1.1 are text here.
    TEXT = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "timestamp", "merge", "value"))
    CONSTRUCTED = frozenset(f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null", "map", "seq"))

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self.constructor = YAML(typ="safe", pure=True).constructor
        self.open: list[Node] = []

    def of(self, node: Node, loc: Loc) -> Any:
        if node in self.open:
            return self._reject(loc, "the alias contains itself")
        if node.tag not in self.TEXT | self.CONSTRUCTED:
            return self._reject(loc, f"the tag {node.tag} is not allowed: a sweep holds plain values")
        if isinstance(node, ScalarNode):
            return self._scalar(node, loc)
        self.open.append(node)
        value = self._mapping(node, loc) if isinstance(node, MappingNode) else self._sequence(node, loc)
        self.open.pop()
        return value

    def _scalar(self, node: ScalarNode, loc: Loc) -> Any:
        if node.tag in self.TEXT:
            return node.value
        try:
            return self.constructor.construct_object(node)
        except ValueError as error:
            return self._reject(loc, f"{shown(node.value)} is not a value: {error}")

    def _sequence(self, node: Node, loc: Loc) -> list[Any]:
        return [self.of(item, (*loc, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: Node, loc: Loc) -> dict[str, Any]:
        values: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key, item in node.value:
            name, line = key.value, key.start_mark.line + 1
            if not isinstance(key, ScalarNode) or key.tag not in self.TEXT:
                self._reject(loc, "a key that is not a name; keys are text", line)
            elif name in first:
                self._reject((*loc, name), f"given twice, first on line {first[name]}", line)
            else:
                first[name] = line
                values[name] = self.of(item, (*loc, name))
        return values

    def _reject(self, loc: Loc, message: str, line: int | None = None) -> None:
        self.problems.append(Problem(loc, message, line))


def _child(node: Node, part: str | int) -> tuple[Node, int] | None:
    if isinstance(node, MappingNode):
        return next(((item, key.start_mark.line) for key, item in node.value if key.value == part), None)
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item, item.start_mark.line
    return None


def _sweeps(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.iterdir()) if file.suffix in (".yaml", ".yml", ".py"))


def _sweeps_in(folder: Path) -> str:
    return ", ".join(file.name for file in _sweeps(folder)) or "(there is none)"


def _beside(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; there is no folder {path.parent} either"
    return nearest(str(path), [str(file) for file in _sweeps(path.parent)])
