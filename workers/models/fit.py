"""Whether a network takes a dataset's images."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import torch
from torch import nn
from torch.func import functional_call

from prunesweep.workers.errors import UserError


def fitted(name: str, shape: tuple[int, int, int], make: Callable[[], nn.Module]) -> nn.Module:
    """The model that `make` makes; `UserError` when an image of `shape` cannot pass through it."""
    try:
        model = make()
        _pass(model, shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        said = str(error).partition("\n")[0]
        raise UserError(f"model {name} does not take images of {shape[1]}x{shape[2]} pixels: {said}") from error
    return model


def _pass(model: nn.Module, shape: tuple[int, int, int]) -> None:
    # On the meta device nothing is computed, so that this costs milliseconds even for large networks.
    tensors = chain(model.named_parameters(), model.named_buffers())
    nothing = {name: tensor.to("meta") for name, tensor in tensors}
    model.eval()
    with torch.no_grad():
        functional_call(model, nothing, torch.zeros(1, *shape, device="meta"))
    model.train()
