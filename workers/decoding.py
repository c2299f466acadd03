"""Specs out of records, which may be anybody's: the inverse of `workers.encoding`, held to types. No torch."""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from prunesweep.workers.corruptions import parsed
from prunesweep.workers.models.folder_config import TRANSFORMERS, canonical
from prunesweep.workers.models.folder_config import parsed as parsed_config
from prunesweep.workers.spec import (
    KINDS,
    Choice,
    EvaluationStage,
    Init,
    PartStage,
    PrunedCopy,
    PruneStage,
    RetrainSpec,
    Scope,
    Stage,
    TrainSpec,
    TrainStage,
    TrialSpec,
    freeze,
)
from prunesweep.workers.typed import is_number, typed

LONGEST = 200
"""Stages of a path, of which 100 may be phases: keys and labels of much longer ones would exceed Python's recursion."""

SHARED = 2**12
"""So many values are kept: thousands of trials of a record have a few hundred trainings and settings in common."""


def decode_trial(data: Mapping[str, Any]) -> TrialSpec:
    """The trial that `encode` made this from; raises `TypeError`, `KeyError` or `ValueError` for anything else."""
    epochs = data.get("dense_epochs")
    if epochs is not None and not (type(epochs) is int and epochs > 0):
        raise TypeError(f"its dense training has {epochs!r:.40} epochs")
    return TrialSpec(**{**_decoded(data), "test_sets": _test_sets(data.get("test_sets", []))})


def decode_stage(data: Mapping[str, Any], before: int = 0) -> Stage:
    """The stage that `encode` made this from, on a path with so many stages behind it; raises as `decode_trial`."""
    if before > LONGEST:
        raise ValueError(f"more than {LONGEST} stages follow each other")
    if "whole" in data:
        whole, until = decode_stage(data["whole"], before + 1), data["until"]
        if not isinstance(whole, TrainStage | PruneStage) or type(until) is not int or not 0 < until < whole.epochs:
            raise TypeError(f"it is part of a stage until epoch {until!r:.40}")
        return PartStage(whole, until, _copy(data["copy"]) if "copy" in data else None)
    if "test_sets" in data:
        parent = decode_stage(data["parent"], before + 1)
        if not isinstance(parent, TrainStage | PruneStage):
            raise TypeError("it evaluates what is no whole training")
        return EvaluationStage(parent, _test_sets(data["test_sets"]))
    if "parent" not in data:
        return TrainStage(**_decoded(data))
    retrain = typed(RetrainSpec, data["retrain"]) if data["retrain"] else None
    criterion, allocation = data["criterion"], data["allocation"]
    if not is_number(data["sparsity"]) or not (isinstance(criterion, str) and isinstance(allocation, str)):
        raise TypeError(f"it prunes to {data['sparsity']!r:.40}")
    parent = decode_stage(data["parent"], before + 1)
    if not isinstance(parent, TrainStage | PruneStage):
        raise TypeError("it starts from what is no whole training")
    rewind_epoch = data.get("rewind_epoch")
    if rewind_epoch is not None and not (type(rewind_epoch) is int and 0 <= rewind_epoch < parent.root.epochs):
        raise TypeError(f"it rewinds to epoch {rewind_epoch!r:.40}")
    scope = typed(Scope, data.get("prune", {}))
    return PruneStage(parent, data["sparsity"], retrain, criterion, allocation, rewind_epoch, scope)


def _copy(data: Mapping[str, Any]) -> PrunedCopy:
    sparsity, allocation = data["sparsity"], data["allocation"]
    if not is_number(sparsity) or not 0 < sparsity < 1 or not isinstance(allocation, str):
        raise TypeError(f"a copy of it is pruned to {sparsity!r:.40}")
    return PrunedCopy(sparsity, allocation, typed(Scope, data.get("prune", {})))


def _test_sets(data: Any) -> tuple[str, ...]:
    if not isinstance(data, list) or not all(isinstance(name, str) for name in data):
        raise TypeError(f"its test sets are {data!r:.40}")
    for name in data:
        parsed(name)
    return tuple(data)


def _decoded(data: Mapping[str, Any]) -> dict[str, Any]:
    choices = {name: _choice(_bytes(data[name])) for name in KINDS if name != "task" or name in data}
    if not is_number(data["sparsity"]) or not isinstance(data["seed"], int):
        raise TypeError(f"it has seed {data['seed']!r:.40} and sparsity {data['sparsity']!r:.40}")
    init = {"init": typed(Init, data["init"])} if "init" in data else {}
    scope = typed(Scope, data.get("prune", {}))
    return {**data, **choices, "train": _train(_bytes(data["train"])), "prune": scope, **init}


def _bytes(data: Any) -> bytes:
    """By which a part of a record is known again, in a tenth of the time that its JSON takes."""
    return marshal.dumps(data, 2)  # later versions write equal values in several ways


@lru_cache(SHARED)
def _train(data: bytes) -> TrainSpec:
    return typed(TrainSpec, marshal.loads(data))


@lru_cache(SHARED)
def _choice(saved: bytes) -> Choice:
    data = marshal.loads(saved)
    options = {name: freeze(value) for name, value in data["options"].items()}
    hash(tuple(options.values()))  # a mapping is no option's value
    name, fingerprint = data["name"], data.get("fingerprint")
    if not isinstance(name, str) or not isinstance(fingerprint, str | None):
        raise TypeError(f"it chooses {name!r:.40}")
    if name == TRANSFORMERS:
        canonical(parsed_config(options.get("config")))
    return Choice.of(name, options, fingerprint)
