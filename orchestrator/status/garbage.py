"""What nothing in a store needs, and its removal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prunesweep.orchestrator.forest import forest
from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.records import known, require
from prunesweep.workers.appearing import TEMPORARY
from prunesweep.workers.claims import CLAIM
from prunesweep.workers.errors import UserError
from prunesweep.workers.files import ASIDE, File
from prunesweep.workers.init.kept import FOLDER, HASH
from prunesweep.workers.rehearsal import PREFIX
from prunesweep.workers.spec import Init
from prunesweep.workers.store import CHECKPOINTS, Store

ABANDONED = timedelta(days=1)
"""A temporary file, and a stage without a result, may be in use if they were written more recently."""

Paths = dict[tuple[str, ...], int]
"""Files and folders of the store, with their bytes."""


@dataclass(frozen=True)
class Garbage:
    """What `gc` would remove, by kind; `unreadable` are sweeps whose record is damaged.

    Which stages those need is not known: then stages count as needed all.
    """

    kinds: dict[str, Paths]
    unreadable: tuple[str, ...] = ()

    @property
    def paths(self) -> Paths:
        """All kinds together."""
        return {path: size for paths in self.kinds.values() for path, size in paths.items()}


def find(store: Store) -> Garbage:
    """Look for what nothing needs. A finished checkpoint, a file set aside, or a stage that no remembered sweep has."""
    every = store.files()
    files = [file for file in every if not file.path[0].startswith(PREFIX)]
    needed, weights, unreadable = _needed(store)
    stages = {file.path[1] for file in files if file.path[0] == "stages" and len(file.path) > 2}
    unneeded = set() if unreadable else stages - needed
    unneeded -= _begun(unneeded, files, store)
    rest = [file for file in files if not (file.path[0] == "stages" and file.path[1:2] and file.path[1] in unneeded)]
    deep = [file for file in rest if len(file.path) > 2]
    leavings = [file for file in deep if file.path[-1] in CHECKPOINTS or file.path[-1].startswith(CLAIM)]
    finished = store.done({file.path[1] for file in leavings})
    lost = {
        file for file in rest if not _recent(file) and file.path[2:] and store.unneeded(file.path[1], file.path[-1:])
    }
    unused = {f for f in rest if _is_weights(f) and f.path[1] not in weights and not unreadable and not _recent(f)}
    kinds = {
        "stages of no sweep": _folders(unneeded, files),
        "weights that no sweep starts from": _sizes(unused),
        "checkpoints and claims of finished stages": _sizes(file for file in leavings if file.path[1] in finished),
        "files of results that do not stand": _sizes(lost),
        "damaged files that were set aside": _sizes(file for file in rest if file.path[-1].startswith(ASIDE)),
        "rehearsals that were cut off": _rehearsals(every),
        "abandoned temporary files": _sizes(f for f in rest if f.path[-1].endswith(TEMPORARY) and not _recent(f)),
    }
    return Garbage({kind: paths for kind, paths in kinds.items() if paths}, unreadable)


def remove(garbage: Garbage, store: Store) -> int:
    """Remove what was found and is still not needed; returns the bytes freed."""
    freed = 0
    for path, size in find(store).paths.items():
        if path in garbage.paths:
            store.remove_tree(*path)
            freed += size
    return freed


def _needed(store: Store) -> tuple[set[str], set[str], tuple[str, ...]]:
    """The stages of all sweeps that the store remembers, the files of the weights that they start from, and the names
    of those whose record is damaged.
    """
    names = known(store)
    stages = dict(zip(names, store.at_once(lambda name: _stages(name, store), names), strict=True))
    needed = {key: init for of_sweep in stages.values() for key, init in (of_sweep or {}).items()}
    weights = {f"{init.weights}.safetensors" for init in needed.values() if init is not None}
    return set(needed), weights, tuple(name for name, of_sweep in stages.items() if of_sweep is None)


def _stages(name: str, store: Store) -> Mapping[str, Init | None] | None:
    """Those of a sweep that the store remembers, and that its searches stand on, each with what it starts from.

    None where the sweep's record is damaged.
    """
    try:
        sweep = require(name, store)
        stages = make_plan(sweep, store).stages if sweep.searches else forest(sweep)[0]
        return {key: stage.root.init for key, stage in stages.items()}
    except UserError:
        return None


def _is_weights(file: File) -> bool:
    return file.path[:-1] == (FOLDER,) and HASH.fullmatch(file.path[-1].removesuffix(".safetensors")) is not None


def _begun(stages: Iterable[str], files: Iterable[File], store: Store) -> set[str]:
    """Of these stages those that may be running: without a result, and written to not long ago."""
    recent = {file.path[1] for file in files if file.path[0] == "stages" and len(file.path) > 2 and _recent(file)}
    recent.intersection_update(stages)
    return recent - store.done(recent)


def _recent(file: File) -> bool:
    return datetime.now(UTC) - file.modified < ABANDONED


def _folders(stages: set[str], files: Iterable[File]) -> Paths:
    sizes: Paths = {("stages", key): 0 for key in sorted(stages)}
    for file in files:
        if file.path[:2] in sizes:
            sizes[file.path[:2]] += file.size
    return sizes


def _rehearsals(files: Sequence[File]) -> Paths:
    """The stores of those that were killed; one that goes on writes all the time."""
    sizes: Paths = {}
    for file in files:
        if file.path[0].startswith(PREFIX):
            sizes[file.path[:1]] = sizes.get(file.path[:1], 0) + file.size
    recent = {file.path[:1] for file in files if _recent(file)}
    return {path: size for path, size in sizes.items() if path not in recent}


def _sizes(files: Iterable[File]) -> Paths:
    return {file.path: file.size for file in files}
