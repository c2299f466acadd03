"""YAML 1.2 to plain values, and the line on which each of them stands. Nothing in a file can run code or grow."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from prunesweep.orchestrator.sweepfile.document import (
    MAX_WHOLE,
    Document,
    Loc,
    Problem,
    Rejected,
    noting,
    shown,
)
from prunesweep.orchestrator.sweepfile.hints import of_another_program
from prunesweep.orchestrator.sweepfile.yaml_errors import yaml_error
from prunesweep.workers.errors import UserError

MAX_DEPTH = 20
MAX_TEXT = 1000
MAX_VALUES = 200_000
"""More than a file of `MAX_BYTES` can hold, unless it has aliases of aliases."""


def _tags(*names: str) -> frozenset[str]:
    return frozenset(f"tag:yaml.org,2002:{name}" for name in names)


# YAML 1.2 has neither dates nor merge keys: those of YAML 1.1 are text here.
TEXT = _tags("str", "timestamp", "merge", "value")
ALLOWED: dict[type[Node], frozenset[str]] = {
    ScalarNode: TEXT | _tags("int", "float", "bool", "null"),
    SequenceNode: _tags("seq"),
    MappingNode: _tags("map"),
}


def dump(settings: Mapping[str, Any]) -> str:
    """The text of a sweep file with these settings; a `UserError` when they are not plain values."""
    yaml, text = YAML(typ="safe", pure=True), StringIO()
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    try:
        yaml.dump(_writable(settings), text)
    except YAMLError as error:
        raise UserError(f"a sweep's settings are numbers, texts, lists and mappings: {error}") from error
    return text.getvalue()


def _writable(value: Any) -> Any:
    """The value in the types that YAML has: NumPy's arrays and numbers and all sequences as Python's, paths as text."""
    if isinstance(value, Mapping):
        return {name: _writable(item) for name, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [_writable(item) for item in value]
    if type(value).__module__ == "numpy":
        return _writable(list(value)) if value.ndim else plain_scalar(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def plain_scalar(value: Any) -> Any:
    """A scalar of NumPy as Python's. A float of fewer bits is the number that it is printed as: float32(0.1) is 0.1."""
    scalar = value.item()
    return float(str(value)) if isinstance(scalar, float) else scalar


def parse(path: Path | None, text: str) -> Document:
    """A sweep file's values; a `UserError` when it is not YAML or not a mapping."""
    root = _compose(path, text)
    if root is None:
        raise UserError(f"{path}:1: the file is empty; a sweep needs dataset, model and trials")
    if not isinstance(root, MappingNode):
        kind, line = "a list" if isinstance(root, SequenceNode) else shown(root.value), root.start_mark.line + 1
        raise UserError(f"{path}:{line}: {kind} at the top; a sweep is a mapping with dataset, model and trials")
    values, top = _Values(), {}
    with noting(values.problems):
        top = values.of(root, (), root.start_mark.line + 1)
    foreign = of_another_program(top) if top else None  # with a tag of its own the top has no value
    if foreign:
        raise UserError(f"{path}:1: {foreign}" if path else foreign)
    document = Document(path, top, values.lines)
    if values.problems:
        raise document.error(values.problems)
    return document


def _compose(path: Path | None, text: str) -> Node | None:
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = MAX_DEPTH
    try:
        with warnings.catch_warnings():
            # YAML allows to name another value by the same anchor.
            warnings.simplefilter("ignore", ReusedAnchorWarning)
            root: Node | None = yaml.compose(text)
    except MaxDepthExceededError as error:
        line = error.problem_mark.line + 1
        raise UserError(f"{path}:{line}: nested too deeply: at most {MAX_DEPTH} levels") from error
    except YAMLError as error:
        raise yaml_error(path, text, error) from error
    return root


class _Values:
    """Nodes to plain values; collects what is wrong with them, and the line of each."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.lines: dict[Loc, int] = {}
        self.constructor = YAML(typ="safe", pure=True).constructor
        self.open: list[Node] = []

    def of(self, node: Node, loc: Loc, line: int) -> Any:
        """The value of the node at `loc`; raises `Rejected` when there are too many."""
        self.lines[loc] = line
        if len(self.lines) > MAX_VALUES:
            raise Rejected(Problem((), f"more than {MAX_VALUES:,} values: the aliases of this file repeat too much"))
        if node in self.open:
            return self._reject(loc, "the alias contains itself")
        if node.tag not in ALLOWED[type(node)]:
            return self._reject(loc, f"the tag {node.tag} is not allowed: a sweep holds plain values")
        if isinstance(node, ScalarNode):
            return self._scalar(node, loc)
        self.open.append(node)
        value = self._mapping(node, loc) if isinstance(node, MappingNode) else self._sequence(node, loc)
        self.open.pop()
        return value

    def _scalar(self, node: ScalarNode, loc: Loc) -> Any:
        wrong, value = _wrong_prose(node.value) if loc == ("notes",) else _wrong_text(node.value), node.value
        if not wrong and node.tag not in TEXT:
            try:
                value = self.constructor.construct_object(node)
                wrong = _wrong_number(value)
            except (ValueError, LookupError):
                wrong = f"it is no {str(node.tag).rpartition(':')[2]}"
        given = shown(node.value) if node.tag in TEXT else node.value[:80]
        return self._reject(loc, f"{given} is not allowed: {wrong}") if wrong else value

    def _sequence(self, node: Node, loc: Loc) -> list[Any]:
        items = enumerate(node.value)
        return [self.of(item, (*loc, index), item.start_mark.line + 1) for index, item in items]

    def _mapping(self, node: Node, loc: Loc) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode) or key.tag not in TEXT or _wrong_text(key.value):
                decimal = isinstance(key.value, str) and key.value.isdecimal()
                comma = "; is it a decimal comma? write 0.1" if decimal else ""
                self._reject(loc, f"a key that is not a name; keys are text{comma}", line)
            elif key.value in values:
                first = self.lines[*loc, key.value]
                self._reject((*loc, key.value), f"given twice, first on line {first}", line)
            else:
                values[key.value] = self.of(item, (*loc, key.value), line)
        return values

    def _reject(self, loc: Loc, message: str, line: int | None = None) -> None:
        self.problems.append(Problem(loc, message, line))


def _wrong_prose(text: str) -> str | None:
    """What is wrong with a text that may have lines and paragraphs; how long it may be is said elsewhere."""
    return None if text.replace("\n", "").isprintable() else "it has characters that cannot be printed"


def _wrong_text(text: str) -> str | None:
    """What is wrong with a text: it must fit into a line of a table and into the name of a file."""
    if len(text) > MAX_TEXT:
        return f"{len(text):,} characters, and at most {MAX_TEXT:,} are taken"
    return None if text.isprintable() else "it has characters that cannot be printed"


def _wrong_number(value: Any) -> str | None:
    if isinstance(value, float) and not isfinite(value):
        return "numbers are finite"
    return f"at most {MAX_WHOLE:,}" if isinstance(value, int) and abs(value) > MAX_WHOLE else None
