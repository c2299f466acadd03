"""What a stage stands on outside the registry, as part of its key: one's own source, and one's own images. No torch.

A fingerprint is made of parts: `code` is a hash of the source of a dataset, model, method or task of one's own,
`content` one of the names, sizes and bytes of a dataset's files, and `version` the number of what the registry has
under a name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from prunesweep.workers import data, models, registry
from prunesweep.workers.choices import choosing, chosen
from prunesweep.workers.data.content import content_digest
from prunesweep.workers.data.layout import all_classes, published, read_layout
from prunesweep.workers.data.own_files import own_files
from prunesweep.workers.errors import UserError
from prunesweep.workers.methods import METHODS
from prunesweep.workers.registry import Entry
from prunesweep.workers.seal import FIELD, intact, parsed, sealed_json
from prunesweep.workers.source import source_digest, source_files
from prunesweep.workers.spec import Choice, Stage, TrialSpec
from prunesweep.workers.store import Store
from prunesweep.workers.tasks import TASKS
from prunesweep.workers.train_spec import CODE

SAME_CODE = "same_code.json"
"""A store's file of the versions of code that its user takes for the same: hash of the source -> the earlier hash."""

CODE_HASH = re.compile("[0-9a-f]{16}")


def fingerprinted(trials: Iterable[TrialSpec], data_folder: str, same: Mapping[str, str]) -> list[TrialSpec]:
    """The trials with a fingerprint on each of their choices that stands on something outside the registry.

    `same` are the versions of code that count as others (`same_code`). What has a fingerprint keeps it. Raises
    `UserError` where images are missing.
    """
    made: dict[tuple[str, Choice], Choice] = {}

    def of(kind: str, choice: Choice) -> Choice:
        if (kind, choice) not in made:
            made[kind, choice] = choice if choice.fingerprint else _stamped(kind, choice, data_folder, same)
        return made[kind, choice]

    return [choosing(trial, {kind: of(kind, choice) for kind, choice in chosen(trial).items()}) for trial in trials]


def same_code(store: Store) -> dict[str, str]:
    """What the store's user has said with --same-code: hash of the source -> the hash that it counts as, or "".

    It lets code of this folder count as another version of itself, and nothing else be imported. Raises `UserError`
    where the file is damaged; one of before it had a sum is taken as it is.
    """
    saved = store.read(SAME_CODE)
    said = {} if saved is None else _said_of_code(saved)
    if said is None:
        raise UserError(f"{store.path(SAME_CODE)} is damaged: remove it, and say --same-code again where it is so")
    return said


def note_same_code(versions: Mapping[str, str], store: Store) -> None:
    """Keep what the user has said with --same-code, beside what was said before."""
    store.write(sealed_json({"same": {**same_code(store), **versions}}), SAME_CODE)


def is_same_code(data: bytes) -> bool:
    """Whether the file is whole."""
    return _said_of_code(data) is not None


def _said_of_code(data: bytes) -> dict[str, str] | None:
    try:
        content = parsed(data)
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    is_sealed = FIELD in content or "same" in content
    said = content.get("same") if is_sealed else content
    if (is_sealed and not intact(data)) or not isinstance(said, dict):
        return None
    return (
        said
        if all(CODE_HASH.fullmatch(now) and CODE_HASH.fullmatch(str(then) or now) for now, then in said.items())
        else None
    )


def require_same(stage: Stage, store: Store) -> None:
    """Raise `UserError` unless the code here is that which the stage was planned with; `data.load` checks the images.

    Code without a fingerprint, of a plan from before there were any, is taken as it is. Images without one are refused:
    they were split in another way then, and a parent may have been trained on what is a test image now.
    """
    root, method = stage.root, stage.root.method if stage.parent is None else None
    require_same_choices(store, root.dataset, root.model, method, root.task)
    for kind, choice in chosen(root).items():
        if kind in CODE:
            _require_code(kind, choice, store)


def require_same_choices(
    store: Store, dataset: Choice, model: Choice, method: Choice | None = None, task: Choice | None = None
) -> None:
    """As `require_same`, of a network that is used again."""
    for kind, choice in (("dataset", dataset), ("model", model), ("method", method), ("task", task)):
        if choice is not None:
            _require_code(kind, choice, store)
    if is_own_folder(dataset) and "content" not in parts(dataset.fingerprint):
        raise UserError(
            f"dataset {dataset.name}: this trial was planned before its images were part of it, and they are split in "
            "another way now: run the sweep's file again, which makes new trials of it"
        )


def parts(fingerprint: str | None) -> dict[str, str]:
    """The parts of a fingerprint by name."""
    return dict(part.split(":", 1) for part in fingerprint.split(" ")) if fingerprint else {}


def module_of(kind: str, name: str) -> str | None:
    """The module of one's own that a name leads to, or None."""
    return registry.own_module(kind, _entries(kind, name), name)


def file_of(kind: str, name: str) -> str:
    """That module's file, for people."""
    module = module_of(kind, name)
    file = source_files(module).get(module) if module else None
    return str(file.name if file else module)


