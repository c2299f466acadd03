"""The whole state of a running stage, and back, bit for bit. Tensors and JSON in one safetensors file: no pickle."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer

from prunesweep.workers.methods.pruner import Pruner
from prunesweep.workers.seal import BLANK, FIELD, intact, seal
from prunesweep.workers.store import read_metadata


class Refused(ValueError):
    """A checkpoint that a stage cannot continue from: it is damaged, or another stage's."""


@dataclass
class Progress:
    """How far a stage is: epochs finished, their rows of the curve, and what the prune at its start measured."""

    epoch: int = 0
    images: int = 0
    train_seconds: float = 0.0
    elapsed_seconds: float = 0.0
    curve: list[dict[str, Any]] = field(default_factory=list)
    pruned: dict[str, Any] = field(default_factory=dict)


def pack(key: str, progress: Progress, model: nn.Module, pruner: Pruner, optimizer: Optimizer) -> bytes:
    """A checkpoint; data order and augmentation are functions of (seed, epoch), so this is all there is."""
    tensors = {
        **_prefixed("model", model.state_dict()),
        **_prefixed("momentum", momentum(_parameters(model, pruner), optimizer)),
        **_prefixed("method", {**pruner.state(), **pruner.parameters()}),
    }
    return seal(save(tensors, {"key": key, "progress": json.dumps(asdict(progress)), FIELD: BLANK}))


def unpack(data: bytes, key: str, model: nn.Module, pruner: Pruner, optimizer: Optimizer) -> Progress:
    """Continue from a checkpoint of the same key; raises `Refused`, before it has changed anything."""
    if not intact(data):
        raise Refused("it is damaged")
    metadata = read_metadata(io.BytesIO(data))
    if metadata["key"] != key:
        raise Refused(f"it belongs to stage {metadata['key']}, not to {key}")
    tensors = load(data)
    model.load_state_dict(_under("model", tensors))
    load_momentum(_parameters(model, pruner), optimizer, _under("momentum", tensors))
    state = _under("method", tensors)
    for name, parameter in pruner.parameters().items():
        parameter.data.copy_(state.pop(name))
    pruner.load_state(state)
    return Progress(**json.loads(metadata["progress"]))


def momentum(parameters: Mapping[str, nn.Parameter], optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's momentum by parameter name."""
    buffers = {name: optimizer.state[p].get("momentum_buffer") for name, p in parameters.items()}
    return {name: buffer for name, buffer in buffers.items() if buffer is not None}


def load_momentum(parameters: Mapping[str, nn.Parameter], optimizer: Optimizer, buffers: Mapping[str, Tensor]) -> None:
    """Set the optimizer's momentum, in each parameter's own layout."""
    for name, parameter in parameters.items():
        if name in buffers:
            optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter.detach()).copy_(buffers[name])


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors by name as a safetensors file; a tensor that shares memory with another is written out."""
    return save({name: _plain(tensor) for name, tensor in tensors.items()})


def unpack_tensors(data: bytes) -> dict[str, Tensor]:
    """The tensors of `pack_tensors`."""
    tensors: dict[str, Tensor] = load(data)
    return tensors


def _parameters(model: nn.Module, pruner: Pruner) -> dict[str, nn.Parameter]:
    """All that the optimizer trains; the pruner's names cannot be the model's, which have no colon."""
    return {**dict(model.named_parameters()), **{f"method:{name}": p for name, p in pruner.parameters().items()}}


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": _plain(tensor) for name, tensor in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}


def _plain(tensor: Tensor) -> Tensor:
    """On the CPU, contiguous, with memory of its own: what safetensors can write."""
    return tensor.detach().to("cpu", copy=True).contiguous()
