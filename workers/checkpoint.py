"""The whole state of a running stage, and back, bit for bit. Tensors and JSON in one safetensors file: no pickle."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from prunesweep.workers import plain_numbers
from prunesweep.workers.json_tensors import JSON, as_json, from_json
from prunesweep.workers.methods.pruner import Pruner
from prunesweep.workers.optimizer_state import restore, stored
from prunesweep.workers.seal import BLANK, FIELD, intact, parsed, seal
from prunesweep.workers.store import Damaged, read_metadata

ALIGNMENT = 16
"""Bytes, so that a tensor of any type may begin behind another one's."""


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
        **_prefixed("model", network(model)),
        **_prefixed("momentum", storable(stored(_parameters(model, pruner), optimizer))),
        **_prefixed("method", {**pruner.state(), **pruner.parameters()}),
        **_prefixed("average", pruner.average.tensors if pruner.average else {}),
    }
    return seal(save(on_host(tensors), {"key": key, "progress": json.dumps(asdict(progress)), FIELD: BLANK}))


def unpack(data: bytes, key: str, model: nn.Module, pruner: Pruner, optimizer: Optimizer) -> Progress:
    """Continue from a checkpoint of the same key; raises `Refused`, before it has changed anything."""
    tensors, progress = _contents(data, key)
    weights, buffers, state, averages = (_under(p, tensors) for p in ("model", "momentum", "method", "average"))
    own = {name: state.pop(name, None) for name in pruner.parameters()}
    learned = {name: tensor for name, tensor in own.items() if tensor is not None}
    if difference := (
        _difference(model, weights)
        or _other_shape(_parameters(model, pruner), buffers)
        or _other_shape(pruner.parameters(), learned, complete=True)
        or _other_shape(pruner.average.tensors if pruner.average else {}, averages, complete=True)
    ):
        raise Refused(f"it is of other code: {difference}")
    load_network(model, weights)
    restore(_parameters(model, pruner), optimizer, buffers)
    for name, parameter in pruner.parameters().items():
        parameter.data.copy_(learned[name])
    pruner.load_state(state)
    if pruner.average:
        pruner.average.load(averages)
    return progress


def _contents(data: bytes, key: str) -> tuple[dict[str, Tensor], Progress]:
    """The tensors of a checkpoint of that key, and how far it is; raises `Refused`."""
    if not intact(data):
        raise Refused("it is damaged")
    try:
        metadata = read_metadata(io.BytesIO(data))
        whose, progress, tensors = metadata["key"], Progress(**parsed(metadata["progress"])), load(data)
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise Refused("it is no checkpoint") from error
    if whose != key:
        raise Refused(f"it belongs to stage {whose}, not to {key}")
    return tensors, progress


def network(model: nn.Module) -> dict[str, Tensor]:
    """A model's state as tensors, with what its modules count beside it (`workers.plain_numbers`)."""
    return {**storable(model.state_dict()), **plain_numbers.changed(model)}


def network_in(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's tensors of a checkpoint, or of the state after a part of a stage; as `load_network` takes them."""
    return _under("model", tensors)


def load_network(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load what `network` made of a model; buffers take the sizes that they had.

    Raises `ValueError` when the state is another network's, before it has changed anything.
    """
    if difference := _difference(model, tensors):
        raise ValueError(difference)
    plain_numbers.restore(model, tensors)
    tensors = weights_of(tensors)
    for name, buffer in list(model.named_buffers()):
        if name in tensors and tensors[name].shape != buffer.shape:
            module, _, own = name.rpartition(".")
            model.get_submodule(module)._buffers[own] = buffer.new_empty(tensors[name].shape)
    extra = {name.removesuffix(JSON): from_json(t) for name, t in tensors.items() if name.endswith(JSON)}
    state = model.state_dict()  # with the version that its modules write, for which some of them ask
    state.update({name: tensor for name, tensor in tensors.items() if not name.endswith(JSON)} | extra)
    model.load_state_dict(state)


def weights_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A stored network without what its modules count, as a plain model loads it."""
    return {name: tensor for name, tensor in tensors.items() if name != plain_numbers.NAME + JSON}


def storable(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A `state_dict` as tensors alone: extra state that is none becomes JSON in a tensor of bytes, and ends in `:json`.

    Raises `TypeError` when it is none of JSON's values either.
    """
    return {
        **{name: value for name, value in state.items() if isinstance(value, Tensor)},
        **{f"{name}{JSON}": as_json(name, v) for name, v in state.items() if not isinstance(v, Tensor)},
    }


def _difference(model: nn.Module, tensors: Mapping[str, Tensor]) -> str | None:
    """What a stored network has otherwise than the model; only parameters must have the same shapes."""
    stored, own = {name.removesuffix(JSON) for name in weights_of(tensors)}, model.state_dict().keys()
    if stored != own:
        first = min(stored ^ own)
        return f"the model has {first}, the stored network does not" if first in own else f"the model has no {first}"
    return plain_numbers.problem(model, tensors) or _other_shape(dict(model.named_parameters()), tensors)


def _other_shape(parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor], complete: bool = False) -> str | None:
    """The first tensor that cannot be the parameter's of its name; with `complete` every parameter has one."""
    for name, tensor in tensors.items():
        own = parameters.get(name)
        if own is not None and not is_lazy(own) and tensor.shape != own.shape:
            return f"{name} is {list(own.shape)}, the stored one {list(tensor.shape)}"
    lacking = sorted(parameters.keys() - tensors.keys()) if complete else []
    return f"there is no {lacking[0]} in it" if lacking else None


def pack_tensors(state: Mapping[str, Any]) -> bytes:
    """Tensors by name, or a `state_dict`, as a safetensors file; one that shares memory with another is written out."""
    return save(on_host(storable(state)))


def unpack_tensors(data: bytes) -> dict[str, Tensor]:
    """The tensors of `pack_tensors`."""
    tensors: dict[str, Tensor] = load(data)
    return tensors


def opened(data: bytes, key: str, name: str) -> dict[str, Tensor]:
    """The tensors of that file of a finished stage; raises `Damaged` where it has none, whatever its checksum."""
    try:
        return unpack_tensors(data)
    except SafetensorError as error:
        raise Damaged(key, f"the {name} of {key} cannot be opened: {error}", refused=True) from error


def _parameters(model: nn.Module, pruner: Pruner) -> dict[str, nn.Parameter]:
    """All that the optimizer trains; the pruner's names cannot be the model's, which have no colon."""
    return {**dict(model.named_parameters()), **{f"method:{name}": p for name, p in pruner.parameters().items()}}


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}


def on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, contiguous, none of whose memory overlaps another's: what safetensors can write.

    From a GPU into one buffer of pinned memory, where all copies are under way at once, and are waited for once.
    """
    here = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items() if t.device.type == "cpu"}
    there = {name: tensor.detach() for name, tensor in tensors.items() if tensor.device.type != "cpu"}
    if not there:
        return here
    device = next(iter(there.values())).device
    starts = [0, *accumulate(-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in there.values())]
    buffer = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
    copies = {}
    for start, (name, tensor) in zip(starts, there.items(), strict=False):
        copies[name] = buffer[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        copies[name].copy_(tensor, non_blocking=True)
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    return {name: copies[name] if name in copies else here[name] for name in tensors}
