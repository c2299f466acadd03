"""What a sweep file says of trained weights to start from: `init`, and `train_from_init` for what trains them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from prunesweep.orchestrator.sweepfile.document import Document, Loc, Problem, Rejected, shown, where
from prunesweep.orchestrator.sweepfile.methods import known_method
from prunesweep.orchestrator.sweepfile.training import check_training
from prunesweep.workers.errors import SpecError, unknown
from prunesweep.workers.init.asked import UNSAID
from prunesweep.workers.methods.base import Method
from prunesweep.workers.models.folder_config import TRANSFORMERS, parsed
from prunesweep.workers.optimizer_settings import SETTINGS
from prunesweep.workers.spec import Init, TrainSpec, TrialSpec

BYTES = 256
"""The vocabulary of a text without a tokenizer."""

RANDOM = "random"
"""As a value of `init`: no trained weights."""

KINDS = ("path", "torchvision", "timm", "sweep")
"""What says where weights are."""

BESIDE = {"path": ("key",), "sweep": ("trial",), "torchvision": (), "timm": ()}

ALLOWED = "{path: FILE}, {torchvision: TAG}, {timm: true}, {timm: TAG} or {sweep: NAME, trial: KEY}"

FROM_INIT = "train_from_init"

_TEXT, _HEAD = {"type": "string", "minLength": 1}, {"head": {"const": "new"}}


def _mapping(required: tuple[str, ...], properties: Mapping[str, Any]) -> dict[str, Any]:
    closed = {"type": "object", "additionalProperties": False}
    return {**closed, "required": list(required), "properties": {**properties, **_HEAD}}


JSON_SCHEMA = {
    "anyOf": [
        {"const": RANDOM},
        _mapping(("path",), {"path": _TEXT, "key": _TEXT}),
        _mapping(("torchvision",), {"torchvision": _TEXT}),
        _mapping(("timm",), {"timm": {"anyOf": [{"const": True}, _TEXT]}}),
        _mapping(("sweep", "trial"), {"sweep": _TEXT, "trial": _TEXT}),
    ]
}
"""Of one value of `init`, for editors; `initial` checks it."""

SHAPE = ("schedule", "warmup_epochs", "step_epochs", "milestones", "gamma", "end_lr")
"""Of the settings of `train` those that `train_from_init` does not inherit: they are made for another length."""


def initial(value: Any, loc: Loc) -> Init | None:
    """The weights that one value of `init` means, not looked for yet; raises `Rejected`."""
    if value == RANDOM:
        return None
    if not isinstance(value, Mapping):
        meant = f"; for a file write {{path: {value}}}" if isinstance(value, str) else ""
        raise Rejected(Problem(loc, f"{shown(value)} is not allowed: {ALLOWED}{meant}"))
    kinds = [kind for kind in KINDS if kind in value]
    if len(kinds) != 1:
        _reject_key(value, loc)
        raise Rejected(Problem(loc, f"{shown(dict(value))} is not allowed: one of {ALLOWED}"))
    kind = kinds[0]
    for key in value:
        if key not in (kind, *BESIDE[kind], "head"):
            message = unknown(f"key of init with {kind}", str(key), [kind, *BESIDE[kind], "head"])
            raise Rejected(Problem((*loc, key), message))
    _check_values(value, kind, loc)
    given = {key: value[key] for key in (kind, *BESIDE[kind]) if key in value}
    return Init.of(given, new_head="head" in value)


def _reject_key(value: Mapping[str, Any], loc: Loc) -> None:
    known = [*KINDS, "head", "key", "trial"]
    for key in value:
        if key not in known:
            raise Rejected(Problem((*loc, key), f"{unknown('key of init', str(key), known)}; init is {ALLOWED}"))


def _check_values(value: Mapping[str, Any], kind: str, loc: Loc) -> None:
    for key in (kind, *BESIDE[kind]):
        if key == "trial" and key not in value:
            raise Rejected(Problem(loc, f"missing: trial, the key of a trial of {value['sweep']} (column `trial`)"))
        right = isinstance(value.get(key, "none"), str) or (key == "timm" and value[key] is True)
        if not right or value.get(key) == "":
            allowed = "true, or the tag of timm's weights" if key == "timm" else "a text"
            raise Rejected(Problem((*loc, key), f"{shown(value[key])} is not allowed: {allowed}"))
    if value.get("head", "new") != "new":
        raise Rejected(Problem((*loc, "head"), f"{shown(value['head'])} is not allowed: new, or leave it out"))


# --- the training of a cell


def described(said: Mapping[str, Any]) -> TrainSpec:
    """How a network was trained that is given; what nobody says of it is `UNSAID`. Raises `SpecError`."""
    train = TrainSpec(**{**UNSAID, **said})
    if {"epochs", "lr", "schedule"} <= said.keys():
        check_training(train)
        return train
    check_training(train, dense=False)
    for name in ("step_epochs", "milestones", "gamma", "end_lr", "warmup_epochs"):
        if name in said:
            lacking = ", ".join(f"{key}: ..." for key in ("epochs", "lr", "schedule") if key not in said)
            message = f"it says how the given network was trained: add the rest of that, {{{lacking}}}"
            raise SpecError(f"train.{name}", message)
    return train


def fine_tuning(said: Mapping[str, Any], own: Mapping[str, Any], method: str) -> TrainSpec:
    """The training that starts from given weights: as `train_from_init` says, the rest as in `train`."""
    for name, meaning in (("epochs", "how long"), ("lr", "with which peak learning rate")):
        if name not in own and (name == "epochs" or name not in said or "optimizer" in own):
            raise SpecError(
                f"{FROM_INIT}.{name}",
                f"missing: {method} trains the network that init gives: say {meaning}, {FROM_INIT}: {{{name}: ...}}",
            )
    left_out = {*SHAPE, *(("lr", *SETTINGS) if "optimizer" in own else ())}
    inherited = {name: value for name, value in said.items() if name not in left_out}
    train = TrainSpec(**{**inherited, **own})
    try:
        check_training(train)
    except SpecError as error:
        field, message = (text.replace("train.", f"{FROM_INIT}.") for text in (error.field, str(error)))
        raise SpecError(field, message) from error
    return train


def require_startable(cls: type[Method], name: str) -> None:
    """Raise `SpecError` for a method that cannot start from trained weights."""
    if cls.not_from_trained:
        raise SpecError("init", f"{name} does not start from trained weights: {cls.not_from_trained}")


def require_started(method: Method, trial: TrialSpec) -> None:
    """Raise `SpecError` for a method of one's own that forgets the weights."""
    if trial.init is not None and method.stage(trial).root.init != trial.init:
        raise SpecError(
            "init", f"{trial.method} makes its first stage without init: let its `stage` begin with trial.root()"
        )


