"""What a stage takes from a stage before it: its result, its files and its network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from prunesweep.workers import checkpoint
from prunesweep.workers.errors import UserError
from prunesweep.workers.replicas import Replicas
from prunesweep.workers.spec import Stage, label
from prunesweep.workers.store import Damaged, Store


def result_of(stage: Stage, store: Store, replicas: Replicas) -> Mapping[str, Any]:
    """The same for all replicas; raises `Damaged` where it is not whole."""
    result = replicas.agreed(lambda: store.result(stage.key))
    if result is None:
        raise Damaged(stage.key, f"{stage.key} ({label(stage)}) has no result that is whole")
    return result


def tensors_of(
    stage: Stage, name: str, result: Mapping[str, Any], store: Store, replicas: Replicas
) -> dict[str, Tensor]:
    """The tensors in a file of a stage with this result, the same for all replicas; raises `Damaged`."""
    data = replicas.agreed(lambda: store.read_published(stage.key, name, result))
    return checkpoint.opened(data, stage.key, name)


def load_network(model: nn.Module, network: Mapping[str, Tensor], of: Stage) -> None:
    """Put a stage's network into the model; raises `UserError` where the model's code is another by now."""
    try:
        checkpoint.load_network(model, network)
    except ValueError as error:
        raise UserError(
            f"the network of {of.key} ({label(of)}) is of other code than {of.root.model} is now: "
            f"{error}; give the changed model another name, or take another store"
        ) from error
