"""The cells of a trial block: axes multiply, zipped axes advance together, excluded cells are dropped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from math import prod
from typing import Any

from prunesweep.orchestrator.resources import is_called
from prunesweep.orchestrator.sweepfile import evaluation_sets, validation_split
from prunesweep.orchestrator.sweepfile.document import Loc, Problem, Rejected, shown
from prunesweep.orchestrator.sweepfile.methods import BUDGET, PHASE, RETRAIN, TIMES, hyperparameters, loading
from prunesweep.orchestrator.sweepfile.search_keys import Request
from prunesweep.orchestrator.sweepfile.settings import SPARSITY, holds_list, is_axis, meant, train_settings
from prunesweep.orchestrator.sweepfile.starting import FROM_INIT, initial
from prunesweep.workers import data, models, tasks
from prunesweep.workers.errors import UserError, nearest, unknown
from prunesweep.workers.optimizer_settings import SETTINGS
from prunesweep.workers.spec import CLASSIFICATION, Choice, freeze

Choose = Callable[[str, Mapping[str, Any]], Choice]
CHOOSE: dict[str, Choose] = {"dataset": data.choose, "model": models.choose, "task": tasks.choose}


@dataclass(frozen=True)
class Element:
    """One value of an axis, and where it stands in the file, or would if it were `said` there."""

    value: Any
    loc: Loc
    said: bool = True


NESTED = ("train", FROM_INIT, "prune")
"""Keys whose value is a mapping of settings."""

PATTERNS = ("prune.only", "prune.except")
"""Settings of which a value is a list of patterns."""

PERCENTAGE = re.compile(r"[0-9]+(\.[0-9]+)?\s*%")

MAX_COMPARED = 5_000_000
"""This many comparisons of values and cells take a few seconds."""

Axes = dict[str, list[Element]]
"""Setting -> its values; settings of the training are spelled `train.lr`."""

Cell = dict[str, Element]
"""Setting -> its value in this cell."""


@dataclass(frozen=True)
class Block:
    """A trial block for one of its methods, checked, and what the file says around it of data, model and training."""

    loc: Loc
    method: Element
    settings: Mapping[str, Any]
    around: Mapping[str, Any]
    request: Request | None = None

    @property
    def said(self) -> tuple[Mapping[str, Any], Mapping[str, Any], Loc]:
        """Its settings, those around it, and where it stands."""
        return self.settings, self.around, self.loc

    @property
    def zips(self) -> list[tuple[Loc, list[str]]]:
        """The lists of axes that advance together."""
        loc, given = (*self.loc, "zip"), self.settings.get("zip", [])
        if given and isinstance(given[0], str):
            return [(loc, given)]
        return [((*loc, index), names) for index, names in enumerate(given)]


@dataclass(frozen=True)
class Grid:
    """The cells of a block, before they are made: what all have in common, and the axes, zipped ones as one."""

    block: Block
    start: Cell
    axes: list[list[Cell]]

    @property
    def count(self) -> int:
        """How many cells there are."""
        return prod(map(len, self.axes))

    def cells(self) -> list[Cell]:
        """All cells, in the order of the file with the last axis fastest."""
        return [_merged(self.start, parts) for parts in product(*self.axes)]


def grid(block: Block) -> Grid:
    """The grid of a block; raises `Rejected`."""
    for other in (RETRAIN, PHASE):
        if BUDGET in block.settings and other in block.settings:
            raise Rejected(Problem((*block.loc, BUDGET), f"give either {BUDGET} or {other}, not both"))
    if TIMES in block.settings and BUDGET in block.settings:
        raise Rejected(Problem((*block.loc, TIMES), f"give either {TIMES} or {BUDGET}, not both"))
    if TIMES in block.settings and block.request is not None:
        message = f"a search says its own budget (search.budget); leave {TIMES} out, or the search"
        raise Rejected(Problem((*block.loc, TIMES), message))
    start = {
        **_defaults(block),
        "method": block.method,
        evaluation_sets.KEY: Element(*evaluation_sets.asked(*block.said)),
    }
    return Grid(block, start, _groups(_given(block), block.zips))


def keep(cells: list[Cell], exclude: Sequence[Mapping[str, Any]], loc: Loc) -> list[Cell]:
    """The cells that no mapping of `exclude` matches; raises `Rejected` when one matches none, or all are dropped."""
    _check_work(cells, exclude, loc)
    dropped: set[int] = set()
    for index, mapping in enumerate(exclude):
        place = (*loc, "exclude", index)
        wanted = list(_wanted(mapping, cells, place))
        matched = {id(cell) for cell in cells if all(_matches(cell, name, values) for name, values in wanted)}
        if not matched:
            raise Rejected(Problem(place, f"{shown(mapping)} matches no cell of this block"))
        dropped |= matched
    if len(dropped) == len(cells):
        raise Rejected(Problem((*loc, "exclude"), "every cell of this block is excluded; leave out the block instead"))
    return [cell for cell in cells if id(cell) not in dropped]


# --- axes


def _given(block: Block) -> Axes:
    lists = _list_settings(block.method.value)
    axes = {**_axes(block.around, (), lists), **_axes(block.settings, block.loc, lists)}
    for kind in ("dataset", "model"):
        if kind not in axes:
            raise Rejected(Problem((*block.loc, kind), f"missing: give a {kind} here or for the whole file"))
    drawn = (replace(of, value=validation_split.drawn(of.value, *block.said)) for of in axes["dataset"])
    return {**axes, "dataset": [*drawn]}


def _axes(settings: Mapping[str, Any], loc: Loc, lists: frozenset[str], prefix: str = "") -> Axes:
    axes: Axes = {}
    for key, value in settings.items():
        if key in NESTED:
            axes |= _axes(value, (*loc, key), lists, f"{key}.")
        elif key not in ("method", "zip", "exclude", "search", validation_split.KEY, evaluation_sets.KEY):
            elements = _elements(value, (*loc, key), f"{prefix}{key}" in lists)
            axes[f"{prefix}{key}"] = [_chosen(key, item) for item in elements] if key in CHOOSE else elements
            if key == "init":
                axes[key] = [replace(item, value=initial(item.value, item.loc)) for item in elements]
    return axes


def _elements(value: Any, loc: Loc, is_list: bool) -> list[Element]:
    if is_axis(value, is_list=is_list):
        return [Element(freeze(item), (*loc, index)) for index, item in enumerate(value)]
    return [Element(freeze(value), loc)]


@cache
def _list_settings(method: str) -> frozenset[str]:
    """The settings of which one value is a list."""
    own = {h.name for h in hyperparameters(method) if holds_list(h.type)}
    trainings = {f"{key}.{h.name}" for key in ("train", FROM_INIT) for h in train_settings() if holds_list(h.type)}
    return frozenset(own | {*PATTERNS} | trainings)


def _chosen(kind: str, element: Element) -> Element:
    """A dataset, model or task by its name, with all its options."""
    options = {"name": element.value} if isinstance(element.value, str) else dict(element.value)
    name, choose = options.pop("name"), CHOOSE[kind]
    where: Loc = element.loc if isinstance(element.value, str) else (*element.loc, "name")
    try:
        if kind == "model":
            where = (*element.loc, "path") if "path" in options else where
            options = models.read(name, options)
        with loading(name):
            choose(name, {})
            for option, value in options.items():
                where = (*element.loc, option)
                choose(name, {option: value})
            where = element.loc
            return Element(choose(name, options), element.loc)
    except UserError as error:
        raise Rejected(Problem(where, str(error))) from error


def _defaults(block: Block) -> Cell:
    """What holds where nothing is said, placed where it would be said; settings of the optimizer are left to it."""
    base = block.loc if "train" in block.settings else ()
    given = {h.name: None if h.name in ("lr", *SETTINGS) else h.default for h in train_settings()}
    train = {f"train.{name}": Element(value, (*base, "train", name), said=False) for name, value in given.items()}
    own = {h.name: Element(h.default, (*block.loc, h.name)) for h in hyperparameters(block.method.value)}
    patterns = {name: Element((), (*block.loc, *name.split("."))) for name in PATTERNS}
    begun = {"task": Element(CLASSIFICATION, (*block.loc, "task")), "init": Element(None, (*block.loc, "init"), False)}
    return {**train, **patterns, **begun, SPARSITY.name: Element(None, (*block.loc, SPARSITY.name)), **own}


# --- product and zip


def _groups(axes: Axes, zips: list[tuple[Loc, list[str]]]) -> list[list[Cell]]:
    """Axes as lists of parts of cells: one list for each group of zipped axes, one for every other axis."""
    partners: dict[str, list[str]] = {}
    for loc, names in zips:
        _check_zip(axes, names, partners, loc)
        partners |= dict.fromkeys(names, names)
    groups = []
    for name in axes:
        names = partners.get(name, [name])
        if name == min(names, key=list(axes).index):
            groups.append([{n: axes[n][index] for n in names} for index in range(len(axes[name]))])
    return groups


def _check_zip(axes: Axes, names: list[str], before: Mapping[str, Any], loc: Loc) -> None:
    for index, name in enumerate(names):
        if name not in axes:
            raise Rejected(Problem((*loc, index), unknown("axis of this block", name, axes)))
        if name in before or name in names[:index]:
            raise Rejected(Problem((*loc, index), f"{name} is zipped twice; an axis advances in one group"))
    if len({len(axes[name]) for name in names}) > 1:
        counts = ", ".join(f"{name} has {len(axes[name])}" for name in names)
        raise Rejected(Problem(loc, f"zipped axes need equally many values: {counts}"))


def _merged(start: Cell, parts: Sequence[Cell]) -> Cell:
    cell = dict(start)
    for part in parts:
        cell.update(part)
    return cell


# --- exclude


def _check_work(cells: list[Cell], exclude: Sequence[Mapping[str, Any]], loc: Loc) -> None:
    """Every value of `exclude` is compared with every cell: hours, for a file of a few kilobytes."""
    values = sum(len(value) if isinstance(value, list) else 1 for mapping in exclude for value in mapping.values())
    if values * len(cells) > MAX_COMPARED:
        message = f"{values:,} values for {len(cells):,} cells are too many; give smaller blocks instead"
        raise Rejected(Problem((*loc, "exclude"), message))


def _wanted(mapping: Mapping[str, Any], cells: list[Cell], loc: Loc) -> Iterator[tuple[str, list[Element]]]:
    """The settings that a mapping names, with its values; raises `Rejected` for one that is in none of the cells."""
    lists = frozenset().union(*(_list_settings(name) for name in {cell["method"].value for cell in cells}))
    names = {name for cell in cells for name in cell}
    for name, value, place in _flat(mapping, loc):
        if name not in names:
            raise Rejected(Problem(place, unknown("setting of this block", name, names)))
        values = _elements(value, place, name in lists)
        for element in values:
            _check_occurs(name, element, [cell[name].value for cell in cells if name in cell])
        yield name, values


def _flat(mapping: Mapping[str, Any], loc: Loc) -> Iterator[tuple[str, Any, Loc]]:
    for key, value in mapping.items():
        if key in NESTED and isinstance(value, dict):
            yield from ((f"{key}.{name}", item, (*loc, key, name)) for name, item in value.items())
        else:
            yield key, value, (*loc, key)


def _check_occurs(name: str, wanted: Element, values: list[Any]) -> None:
    if any(_same(value, wanted.value) for value in values):
        return
    texts = list(dict.fromkeys(str(v) if isinstance(v, Choice | str) else shown(v) for v in values))
    closest = nearest(wanted.value, texts) if isinstance(wanted.value, str) else ""
    closest = next((f"; did you mean {n:g}?" for n in meant(wanted.value) if any(_same(v, n) for v in values)), closest)
    message = f"{shown(wanted.value)} matches no cell: {name} is {', '.join(texts)} in this block{closest}"
    raise Rejected(Problem(wanted.loc, message))


def _matches(cell: Cell, name: str, wanted: list[Element]) -> bool:
    return name in cell and any(_same(cell[name].value, element.value) for element in wanted)


def _same(value: Any, wanted: Any) -> bool:
    """Equal, where a dataset or model may be given by its name or with some of its options; true is not 1.

    Numbers are compared as trials have them, to twelve digits, and percentages by their value: 1 - 0.7 as a script
    writes it is 0.3, 90% is 0.9, and 5.0% is 5%.
    """
    if isinstance(value, Choice):
        return is_called(value, wanted)
    return bool(_plain(value) == _plain(wanted)) and isinstance(value, bool) == isinstance(wanted, bool)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, str) and PERCENTAGE.fullmatch(value):
        return float(f"{float(value.rstrip(' %')) / 100:.12g}")
    return float(f"{value:.12g}") if isinstance(value, float) else value
