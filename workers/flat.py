"""Many tensors as one: a common buffer, and their elements in the order of memory, in blocks that a cache holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
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
    def like(cls, tensors: Sequence[Tensor], dtype: torch.dtype | None = None) -> Flat:
        """With room for these tensors, on one device and of one type, theirs unless given; not initialised."""
        sizes = [tensor.numel() for tensor in tensors]
        whole = torch.empty(sum(sizes), dtype=dtype or tensors[0].dtype, device=tensors[0].device)
        strides = [torch.empty_like(tensor, device="meta").stride() for tensor in tensors]
        parts = zip(torch.split(whole, sizes), tensors, strides, strict=True)
        return cls(whole, [part.as_strided(tensor.size(), stride) for part, tensor, stride in parts])

    @classmethod
    def over(cls, tensor: Tensor) -> Flat:
        """The tensor's own memory: what is written into the buffer is written into the tensor."""
        return cls(memory(tensor, tensor), [tensor])

    @cached_property
    def parts(self) -> list[Flat]:
        """Each tensor by itself."""
        sizes = [view.numel() for view in self.views]
        return [Flat(part, [view]) for part, view in zip(torch.split(self.whole, sizes), self.views, strict=True)]

    @cached_property
    def rows(self) -> Rows:
        """The tensors' rows, for what is summed and spread by them."""
        return Rows.of(self.views)

    @cached_property
    def runs(self) -> Runs | None:
        """What leads from the order of memory to the row-major one; None where they are the same."""
        return Runs.of(self.views)

    def fill(self, tensors: Sequence[Tensor]) -> Tensor:
        """Copy tensors of these shapes into the buffer, in one multi-tensor operation; returns `whole`."""
        torch._foreach_copy_(self.views, [tensor.detach() for tensor in tensors])
        return self.whole


@dataclass(frozen=True)
class Rows:
    """The rows (output neurons, filters) of several tensors whose elements stand one after the other in a buffer.

    For an accelerator, where a loop over layers costs a launch for each of them and operation. `widths` [rows] and
    `heights` [layers] count the elements of a row and the rows of a layer; they and what follows of them are made once.
    """

    widths: Tensor
    heights: Tensor
    elements: int

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Rows:
        """Of tensors that store row after row."""
        for tensor in tensors:
            assert len(tensor) == 1 or tensor.stride(0) == max(tensor.stride()), "rows are stored one after the other"
        widths = [tensor[0].numel() for tensor in tensors for _ in range(len(tensor))]
        heights, device = [len(tensor) for tensor in tensors], tensors[0].device
        return cls(torch.tensor(widths).to(device), torch.tensor(heights).to(device), sum(widths))

    @cached_property
    def row(self) -> Tensor:
        """Of each element, [n]."""
        return _numbered(self.widths, self.elements)

    @cached_property
    def owner(self) -> Tensor:
        """The layer of each row, [rows]."""
        return _numbered(self.heights, len(self.widths))

    @cached_property
    def layer(self) -> Tensor:
        """Of each element, [n]."""
        return self.owner.index_select(0, _numbered(self.widths, self.elements))

    def sums(self, values: Tensor) -> Tensor:
        """Of each row, [rows]; the same bits every time, since nothing is added atomically."""
        return torch.segment_reduce(values, "sum", lengths=self.widths, unsafe=True)

    def layer_sums(self, values: Tensor) -> Tensor:
        """Of each layer, [layers]: row by row first, so that a large layer is not one sum."""
        return torch.segment_reduce(self.sums(values), "sum", lengths=self.heights, unsafe=True)


@dataclass(frozen=True)
class Runs:
    """Stretches of a buffer (filters, or whole tensors) within which the order of memory is not the row-major one.

    Of each tensor the first place in the buffer and the length of its runs, [tensors], and of the dimensions of a run
    size, stride and row-major stride, [tensors, dimensions]. `offset` counts to the longest run.
    """

    starts: Tensor
    lengths: Tensor
    sizes: Tensor
    strides: Tensor
    steps: Tensor
    offset: Tensor

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Runs | None:
        """None where every tensor is stored in row-major order."""
        if all(_order(tensor) == _order(torch.empty(tensor.shape, device="meta")) for tensor in tensors):
            return None
        runs = [tensor[0] if tensor.stride(0) == max(tensor.stride()) else tensor for tensor in tensors]
        dims, device = max(run.dim() for run in runs), tensors[0].device
        lengths = [run.numel() for run in runs]
        steps = [torch.empty(run.shape, device="meta").stride() for run in runs]

        def table(rows: Sequence[Sequence[int]]) -> Tensor:
            return torch.tensor([[1] * (dims - len(row)) + list(row) for row in rows]).to(device)

        return cls(
            starts=torch.tensor([0, *accumulate(tensor.numel() for tensor in tensors[:-1])]).to(device),
            lengths=torch.tensor(lengths).to(device),
            sizes=table([run.shape for run in runs]),
            strides=table([run.stride() for run in runs]),
            steps=table(steps),
            offset=torch.arange(max(lengths)).to(device),
        )


def _numbered(repeats: Tensor, total: int) -> Tensor:
    """0 as often as the first says, then 1 as often as the second, and so on; their sum is known, so nothing waits."""
    numbers = torch.arange(len(repeats), dtype=torch.int32, device=repeats.device)
    return numbers.repeat_interleave(repeats, output_size=total)


def memory(tensor: Tensor, layout: Tensor) -> Tensor:
    """The elements in one dimension, in the order in which `layout` (a dense tensor of this shape) stores its own.

    A view where the tensor is stored so itself, as parameters, their gradients and their momentum are; else a copy.
    """
    tensor = tensor.detach()
    if _order(tensor) != _order(layout):
        tensor = torch.empty_like(layout).copy_(tensor)
    return tensor.as_strided((tensor.numel(),), (1,))


def pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of one shape in one dimension, in the order in which the first is stored.

    What is written into the first is written into that tensor; of the others some may be copies.
    """
    flat = [memory(tensor, tensors[0]) for tensor in tensors]
    size = BLOCK if flat[0].device.type == "cpu" else len(flat[0])
    return zip(*(torch.split(tensor, size) for tensor in flat), strict=True)


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
