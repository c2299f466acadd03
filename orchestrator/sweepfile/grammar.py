"""The keys of a sweep file and of its trial blocks, as pydantic models; hyperparameters come from the methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING
from functools import cache
from inspect import getdoc
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema

from prunesweep.orchestrator.sweep import NAME
from prunesweep.orchestrator.sweepfile.document import Problem, Rejected
from prunesweep.orchestrator.sweepfile.methods import BUDGET, LEVELS, RETRAIN, TIMES, hyperparameters, known_method
from prunesweep.orchestrator.sweepfile.search_keys import SEARCH_MODEL
from prunesweep.orchestrator.sweepfile.settings import SPARSITY, axis, explained, setting, train_settings
from prunesweep.orchestrator.sweepfile.starting import FROM_INIT
from prunesweep.orchestrator.sweepfile.validation import Settings, strict_model, validate
from prunesweep.workers.allocation import Pattern
from prunesweep.workers.errors import UserError
from prunesweep.workers.methods.base import Hyperparameter, Method

MAX_TRIALS = 100_000
"""Planning this many takes under a minute and 300 MB; ten times as many would need 3 GB, and years to run."""


def header(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """A sweep's checked name, by default the file's, its resources, and what is said about it; raises `Rejected`."""
    return validate(_HEADER_MODEL, {"name": path.stem, **given})


def check_count(trials: int) -> None:
    """Raise `Rejected` when a file asks for more than `MAX_TRIALS`."""
    if trials > MAX_TRIALS:
        message = (
            f"{trials:,} trials are too many: at most {MAX_TRIALS:,}; shorten an axis, or make several sweeps of it"
        )
        raise Rejected(Problem(("trials",), message))


@cache
def block_model(method: str) -> type[BaseModel]:
    """The model of a trial block of this method."""
    cls = known_method(method)
    settings = {h.name: h for h in hyperparameters(method)}
    if reserved := settings.keys() & _common(cls).keys():
        raise UserError(f"method {method}: {min(reserved)} is a key of every block; name the hyperparameter otherwise")
    extra = (
        {BUDGET: (axis(_BUDGET), None, "retrain_epochs as a percentage of train.epochs")} if RETRAIN in settings else {}
    )
    keys = {**_common(cls), **{name: _entry(h) for name, h in settings.items()}, **extra}
    return strict_model(f"method {method}", keys, getdoc(cls), _requires(cls))


def _common(cls: type[Method]) -> Settings:
    """The keys that blocks have besides hyperparameters."""
    sparsity: Settings = {"sparsity": (setting(SPARSITY), None, SPARSITY.help)} if cls.takes_sparsity else {}
    return {
        "method": (axis(_METHOD), ..., "the method, or several that take these settings"),
        **sparsity,
        **SHARED,
        TIMES: (axis(_TIMES), None, "all epochs of a trial, as a multiple of those of dense training, such as 5x"),
        **(PRUNE if cls.prunes else {}),
        "zip": (_ZIP, None, "axes that advance together, such as [sparsity, retrain_epochs], or a list of such lists"),
        "exclude": (_EXCLUDE, None, "cells to drop: those whose settings have all of a mapping's values"),
        "search": (SEARCH_MODEL, None, "settings that are chosen within a budget, the same for every method"),
    }


def _requires(cls: type[Method]) -> dict[str, Any]:
    """The sparsity that a block must have, for editors; whether it is there is checked cell by cell."""
    if not cls.takes_sparsity:
        return {}
    keys = ["sparsity", *(h.name for h in cls.hyperparameters() if h.name == LEVELS or _takes_pattern(h))]
    return {"anyOf": [{"required": [key]} for key in keys]}


def _takes_pattern(of: Hyperparameter) -> bool:
    """Whether it may be a pattern N:M, which has a sparsity of its own."""
    return Pattern in get_args(of.type)


def _entry(of: Hyperparameter) -> tuple[Any, Any, str]:
    # A required retrain_epochs may come from retrain_budget, so its absence is found when the cell is put together.
    required = of.default is MISSING and of.name != RETRAIN
    return setting(of), ... if required else None if of.default is MISSING else of.default, of.help


# --- the types of what is not a hyperparameter


def _named(value: str | dict[str, Any]) -> str | dict[str, Any]:
    if isinstance(value, dict) and not isinstance(value.get("name"), str):
        raise ValueError("no name")
    return value


def _distinct(values: list[int]) -> list[int]:
    if len(set(values)) < len(values):
        raise ValueError("not distinct")
    return values


def _whole_above_one(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError("not whole")
    return value


def _not_reserved(name: str) -> str:
    if name.lower() == "stages":
        raise ValueError("reserved")
    return name


def _choice(kind: str) -> Any:
    of = Annotated[str | dict[str, Any], AfterValidator(_named)]
    allowed = f"the name of a {kind}, or a mapping {{name: ..., option: ...}}"
    return axis(Annotated[explained(of, allowed), WithJsonSchema({"x-choice": kind})])


_METHOD = Annotated[str, WithJsonSchema({"x-choice": "method"})]
_WHOLE = Annotated[int, Field(ge=0, lt=2**32)]
_SEEDS = explained(
    Annotated[int, Field(ge=1, le=MAX_TRIALS)]
    | Annotated[list[_WHOLE], Field(min_length=1), AfterValidator(_distinct)],
    "a count of at least 1, or a non-empty list of distinct whole numbers of at least 0",
)
_NAME = explained(
    Annotated[str, Field(pattern=f"^{NAME}$"), AfterValidator(_not_reserved)],
    'a folder\'s name of letters, digits, dots, _ and -, at most 100, no dot at the start, and not "stages"',
)
_BUDGET = explained(
    Annotated[str, Field(pattern=r"^[0-9]{1,4}(\.[0-9]{1,9})?%$")], "a percentage of train.epochs, such as 2.22%"
)
_TIMES = explained(
    Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3})?x$")], "a multiple of the dense training, such as 5x"
)
_KEYS = Annotated[list[str], Field(min_length=2)]
_ZIP = explained(
    _KEYS | Annotated[list[_KEYS], Field(min_length=1)],
    "a list of two or more axes of this block, such as [sparsity, retrain_epochs], or a list of such lists",
)
_EXCLUDE = explained(
    Annotated[list[Annotated[dict[str, Any], Field(min_length=1)]], Field(min_length=1)],
    "a list of mappings from settings to values, such as {retrain_schedule: LRW, sparsity: [0.8, 0.9]}",
)
_CPUS = explained(Annotated[float, Field(gt=0)], "a number of CPUs above 0")
_GPUS = explained(
    Annotated[
        float,
        Field(ge=0),
        AfterValidator(_whole_above_one),
        WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "integer", "minimum": 0}]}),
    ],
    "a number of GPUs of at least 0, a fraction to share one; more than 1 must be whole",
)
_REPLICAS = explained(Annotated[int, Field(ge=1)], "a whole number of processes of at least 1")

_TITLE = explained(Annotated[str, Field(min_length=1, max_length=200)], "a text of at most 200 characters")
_AUTHOR = Annotated[str, Field(min_length=1, max_length=100)]
_AUTHORS = explained(
    _AUTHOR | Annotated[list[_AUTHOR], Field(min_length=1, max_length=50)],
    "a name, or a list of names, each of at most 100 characters",
)
_NOTES = explained(Annotated[str, Field(min_length=1, max_length=10_000)], "a text of at most 10,000 characters")

_TRAIN_SETTINGS: Settings = {h.name: (setting(h), h.default, h.help) for h in train_settings()}
_TRAIN = strict_model(
    "train",
    {**_TRAIN_SETTINGS, "recipe": (_TITLE, None, "published settings, by name or path; those beside it go first")},
)
RECIPE = strict_model(
    "recipe",
    {
        "title": (_TITLE, ..., "what it trains, in a line"),
        "source": (_NOTES, None, "where it was published"),
        "differs": (_NOTES, None, "what of that these settings do not express, and what stands in its place"),
        "train": (strict_model("train of a recipe", _TRAIN_SETTINGS), ..., "settings of the training"),
    },
)
"""A file of `orchestrator.sweepfile.recipes`."""
_FROM_INIT = strict_model(FROM_INIT, {name: (of, None, help) for name, (of, _, help) in _TRAIN_SETTINGS.items()})
_INIT = Annotated[Any, WithJsonSchema({"x-choice": "init"})]
_SHARE: Settings = {
    "cpus": (_CPUS, 1.0, "CPU cores per trial"),
    "gpus": (_GPUS, 0.0, "GPUs per trial; 0.25 lets four share one"),
    "replicas": (_REPLICAS, 1, "processes that train a trial's network together, each with these CPUs and GPUs"),
}
_RULE = strict_model(
    "a rule of resources",
    {
        "dataset": (_choice("dataset"), None, "the dataset of these trials, or several"),
        "model": (_choice("model"), None, "the network of these trials, or several"),
        "method": (axis(_METHOD), None, "the method of these trials, or several"),
        **{name: (of, None, help) for name, (of, _, help) in _SHARE.items()},
    },
)
_RULES = Annotated[list[_RULE], Field(min_length=1)]  # type: ignore[valid-type]
_RESOURCES = strict_model(
    "resources",
    {
        **_SHARE,
        "for": (_RULES, None, "other shares for some trials, such as {model: resnet50, gpus: 1}"),
    },
)
_FRACTION = explained(Annotated[float, Field(gt=0, lt=1)], "a number between 0 and 1 (share of the training images)")
_VALIDATION = strict_model(
    "validation",
    {
        "fraction": (_FRACTION, 0.1, "share of the training images"),
        "seed": (explained(_WHOLE, "a whole number of at least 0"), 0, "which images; never a trial's seed"),
        "stratify": (explained(bool, "true or false"), True, "whether each class gives its share"),
    },
)
_TEST_SETS = explained(
    Annotated[list[str | dict[str, Any]], Field(min_length=1)],
    "a list such as [clean, {corruption: gaussian_noise, severity: 3}]",
)
SHARED: Settings = {
    "dataset": (_choice("dataset"), None, "the dataset, or several as an axis"),
    "model": (_choice("model"), None, "the network, or several as an axis"),
    "task": (_choice("task"), None, "what is learned and measured; default: classification"),
    "train": (_TRAIN, None, "settings of the training; a block's go before the file's"),
    "test_sets": (_TEST_SETS, None, "corrupted test sets that the final network is evaluated on, beside the clean one"),
    "validation": (_VALIDATION, None, "how the validation images are drawn from the training images"),
    "init": (axis(_INIT), None, "trained weights to start from; train then says how they were trained"),
    FROM_INIT: (_FROM_INIT, None, "the training that starts from these weights; what it lacks is as in train"),
}
"""What holds for the whole file or for a block; the block's goes first."""

