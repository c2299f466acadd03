"""Sweep file -> trials. Strict: whatever is wrong is an error that names the file, the line and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from prunesweep.orchestrator.resources import Shares
from prunesweep.orchestrator.search.cost import planned
from prunesweep.orchestrator.search.spec import Search
from prunesweep.orchestrator.sweep import About, Sweep
from prunesweep.orchestrator.sweepfile import python
from prunesweep.orchestrator.sweepfile.cells import Block, Cell, Element, Grid, grid, keep
from prunesweep.orchestrator.sweepfile.changes import changed, changed_resources
from prunesweep.orchestrator.sweepfile.document import (
    Document,
    Loc,
    Problem,
    Rejected,
    listed,
    noting,
    read_text,
    shown,
    until_many,
    where,
)
from prunesweep.orchestrator.sweepfile.grammar import PRUNE, SHARED, SWEEP, block_model, check_count, header
from prunesweep.orchestrator.sweepfile.recipes import with_recipes
from prunesweep.orchestrator.sweepfile.search_keys import SEARCH_MODEL, Request
from prunesweep.orchestrator.sweepfile.searching import check_equal_cost, requested, searches_of, with_space
from prunesweep.orchestrator.sweepfile.starting import require_used, with_absolute_paths
from prunesweep.orchestrator.sweepfile.targets import with_sparsity
from prunesweep.orchestrator.sweepfile.training import pattern_places
from prunesweep.orchestrator.sweepfile.trials import check_rules, completed, trials_of
from prunesweep.orchestrator.sweepfile.validation import validate
from prunesweep.orchestrator.sweepfile.yaml import dump, parse
from prunesweep.workers.errors import UserError
from prunesweep.workers.methods import METHODS
from prunesweep.workers.spec import TrialSpec


def read_sweep(path: Path, changes: Sequence[str] = ()) -> Sweep:
    """Read a sweep from a YAML file, or from a Python file with `def trials()`; raises `UserError`.

    `changes`, of YAML files only, are those of `orchestrator.sweepfile.changes`.
    """
    text = read_text(path)
    if changes and path.suffix == ".py":
        raise UserError("--set changes YAML files; a sweep in Python is changed in its file")
    if changes:
        return sweep_of(changed(parse(path, text).value, path, changes), path.parent)
    if path.suffix == ".py":
        top, trials = python.read(path, text)
        return _sweep(top, trials, [], text, path)
    document, places = with_absolute_paths(with_recipes(parse(path, text), path.parent), path.parent)
    return replace(_sweep(*_read_yaml(document), text, path), places={**places, **pattern_places(document)})


def sweep_of(settings: Mapping[str, Any], folder: Path | None = None) -> Sweep:
    """The sweep with these settings, which are a sweep file's; raises `UserError`. Its file would be `NAME.yaml`.

    Recipes of one's own and trained weights are looked for from `folder`, by default the current one.
    """
    if "name" not in settings:
        raise UserError("name: missing: a sweep that has no file needs one, for its folder in the store")
    text = dump(settings)
    base = folder or Path()
    document, places = with_absolute_paths(with_recipes(parse(None, text), base), base)
    top, trials, searches = _read_yaml(document)
    return replace(_sweep(top, trials, searches, text, Path(f"{top['name']}.yaml")), places=places)


def with_resources(sweep: Sweep, changes: Sequence[str]) -> Sweep:
    """The sweep with changes of `resources` made, such as `resources.cpus=1`; raises `UserError`, also for others."""
    given = {"name": sweep.name, "resources": changed_resources(sweep.resources.given, changes, sweep.path)}
    try:
        top = header(sweep.path, given)
        check_rules(top, sweep.trials)
    except Rejected as rejected:
        raise listed(f"--set: {where(problem.loc)}: {problem.message}" for problem in rejected.problems) from rejected
    return replace(sweep, resources=Shares(top["resources"]))


def _sweep(top: Mapping[str, Any], trials: list[TrialSpec], searches: list[Search], text: str, path: Path) -> Sweep:
    distinct = tuple(dict.fromkeys(trials))
    authors = top.get("authors", ())
    names = (authors,) if isinstance(authors, str) else tuple(authors)
    about = About(top.get("title", ""), names, top.get("notes", ""))
    shares = Shares(top.get("resources", {}))
    duplicates = len(trials) - len(distinct)
    different = {search.key: search for search in searches}
    return Sweep(top["name"], distinct, duplicates, shares, text, path, about=about, searches=(*different.values(),))


def _read_yaml(document: Document) -> tuple[dict[str, Any], list[TrialSpec], list[Search]]:
    """The checked settings of the whole file, and all the trials and searches of its blocks, equal ones too."""
    problems: list[Problem] = []
    top: dict[str, Any] = {}
    blocks: list[list[Block]] = []
    default = {"name": document.path.stem} if document.path else {}
    with noting(problems):
        top = validate(SWEEP, {**default, **document.value})
    for loc, block in until_many(_raw_blocks(document), problems):
        with noting(problems):
            blocks.append(_by_method(block, loc, {key: top[key] for key in (*SHARED, *PRUNE) if key in top}))
    grids: list[list[Grid]] = []
    for methods in until_many(blocks if not problems else (), problems):
        with noting(problems):
            grids.append([grid(block) for block in methods])
    trials: list[TrialSpec] = []
    searches: list[tuple[Search, Request]] = []
    if not problems:
        with noting(problems):
            trials, searches = _expanded(grids, _seeds(top))
            check_rules(top, [*trials, *(search.base for search, _ in searches)])
            check_equal_cost(searches)
            require_used(document.value, [*trials, *(search.base for search, _ in searches)])
    if problems:
        raise document.error(problems)
    return top, trials, [search for search, _ in searches]


def _raw_blocks(document: Document) -> Iterator[tuple[Loc, dict[str, Any]]]:
    trials = document.value.get("trials")
    for index, block in enumerate(trials if isinstance(trials, list) else ()):
        if isinstance(block, dict):
            yield ("trials", index), block


def _by_method(block: dict[str, Any], loc: Loc, around: Mapping[str, Any]) -> list[Block]:
    """A block for each of the methods that the mapping names, checked against that method's hyperparameters."""
    problems: list[Problem] = []
    blocks: list[Block] = []
    methods = _methods(block, loc)
    search = validate(SEARCH_MODEL, block["search"], (*loc, "search")) if "search" in block else None
    block = with_sparsity(block, search, loc) if search else block
    for method in until_many(methods, problems):
        with noting(problems):
            model, names = _model_of(method), [other.value for other in methods]
            request = requested(search, method.value, names, (*loc, "search")) if search else None
            settings = validate(model, with_space(block, request) if request else block, loc)
            takes = {key: value for key, value in around.items() if key not in PRUNE or f"{key}_" in model.model_fields}
            blocks.append(Block(loc, method, settings, takes, request))
    if problems:
        raise Rejected(*problems)
    return blocks


