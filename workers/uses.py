"""How often the weights are used by kernels, how many of their values are zero there, and whether all of them are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prunesweep.workers.operations import Product
from prunesweep.workers.origins import Origins


@dataclass(frozen=True)
class Use:
    """A weight in a kernel: how many of its values are in the operand, and how many of them are not zero there.

    `expected` is how many are not zero in the parameter. None where tensors have no values, on the meta device.
    """

    name: str
    kind: str
    multiply_adds: int
    values: int
    nonzero: int | None
    expected: int | None


class Uses:
    """Gathers the uses of parameters; what is counted stays on the device till the end."""

    def __init__(self, parameters: Mapping[str, Tensor], origins: Origins) -> None:
        self.parameters, self.origins = parameters, origins
        self.uses: list[tuple[str, str, int, int]] = []
        self.counts: list[Tensor] = []
        self.whole: set[str] = set()
        self.places: dict[str, Tensor] = {}
        self.nonzero: dict[tuple[str, torch.dtype], Tensor] = {}

    def add(self, product: Product, operand: Tensor) -> None:
        """Of an operand that several parameters make up, each has the part that it has of the values."""
        origin, size = self.origins.of(operand), max(1, operand.numel())
        nonzero = operand.detach().count_nonzero()
        if origin.whole is not None:
            self.whole.add(origin.whole)
            expected = self._nonzero(origin.whole, operand.dtype).count_nonzero()
            self._add(origin.whole, product, product.multiply_adds, size, nonzero, expected)
            return
        parts = self._elements(operand, origin.names)
        for name, places in parts.items():
            count = len(places) or size
            expected = self._nonzero(name, operand.dtype)[places.to(operand.device)].count_nonzero()
            self._cover(name, places, origin.is_token)
            share = product.multiply_adds * count // size
            self._add(name, product, share, count, nonzero if len(parts) == 1 else expected, expected)

    def _elements(self, operand: Tensor, names: frozenset[str]) -> dict[str, Tensor]:
        """Which elements of which parameters; without values nothing can be looked up, and they count as whole."""
        if operand.is_meta:
            return dict.fromkeys(names, torch.zeros(0, dtype=torch.int64))
        return self.origins.elements(operand)

    def _add(
        self, name: str, product: Product, multiply_adds: int, values: int, nonzero: Tensor, expected: Tensor
    ) -> None:
        self.uses.append((name, product.kind, multiply_adds, values))
        self.counts += [nonzero, expected]

    def _cover(self, name: str, places: Tensor, is_token: bool) -> None:
        if is_token or not len(places):
            self.whole.add(name)
        if name not in self.places:
            self.places[name] = torch.zeros(_span(self.parameters[name]), dtype=torch.bool)
        self.places[name][places] = True

    def _nonzero(self, name: str, dtype: torch.dtype) -> Tensor:
        """Where the parameter is not zero once it has this type, in the order of its memory."""
        key = (name, dtype)
        if key not in self.nonzero:
            parameter = self.parameters[name].detach()
            values = parameter.as_strided((_span(parameter),), (1,), parameter.storage_offset())
            self.nonzero[key] = values.to(dtype) != 0
        return self.nonzero[key]

    def list(self) -> list[Use]:
        """All uses; their counts come from the device in one go."""
        counts = numbers(self.counts)
        pairs = zip(counts[::2], counts[1::2], strict=True)
        return [Use(*use, nonzero, expected) for use, (nonzero, expected) in zip(self.uses, pairs, strict=True)]

    def covered(self) -> dict[str, bool]:
        """Of every parameter that reached a kernel, whether all of its elements did."""
        partial = {n: int(p.sum()) == self.parameters[n].numel() for n, p in self.places.items() if n not in self.whole}
        return {**dict.fromkeys(self.whole, True), **partial}


def numbers(tensors: Sequence[Tensor]) -> list[Any]:
    """Of tensors of one value each; None for those without values."""
    if not tensors or tensors[0].is_meta:
        return [None] * len(tensors)
    values: list[Any] = torch.stack(list(tensors)).tolist()
    return values


def _span(parameter: Tensor) -> int:
    """How many elements lie between its first and its last in memory."""
    return 1 + sum((size - 1) * stride for size, stride in zip(parameter.shape, parameter.stride(), strict=True))