def require_same_tokens(trial: TrialSpec) -> None:
    """Raise `SpecError` for trained weights of a language model whose tokens are not those of the dataset."""
    dataset, config = trial.dataset, trial.model.settings.get("config")
    if trial.init is None or trial.model.name != TRANSFORMERS or not isinstance(config, str):
        return
    vocabulary = parsed(config).get("vocab_size")
    if dataset.name == "text" and not dataset.settings.get("tokenizer") and vocabulary not in (None, BYTES):
        message = f"text is read byte by byte, and the weights were trained with a vocabulary of {vocabulary:,} tokens"
        raise SpecError("dataset", f"{message}: name their tokenizer, {{name: text, tokenizer: FOLDER}}")


def require_used(top: Mapping[str, Any], trials: Sequence[TrialSpec]) -> None:
    """Raise `Rejected` for a `train_from_init` that no trial can follow."""
    problems: list[Problem] = []
    blocks = [(("trials", index), block) for index, block in enumerate(top["trials"])]
    for loc, block in [((), top), *blocks]:
        within = [block] if loc else [block for _, block in blocks]
        if FROM_INIT in block and not any(_trains(inner, top) for inner in within):
            started = "init" in top or any("init" in inner for inner in within)
            why = "the methods prune the network as it is" if started else "there is no init"
            problems.append(Problem((*loc, FROM_INIT), f"has no effect, since {why}; leave it out"))
    if problems:
        raise Rejected(*problems)


def _trains(block: Mapping[str, Any], top: Mapping[str, Any]) -> bool:
    """Whether one of a block's methods trains the weights that it starts from."""
    names = block["method"] if isinstance(block["method"], list) else [block["method"]]
    return ("init" in top or "init" in block) and not all(known_method(name).prunes_trained for name in names)


# --- places in the file


def with_absolute_paths(document: Document, folder: Path) -> tuple[Document, dict[str, str]]:
    """The document with paths of weights and models below the folder, and the place of each `init`: `x.yaml:4: init`.

    The places are by what stands for the weights in trials until they are read.
    """
    value, spelled = dict(document.value), dict[str, str]()

    def moved(given: Any, loc: Loc) -> Any:
        if isinstance(given, list):
            return [moved(item, (*loc, index)) for index, item in enumerate(given)]
        with suppress(Rejected):
            init = initial(given := absolute(given, folder), loc)
            line = f"{document.path}:{document.line(loc)}: " if document.path else ""
            spelled.setdefault(init.weights if init else RANDOM, f"{line}{where(loc)}")
        return given

    for holder, loc in _holders(value, "init"):
        holder["init"] = moved(holder["init"], (*loc, "init"))
    for holder, _ in _holders(value, "model"):
        holder["model"] = absolute_model(holder["model"], folder)
    return replace(document, value=value), spelled


def _holders(value: dict[str, Any], key: str) -> Iterator[tuple[dict[str, Any], Loc]]:
    """The mappings that have this key: copies, in the place of those of the file."""
    if key in value:
        yield value, ()
    if isinstance(value.get("trials"), list):
        value["trials"] = [dict(block) if isinstance(block, dict) else block for block in value["trials"]]
        for index, block in enumerate(value["trials"]):
            if isinstance(block, dict) and key in block:
                yield block, ("trials", index)


def absolute_model(given: Any, folder: Path) -> Any:
    """What a sweep file says of one model, or of several, with the path of one that is in a folder below `folder`."""
    if isinstance(given, list):
        return [absolute_model(item, folder) for item in given]
    return absolute(given, folder) if isinstance(given, Mapping) and given.get("name") == TRANSFORMERS else given


def absolute(given: Any, folder: Path) -> Any:
    """What says where weights or a model are, with a path below `folder`."""
    if not isinstance(given, Mapping) or not isinstance(given.get("path"), str):
        return given
    return {**given, "path": os.path.abspath(folder / Path(given["path"]).expanduser())}  # noqa: PTH100