def _methods(block: dict[str, Any], loc: Loc) -> list[Element]:
    loc, given = (*loc, "method"), block.get("method")
    if given is None:
        for key in get_close_matches("method", [str(key) for key in block], n=1):
            raise Rejected(Problem((*loc[:-1], key), f'unknown key "{key}": write "method"'))
        raise Rejected(Problem(loc, f"missing: one of {', '.join(sorted(METHODS))}, or module:name"))
    if not isinstance(given, list):
        return [Element(given, loc)]
    if not given:
        raise Rejected(Problem(loc, "an empty list is not allowed: give at least one method"))
    for index, name in enumerate(given):
        if name in given[:index]:
            raise Rejected(Problem((*loc, index), f"{shown(name)} is given twice"))
    return [Element(name, (*loc, index)) for index, name in enumerate(given)]


def _model_of(method: Element) -> type[BaseModel]:
    if not isinstance(method.value, str):
        raise Rejected(Problem(method.loc, f"{shown(method.value)} is not allowed: the name of a method"))
    try:
        return block_model(method.value)
    except UserError as error:
        raise Rejected(Problem(method.loc, str(error))) from error


def _seeds(top: Mapping[str, Any]) -> list[int]:
    given = top.get("seeds", 1)
    return list(range(given)) if isinstance(given, int) else given


Searched = tuple[Search, Request]


def _expanded(grids: list[list[Grid]], seeds: list[int]) -> tuple[list[TrialSpec], list[Searched]]:
    """The trials and searches of all blocks; raises `Rejected`, before cells are made where there would be too many."""
    check_count(sum(grid.count for methods in grids for grid in methods) * len(seeds))
    problems: list[Problem] = []
    trials: list[TrialSpec] = []
    searches: list[Searched] = []
    for methods in until_many(grids, problems):
        loc, requests = methods[0].block.loc, {grid.block.method.value: grid.block.request for grid in methods}
        with noting(problems):
            for cell in until_many(_kept(methods), problems):
                request = requests[cell["method"].value]
                with noting(problems):
                    if request is None:
                        trials += trials_of(cell, loc, seeds)
                    else:
                        searches += [(search, request) for search in searches_of(cell, request, loc, seeds)]
                check_count(len(trials) + len(searches))
        check_count(len(trials) + sum(planned(search).candidates for search, _ in searches))
    if problems:
        raise Rejected(*problems)
    return trials, searches


def _kept(methods: list[Grid]) -> list[Cell]:
    """The cells of one block of the file, for all its methods."""
    block = methods[0].block
    cells = [completed(cell) for grid in methods for cell in grid.cells()]
    return keep(cells, block.settings.get("exclude", []), block.loc)
