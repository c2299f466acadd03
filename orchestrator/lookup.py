"""One meaning of naming a sweep: by its name in a store, by its file, by its folder; in Python by its settings, too."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunesweep.orchestrator.records import RECORD, is_remembered, recall, require
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.orchestrator.sweepfile.document import SUFFIXES
from prunesweep.orchestrator.versions import versioned
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location
from prunesweep.workers.store import Store

NamedSweep = Sweep | Mapping[str, Any] | str | Path | Location
"""A sweep, its settings as in a sweep file, its name in the store, its file, or its folder in the store."""


def open_store(place: Location) -> Store:
    """The store there, to look at; a `UserError` where there is none."""
    store = Store(place)
    if not store.names():
        raise UserError(f"there is no store at {store.location}: `prunesweep run` makes one; name another with --store")
    return store


def find_sweep(sweep: NamedSweep, store: Store) -> Sweep:
    """The sweep that is named; a name that the store knows goes before a file of that name. Raises `UserError`."""
    known, asked = _named(sweep, store)
    return known or asked or require(_text(sweep), store)


def planned_sweep(sweep: NamedSweep, store: Store, data_folder: str | None = None) -> Sweep:
    """The sweep that is named, to plan or run it: its trials name the versions of one's own code and images.

    Those of a sweep that is named by its name are the versions that it was last run with. `data_folder` is where images
    are looked for, by default PRUNESWEEP_DATA or `data`. Raises `UserError`, also where images are missing.
    """
    known, asked = _named(sweep, store)
    return versioned(asked, store, data_folder) if asked else known or require(_text(sweep), store)


def _named(sweep: NamedSweep, store: Store) -> tuple[Sweep | None, Sweep | None]:
    """The sweep that the store knows by this name or folder; else the one that is given itself, or by its file."""
    if isinstance(sweep, Sweep | Mapping):
        return None, load_sweep(sweep)
    text = _text(sweep)
    known = recall(text, store)
    if known is None and (name := _name_in(store, text)) is not None:
        known = require(name, store)
    if known is None and (is_file(text) or os.path.exists(text)):  # noqa: PTH110
        return None, load_sweep(text)
    return known, None


def _text(sweep: NamedSweep) -> str:
    return sweep.reveal() if isinstance(sweep, Location) else str(sweep)


def load_sweep(sweep: NamedSweep, changes: Sequence[str] = ()) -> Sweep:
    """A sweep from its file, or from the settings that such a file would have, `name` included; raises `UserError`.

    `changes`, of YAML files only, are those of `orchestrator.sweepfile.changes`.
    """
    if isinstance(sweep, Sweep):
        return sweep
    from prunesweep.orchestrator.sweepfile.read import read_sweep, sweep_of  # what reads no file waits for no parser

    return sweep_of(sweep) if isinstance(sweep, Mapping) else read_sweep(Path(_text(sweep)), changes)


def results_place(sweep: NamedSweep, store: Store) -> Location:
    """The folder, URL or Parquet file with the results of a sweep of the store, or of any other place that is named."""
    text = "" if isinstance(sweep, Sweep | Mapping) else _text(sweep)
    is_place = "/" in text or os.path.exists(text)  # noqa: PTH110 (false for a text that can be no path)
    if text and is_place and not is_file(text) and recall(text, store) is None:
        return Location(text)
    return store.url(with_results(sweep, store))


def with_results(sweep: NamedSweep, store: Store) -> str:
    """The name of a sweep whose tables are to be read; raises `UserError` as `stored_name`, and for another's tables.

    A folder that is named as such may be a copy under another name; and at a distance footers cost requests.
    """
    name = stored_name(sweep, store)
    if store.is_local:
        from prunesweep.orchestrator.results.sealing import require_tables_of

        require_tables_of(name, Path(store.path(name)))
    return name


def stored_name(sweep: NamedSweep, store: Store) -> str:
    """The name of a sweep that the store has; raises `UserError` when it has not been run there."""
    if not isinstance(sweep, Sweep | Mapping) and is_remembered(_text(sweep), store):
        return _text(sweep)
    return require(find_sweep(sweep, store).name, store).name


def sweep_name(text: str) -> str:
    """The name of the sweep that is named, without a store: of a file the sweep's, of a folder its last part."""
    return load_sweep(text).name if is_file(text) else text.rstrip("/").rpartition("/")[2]


def is_file(text: str) -> bool:
    """Whether a text names a sweep file, there or not, rather than a sweep."""
    return Path(text).suffix in SUFFIXES


def _name_in(store: Store, text: str) -> str | None:
    """The name of the sweep whose folder in the store is named; None when something else is named."""
    bare = text.partition("?")[0] if Location(text).is_url else text
    folder, _, name = bare.rstrip("/").rpartition("/")
    place = Location(text.rstrip("/")).absolute()
    if folder and place == store.url(name):
        return name
    if os.path.isfile(Path(text) / RECORD):  # noqa: PTH113 (false for a text that can be no path)
        raise UserError(f"{text} is a sweep of another store than {store.location}: add --store {folder or '.'}")
    return None
