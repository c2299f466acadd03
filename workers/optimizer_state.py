"""What an optimizer keeps of each parameter: masked with its weights, stored, and continued from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prunesweep.workers.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

MOMENTUM_BUFFER = "momentum_buffer"
"""What SGD keeps; in files it has the parameter's name alone."""

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
    """Forget all that was kept, of every parameter, and how many steps were taken."""
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, torch.Tensor):
                value.zero_()


def stored(parameters: Mapping[str, nn.Parameter], optimizer: Optimizer) -> dict[str, Tensor]:
    """What the optimizer keeps, by the parameter's name: `NAME` is its momentum, `KIND of NAME` all else."""
    return {
        _name(kind, name): value
        for name, parameter in parameters.items()
        for kind, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }


def restore(parameters: Mapping[str, nn.Parameter], optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Continue from `stored`; what is kept of each element has the parameter's layout."""
    for name, parameter in parameters.items():
        if name in tensors:
            optimizer.state[parameter][MOMENTUM_BUFFER] = _like(parameter, tensors[name])
    for said, tensor in tensors.items():
        kind, of, name = said.partition(" of ")
        if of and name in parameters:
            optimizer.state[parameters[name]][kind] = _restored(kind, tensor, parameters[name], optimizer)


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
