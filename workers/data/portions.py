"""Which images of every batch one of several replicas works on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Portion:
    """One of `count` contiguous parts of every batch; where a batch does not divide, the first parts have one more."""

    index: int = 0
    count: int = 1

    @property
    def whole(self) -> bool:
        """Whether it is all there is."""
        return self.count == 1

    def of(self, size: int) -> slice:
        """Where the part lies in a batch; it may be empty."""
        share, rest = divmod(size, self.count)
        start = self.index * share + min(self.index, rest)
        return slice(start, start + share + (self.index < rest))

    def sizes(self, images: int, batch_size: int) -> list[int]:
        """Of the parts of all batches of so many images."""
        return [size if self.whole else _length(self.of(size)) for size in batch_sizes(images, batch_size)]

    def positions(self, images: int, batch_size: int) -> slice | Tensor:
        """Where in the order of all images those of the parts are, batch after batch; an index for tensors."""
        if self.whole:
            return slice(None)
        batches = enumerate(batch_sizes(images, batch_size))
        parts = ((number * batch_size, self.of(size)) for number, size in batches)
        return torch.cat([torch.arange(first + part.start, first + part.stop) for first, part in parts])


def batch_sizes(images: int, batch_size: int) -> list[int]:
    """Of all batches; the last one may be smaller."""
    full, rest = divmod(images, batch_size)
    return [batch_size] * full + [rest] * (rest > 0)


def _length(part: slice) -> int:
    length: int = part.stop - part.start
    return length
