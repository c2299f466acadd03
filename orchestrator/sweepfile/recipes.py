"""Recipes: settings of `train` in a file of their own, published ones that ship or one's own beside the sweep file.

`train: {recipe: torchvision_resnet50, lr: 0.25}` stands for the recipe's settings with those beside it in their place.
A trial holds the settings and never the recipe's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prunesweep.orchestrator.sweepfile.document import Document, Loc, Problem, Rejected, noting, read_text, shown
from prunesweep.orchestrator.sweepfile.grammar import RECIPE
from prunesweep.orchestrator.sweepfile.validation import validate
from prunesweep.orchestrator.sweepfile.yaml import parse
from prunesweep.workers.errors import UserError, unknown

FOLDER = Path(__file__).parent.parent / "recipes"
"""Of those that ship."""

KEY = "recipe"


@dataclass(frozen=True)
class Recipe:
    """Settings of `train` with what they are, where they were published, and what of that they do not express."""

    title: str
    source: str
    differs: str
    train: Mapping[str, Any]


def shipped() -> dict[str, Path]:
    """The files of the recipes that ship, by name."""
    return {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}


def read_recipe(name: str, folder: Path) -> Recipe:
    """A recipe by its name, or by a path from `folder`; raises `UserError` with the recipe's file and line."""
    is_path = "/" in name or name.endswith((".yaml", ".yml"))
    if not is_path and name not in shipped():
        raise UserError(unknown("recipe", name, shipped(), more=", or the path of a file of your own"))
    path = folder / name if is_path else shipped()[name]
    document = parse(path, read_text(path))
    try:
        read = validate(RECIPE, document.value)
    except Rejected as rejected:
        raise document.error(rejected.problems) from rejected
    return Recipe(read["title"], read.get("source", ""), read.get("differs", ""), read["train"])


def with_recipes(document: Document, folder: Path) -> Document:
    """The document with the settings of its recipes, those beside them first; raises `UserError`.

    A recipe's own file is read from `folder`, that of the sweep file.
    """
    value, problems = document.value, list[Problem]()
    for loc, train in _trains(value):
        with noting(problems):
            value = _replaced(value, loc, {**_settings(train, loc, folder), **_without_recipe(train)})
    if problems:
        raise document.error(problems)
    return replace(document, value=value)


def _trains(value: Mapping[str, Any]) -> Iterator[tuple[Loc, dict[str, Any]]]:
    """The mappings `train` of a file and of its blocks that name a recipe."""
    blocks = value.get("trials")
    places: list[tuple[Loc, Any]] = [((), value)]
    places += [(("trials", index), block) for index, block in enumerate(blocks if isinstance(blocks, list) else ())]
    for loc, mapping in places:
        train = mapping.get("train") if isinstance(mapping, dict) else None
        if isinstance(train, dict) and KEY in train:
            yield (*loc, "train"), train


def _settings(train: Mapping[str, Any], loc: Loc, folder: Path) -> Mapping[str, Any]:
    name = train[KEY]
    if not isinstance(name, str):
        several = "; for several give a block to each" if isinstance(name, list) else ""
        raise Rejected(Problem((*loc, KEY), f"{shown(name)} is not allowed: the name of a recipe, or a path{several}"))
    try:
        return read_recipe(name, folder).train
    except UserError as error:
        first, *others = str(error).splitlines()
        lines = [first, *(line for line in others if line.startswith(f"{folder / name}:"))]  # the rest quotes the file
        raise Rejected(*(Problem((*loc, KEY), line) for line in lines)) from error


def _without_recipe(train: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in train.items() if name != KEY}


def _replaced(value: Any, loc: Loc, new: Any) -> Any:
    """The value with `new` at a place in it."""
    if not loc:
        return new
    first, *rest = loc
    if isinstance(value, list):
        return [_replaced(item, tuple(rest), new) if index == first else item for index, item in enumerate(value)]
    return {**value, first: _replaced(value[first], tuple(rest), new)}
