"""Which images of every batch one of several replicas works on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Portion:
    """One of `count` contiguous parts of every batch; where a batch does not divide, the first parts have one more.

    With a `neighbour` it begins with the image before its part, which may be the last of the batch: what mixes each
    image with the one before it needs no other.
    """

    index: int = 0
    count: int = 1
    neighbour: bool = False

    @property
    def whole(self) -> bool:
        """Whether it is all there is."""
        return self.count == 1

    def of(self, size: int) -> slice:
        """Where the part lies in a batch; it may be empty. The neighbour is not in it."""
        share, rest = divmod(size, self.count)
        start = self.index * share + min(self.index, rest)
        return slice(start, start + share + (self.index < rest))

    def places(self, size: int) -> Tensor:
        """The places in a batch of the images of the portion, its neighbour first: int64."""
        part = self.of(size)
        own = torch.arange(part.start, part.stop)
        return torch.cat([(own[:1] - 1) % size, own]) if self.neighbour and size else own

    def sizes(self, images: int, batch_size: int) -> list[int]:
        """Of the parts of all batches of so many images."""
        return [size if self.whole else self._length(size) for size in batch_sizes(images, batch_size)]

    def positions(self, images: int, batch_size: int) -> slice | Tensor:
        """Where in the order of all images those of the parts are, batch after batch; an index for tensors."""
        if self.whole:
            return slice(None)
        batches = enumerate(batch_sizes(images, batch_size))
        return torch.cat([number * batch_size + self.places(size) for number, size in batches])

    def _length(self, size: int) -> int:
        part = self.of(size)
        length: int = part.stop - part.start
        return length + (self.neighbour and length > 0)


def batch_sizes(images: int, batch_size: int) -> list[int]:
    """Of all batches; the last one may be smaller."""
    full, rest = divmod(images, batch_size)
    return [batch_size] * full + [rest] * (rest > 0)