_PATTERNS = axis(explained(list[str], 'a list of patterns, such as [first, last] or ["layer4.*"]'), is_list=True)
_PRUNE = strict_model(
    "prune",
    {
        "only": (_PATTERNS, None, "the weights that may be pruned: names, modules or kinds of layers; default: all"),
        "except": (_PATTERNS, None, "the weights of these that are not pruned"),
    },
)
PRUNE: Settings = {"prune": (_PRUNE, None, "which weights may be pruned; a block's settings go before the file's")}
"""Likewise, of methods that prune."""

_HEADER: Settings = {
    "name": (_NAME, None, "name of the sweep and of its folder in the store; default: the file's name"),
    "resources": (_RESOURCES, None, "what each trial may occupy; not part of what is asked"),
    "title": (_TITLE, None, "a title for the report, such as the question in words"),
    "authors": (_AUTHORS, None, "a name, or a list of names, for the report"),
    "notes": (_NOTES, None, "text for the report: what was expected, what is known to be odd"),
}
HEADER_KEYS = tuple(_HEADER)
"""What a file in Python has as variables."""

_TRIALS = Annotated[list[dict[str, Any]], Field(min_length=1)]

_HEADER_MODEL = strict_model("sweep file", _HEADER)

SWEEP = strict_model(
    "sweep file",
    {
        **_HEADER,
        **SHARED,
        **PRUNE,
        "seeds": (_SEEDS, 1, "how many seeds, counted from 0, or a list of them; every cell is run with each"),
        "trials": (_TRIALS, ..., "blocks of trials: a method with its settings, where a list is an axis"),
    },
    "A question to prunesweep: which trials to run",
)
"""The whole file, but for what is inside of its blocks: `block_model`."""
