"""What an optimizer keeps of each parameter: masked with its weights, stored, and continued from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prunesweep.workers.json_tensors import JSON, from_json
from prunesweep.workers.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

MOMENTUM_BUFFER = "momentum_buffer"
"""What SGD keeps; in files it has the parameter's name alone."""

GROUPS = "groups"
"""What an optimizer that is not torch's keeps in its groups, such as a count of its own; no parameter is called so."""

OF_GROUP = re.compile(rf"{GROUPS} (\d+) (.+)")
"""The name of a tensor that it keeps there."""

GIVEN = frozenset({"params", "lr", "lr_scale", "weight_decay"})
"""What a group is given by `workers.optimizers`; all else in it is the optimizer's own."""

STEP = "step"
"""Counts steps; it is of no weight, also where a parameter is a single number."""


def decay_of(optimizer: Optimizer, parameter: Tensor) -> float:
    """The weight decay of a parameter."""
    groups = (group for group in optimizer.param_groups if any(p is parameter for p in group["params"]))
    decay: float = next(groups)["weight_decay"]
    return decay


def of_weight(optimizer: Optimizer, weight: Tensor) -> Iterator[Tensor]:
    """What the optimizer keeps of each element of a weight: momentum, averages of gradients and of their squares."""
    for kind, value in optimizer.state.get(weight, {}).items():
        if kind != STEP and isinstance(value, torch.Tensor) and value.shape == weight.shape:
            yield value


def begin_anew(optimizer: Optimizer) -> None:
    """Forget all that was kept, of every parameter and group, and how many steps were taken.

    SGD keeps its zeros (`workers.optimizers.make_optimizer`); others begin with a state of their own.
    """
    for group in optimizer.param_groups:
        for name in group.keys() - GIVEN - optimizer.defaults.keys():
            del group[name]
        group.update({name: value for name, value in optimizer.defaults.items() if name not in GIVEN})
    if not isinstance(optimizer, torch.optim.SGD):
        optimizer.state.clear()
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, torch.Tensor):
                value.zero_()


def stored(parameters: Mapping[str, nn.Parameter], optimizer: Optimizer) -> dict[str, Any]:
    """What the optimizer keeps, by the parameter's name: `NAME` is its momentum, `KIND of NAME` all else.

    Tensors, and JSON's values of an optimizer of one's own; of that what its groups keep beside parameters, too.
    """
    kept = {
        _name(kind, name): value
        for name, parameter in parameters.items()
        for kind, value in optimizer.state.get(parameter, {}).items()
    }
    return kept if _is_ours(optimizer) else {**kept, **_stored_groups(optimizer)}


def restore(parameters: Mapping[str, nn.Parameter], optimizer: Optimizer, kept: Mapping[str, Tensor]) -> None:
    """Continue from `stored` as a file has it; what is kept of each element has the parameter's layout."""
    for name, parameter in parameters.items():
        if name in kept:
            optimizer.state[parameter][MOMENTUM_BUFFER] = _like(parameter, kept[name])
    for said, tensor in kept.items():
        kind, of, name = said.removesuffix(JSON).partition(" of ")
        if of and name in parameters:
            value = from_json(tensor) if said.endswith(JSON) else None
            own = optimizer.state[parameters[name]]
            own[kind] = value if said.endswith(JSON) else _restored(kind, tensor, parameters[name], optimizer)
        if said == f"{GROUPS}{JSON}":
            for group, settings in zip(optimizer.param_groups, from_json(tensor), strict=True):
                group.update({n: tuple(v) if isinstance(group.get(n), tuple) else v for n, v in settings.items()})
        if match := OF_GROUP.fullmatch(said):
            optimizer.param_groups[int(match[1])][match[2]] = tensor.clone()


def _is_ours(optimizer: Optimizer) -> bool:
    return type(optimizer).__module__.startswith("torch.optim.")


def _stored_groups(optimizer: Optimizer) -> dict[str, Any]:
    """The settings of all groups, and tensors for themselves, such as a count of steps."""
    groups = [{n: v for n, v in group.items() if n not in ("params", "lr")} for group in optimizer.param_groups]
    tensors = {
        f"{GROUPS} {number} {name}": value
        for number, group in enumerate(groups)
        for name, value in group.items()
        if isinstance(value, torch.Tensor)
    }
    plain = [{n: v for n, v in group.items() if not isinstance(v, torch.Tensor)} for group in groups]
    return {GROUPS: plain, **tensors}


def _restored(kind: str, tensor: Tensor, parameter: Tensor, optimizer: Optimizer) -> Tensor:
    if kind != STEP and tensor.shape == parameter.shape:
        return _like(parameter, tensor)
    counted_by_host = kind == STEP and not _counts_on_device(optimizer)
    return tensor.clone() if counted_by_host else tensor.to(parameter.device, copy=True)


def _name(kind: str, name: str) -> str:
    return name if kind == MOMENTUM_BUFFER else f"{kind} of {name}"


def _like(parameter: Tensor, tensor: Tensor) -> Tensor:
    return torch.empty_like(parameter.detach(), dtype=tensor.dtype).copy_(tensor)


def _counts_on_device(optimizer: Optimizer) -> bool:
    """Steps are counted where parameters are by the kernels that do all of a step at once, else by the host."""
    return bool(optimizer.defaults.get("fused") or optimizer.defaults.get("capturable"))
