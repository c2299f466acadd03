"""The index beside a sweep's tables: of which files of its stages they were made, so that these are read once.

    <store>/<sweep>/collected.json     by stage the stamps of its result and curve as they were read, and were whole

Where a stage's files have the stamps that the index says, nothing of it has to be read to know that it is done, nor,
when all have, to know that the tables are right (`orchestrator.run.collected`). An index that is missing, damaged or of
another version costs reading all once more. Imports neither torch nor Ray.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prunesweep.workers.filesystems import Stamp
from prunesweep.workers.seal import intact, sealed_json, unsealed_json
from prunesweep.workers.store import Store

INDEX = "collected.json"


@dataclass(frozen=True)
class Index:
    """`of` is a digest of what the tables answer, `by` of this version's columns, `tables` has their checksums.

    `files` has for each stage a line, `result.json 812 0 9e107d9d; curve.parquet 2050 0 1f3870be`: names, and of each
    the parts of its `Stamp`.
    """

    of: str = ""
    by: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)

    def stamps(self) -> dict[str, dict[str, Stamp]]:
        """By stage and file."""
        return {key: parsed(text) for key, text in self.files.items()}


NONE = Index()
"""Of what was never collected."""


def read_index(sweep: str, store: Store) -> Index:
    """The index of a sweep's tables; `NONE` where it is missing or damaged."""
    data = store.read(sweep, INDEX)
    try:
        noted = unsealed_json(data) if data is not None and intact(data) else {}
    except ValueError:
        return NONE
    return Index(str(noted.get("of")), str(noted.get("by")), _texts(noted.get("files")), _texts(noted.get("tables")))


def write_index(index: Index, sweep: str, store: Store) -> None:
    """Over the one that was there."""
    content = {"of": index.of, "by": index.by, "files": index.files, "tables": index.tables}
    store.write(sealed_json(content, indent=None), sweep, INDEX)


def trust(sweeps: Iterable[str], store: Store) -> None:
    """Let a remote store read no more what is as the indexes of these sweeps say.

    On a local disk bits rot, and no one tells: there each result is read and checked whenever a plan is made.
    """
    if not store.is_local:
        for index in store.at_once(lambda sweep: read_index(sweep, store), list(sweeps)):
            store.trust(index.stamps())


def line(stamps: Mapping[str, Stamp]) -> str:
    """What `parsed` reads."""
    return "; ".join(f"{name} {stamp.size} {stamp.modified} {stamp.tag}" for name, stamp in sorted(stamps.items()))


def parsed(text: str) -> dict[str, Stamp]:
    """The stamps by file; what is no stamp is left out, so that the file is read."""
    stamps = {}
    for part in text.split("; "):
        name, *rest = part.split(" ")
        if len(rest) == 3 and rest[0].isdecimal() and rest[1].isdecimal():
            stamps[name] = Stamp(int(rest[0]), int(rest[1]), rest[2])
    return stamps


def _texts(said: Any) -> Mapping[str, str]:
    return {str(key): str(value) for key, value in said.items()} if isinstance(said, dict) else {}
