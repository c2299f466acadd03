"""Averages of a network's weights over the iterations of its training, for evaluation and as the finished network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """An exponential moving average, a <- decay a + (1 - decay) w, after every iteration.

    Of the model's parameters and buffers, and of what a method learns beside them. Numbers that are whole, such as
    batch norm's count of batches, are the current ones. All as in timm's `ModelEmaV3`, without its warm-up.
    """

    def __init__(self, model: nn.Module, learned: Mapping[str, nn.Parameter], decay: float) -> None:
        self.model, self.learned, self.decay = model, learned, decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in self._current().items()}
        self.begin_epoch()

    def _current(self) -> dict[str, Tensor]:
        """By name; a parameter that two layers share is there once."""
        stored = self.model.state_dict().keys()
        buffers = {name: buffer for name, buffer in self.model.named_buffers() if name in stored}
        own = {f"method:{name}": parameter for name, parameter in self.learned.items()}
        return {**dict(self.model.named_parameters()), **buffers, **own}

    @torch.no_grad()
    def update(self) -> None:
        """One iteration is over."""
        averages, values = [], []
        for name, value in self._live.items():
            if value.is_floating_point():
                averages.append(self.tensors[name])
                values.append(value)
            else:
                self.tensors[name].copy_(value)
        torch._foreach_lerp_(averages, values, 1.0 - self.decay)

    def begin_epoch(self) -> None:
        """Buffers may be other tensors than before."""
        self._live = {name: tensor.detach() for name, tensor in self._current().items()}

    @torch.no_grad()
    def restart(self) -> None:
        """From the network as it is."""
        self.load(self._current())

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from these, each in its own layout."""
        for name, tensor in tensors.items():
            self.tensors[name] = torch.empty_like(self.tensors[name]).copy_(tensor)

    def of(self, weights: list[nn.Parameter]) -> list[Tensor | None]:
        """The averages of these weights."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        return [self.tensors.get(names[id(weight)]) for weight in weights]

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside it the network, and what the method learns, are the averages."""
        current = self._current()
        own = {name: tensor.data for name, tensor in current.items()}
        for name, tensor in current.items():
            tensor.data = self.tensors[name]
        try:
            yield
        finally:
            for name, tensor in current.items():
                tensor.data = own[name]

    @torch.no_grad()
    def adopt(self) -> None:
        """The averages become the network."""
        for name, tensor in self._current().items():
            tensor.copy_(self.tensors[name])


def average_of(model: nn.Module, learned: Mapping[str, nn.Parameter], decay: float | None) -> Average | None:
    """None where a training asks for none."""
    return None if decay is None else Average(model, learned, decay)
