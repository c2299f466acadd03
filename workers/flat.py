"""Many tensors as one: a common buffer, and their elements in the order of memory, in blocks that a cache holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunesweep.workers.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 1 << 16
"""Elements that a CPU works on at a time: what several operations touch in turn stays in the cache."""


@dataclass(frozen=True)
class Flat:
    """One buffer (`whole`) and on it a view for each of some tensors, in their shape and memory layout."""

    whole: Tensor
    views: list[Tensor]

    @classmethod
    def like(cls, tensors: Sequence[Tensor]) -> Flat:
        """With room for these tensors, which are of one type and on one device; not initialised."""
        sizes = [tensor.numel() for tensor in tensors]
        whole = torch.empty(sum(sizes), dtype=tensors[0].dtype, device=tensors[0].device)
        strides = [torch.empty_like(tensor, device="meta").stride() for tensor in tensors]
        parts = zip(torch.split(whole, sizes), tensors, strides, strict=True)
        return cls(whole, [part.as_strided(tensor.size(), stride) for part, tensor, stride in parts])

    def parts(self) -> list[Flat]:
        """Each tensor by itself."""
        sizes = [view.numel() for view in self.views]
        return [Flat(part, [view]) for part, view in zip(torch.split(self.whole, sizes), self.views, strict=True)]


def memory(tensor: Tensor, layout: Tensor) -> Tensor:
    """The elements in one dimension, in the order in which `layout` (a dense tensor of this shape) stores its own.

    A view where the tensor is stored so itself, as parameters, their gradients and their momentum are; else a copy.
    """
    tensor = tensor.detach()
    if _order(tensor) != _order(layout):
        tensor = torch.empty_like(layout).copy_(tensor)
    return tensor.as_strided((tensor.numel(),), (1,))


def blocks(*tensors: Tensor, scratch: int = 0) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of one shape and layout as aligned views of whole rows: [rows, elements of an output neuron or filter].

    On a CPU about `BLOCK` elements at a time, elsewhere everything at once. Each comes with `scratch` buffers of its
    shape, which the next block uses again: fresh memory would cost more than the arithmetic.
    """
    matrices = [_matrix(tensor.detach()) for tensor in tensors]
    height, width = matrices[0].shape
    rows = min(height, max(1, BLOCK // width)) if matrices[0].device.type == "cpu" else height
    buffers = [torch.empty_like(matrices[0][:rows], memory_format=torch.contiguous_format) for _ in range(scratch)]
    for block in zip(*(torch.split(matrix, rows) for matrix in matrices), strict=True):
        yield *block, *(buffer[: len(block[0])] for buffer in buffers)


def _matrix(tensor: Tensor) -> Tensor:
    assert tensor.dim() == 2 or tensor.stride(0) == max(tensor.stride()), "filters are stored one after the other"
    return tensor if tensor.dim() == 2 else tensor.as_strided((len(tensor), tensor[0].numel()), (tensor.stride(0), 1))


def _order(tensor: Tensor) -> list[int]:
    """Strides, but for dimensions of size 1, whose stride means nothing."""
    return [stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]
