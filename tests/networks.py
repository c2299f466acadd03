"""What the tests of networks share: the prunable weights of one, and outlines of large ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from prunesweep.workers.prunable import prunable
from prunesweep.workers.recording import Recording, record

Shape = tuple[int, ...]


def recorded(model: nn.Module, shape: Shape, count: int = 2) -> Recording:
    """Of noise, where the model is."""
    first = next(model.parameters())
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((count, *shape), generator=generator).to(first.device, first.dtype)
    return record(model, images)


def prunable_weights(model: nn.Module, shape: Shape, count: int = 2) -> dict[str, nn.Parameter]:
    """The prunable weights of a network for images of this shape."""
    return prunable(model, recorded(model, shape, count))


class _Outline(TorchFunctionMode):
    """Parameters have no values; what a constructor computes has."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        device = {"device": "meta"} if func is torch.empty else {}
        return func(*args, **{**(kwargs or {}), **device})


def without_values(make: Callable[[], nn.Module]) -> nn.Module:
    """The network on the meta device, where large ones take no time."""
    with _Outline():
        model = make()
    return model.to("meta")