def is_own_folder(choice: Choice) -> bool:
    """Whether a dataset is a folder of images of one's own; ImageNet's in its own place is known."""
    entry = data.DATASETS.get(choice.name)
    if entry is None or "path" not in entry.options:
        return False
    return choice.name == "image_folder" or choice.settings["path"] != entry.options["path"]


def _stamped(kind: str, choice: Choice, data_folder: str, same: Mapping[str, str]) -> Choice:
    entry = _entries(kind, choice.name).get(choice.name)
    made: dict[str, str | None] = {}
    if module := module_of(kind, choice.name):
        made["code"] = _counting_as(source_digest(module), same)
    if entry is not None and entry.version > 1:
        made["version"] = str(entry.version)
    if kind == "dataset":
        made["content"] = _content(replace(choice, fingerprint=None), str(Path(data_folder).absolute()))
    text = " ".join(f"{name}:{value}" for name, value in made.items() if value)
    return replace(choice, fingerprint=text or None)


def _counting_as(code: str, same: Mapping[str, str]) -> str:
    return same.get(code, code)


def _entries(kind: str, name: str) -> Mapping[str, Entry]:
    """What the project has under a name of this kind; of optimizers and schedules a name with a colon is one's own."""
    if kind in CODE:
        return {}
    return {"dataset": data.DATASETS, "method": METHODS, "task": TASKS}.get(kind) or models.known(name)


def _content(choice: Choice, data_folder: str) -> str | None:
    """A hash of a dataset's files; None for those of the registry and those that name no files."""
    files = _files(choice, data_folder)
    if files is None:
        return None
    name = hashlib.sha256("\n".join([choice.name, str(choice.settings.get("path")), data_folder]).encode()).hexdigest()
    try:
        return content_digest(files, Path(data_folder), name[:16])
    except OSError as error:
        raise UserError(f"dataset {choice.name}: {error.filename} cannot be read: {error.strerror}") from error


def _files(choice: Choice, data_folder: str) -> list[tuple[str, str]] | None:
    """The dataset's files as (name, path), sorted by name."""
    own = own_files(choice.name, choice.settings, data_folder)
    if own is not None:
        return own
    if is_own_folder(choice):
        return _folder_files(choice, Path(data_folder) / Path(str(choice.settings["path"])).expanduser())
    if module_of("dataset", choice.name) is None:
        return None
    listing = data.function(choice.name, "files") or data.function(choice.name, "check")
    paths = sorted(map(str, listing(choice.name, data_folder))) if listing else []
    return [(Path(path).name, path) for path in paths] or None


def _folder_files(choice: Choice, root: Path) -> list[tuple[str, str]]:
    if not root.is_dir():
        raise UserError(
            f"{choice.name}: there is no folder {root}, and its images are part of what a trial is; "
            f"{_where_else(str(choice.settings['path']))}"
        )
    layouts = {"auto": read_layout, "classes": all_classes}
    layout = layouts[str(choice.settings["layout"])] if choice.name == "image_folder" else published
    labelled = layout(choice.name, root).given
    paths = {f"{part.folder}/{name}" for part in labelled for name in part.names}
    return sorted((path.removeprefix(f"{root}/"), path) for path in paths)


def _where_else(path: str) -> str:
    """What to say instead, of a folder that is not below the data folder."""
    if Path(path).is_dir():
        return f"{path} is in the current folder: add --data-dir ., or set PRUNESWEEP_DATA to it"
    return "set `path` to it, and --data-dir, or PRUNESWEEP_DATA, to what it lies in"


def _require_code(kind: str, choice: Choice, store: Store) -> None:
    planned, module = parts(choice.fingerprint).get("code"), module_of(kind, choice.name)
    if planned is None or module is None:
        return
    code = source_digest(module)
    if code != planned and _counting_as(code, same_code(store)) != planned:
        raise UserError(
            f"{kind} {choice.name}: {file_of(kind, choice.name)}, or what it imports, has changed since this trial was "
            f"planned (it was {planned[:8]}, here it is {code[:8]}): run the sweep's file again, which makes trials of "
            "the new version, or with --same-code if the change moves no number"
        )


def require_content(dataset: Choice, data_folder: str) -> None:
    """Raise `UserError` unless the dataset's files are those that its fingerprint was made of, if it has one."""
    planned = parts(dataset.fingerprint).get("content")
    if planned is None:
        return
    content = _content(replace(dataset, fingerprint=None), str(Path(data_folder).absolute()))
    if content != planned:
        raise UserError(
            f"dataset {dataset.name}: the images in {data_folder} are not those that this trial was planned with (they "
            f"were {planned[:8]}, here they are {content and content[:8]}): give --data-dir with those, or run the "
            "sweep's file again, which makes trials of the new ones"
        )


def without_fingerprints(trial: TrialSpec) -> TrialSpec:
    """The trial as it is asked for, whatever the version of one's own code, data and weights: one for all versions."""
    choices, init = chosen(trial), trial.init
    if init is None and all(choice.fingerprint is None for choice in choices.values()):
        return trial
    bare = choosing(trial, {kind: replace(choice, fingerprint=None) for kind, choice in choices.items()})
    return replace(bare, init=init and replace(init, weights=init.source))
