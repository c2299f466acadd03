"""Where a tensor's values come from while a network runs: its parameters as they are, or changed, or the images.

Followed by storage, so that views need no care. A copy that only moves values (`clone`, a cast, `cat`, a gather) still
holds the weight itself; which elements of which parameters it holds is worked out when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves, tree_map

COPIES = frozenset(("aten::clone", "aten::_to_copy", "aten::copy_"))

JOINS = frozenset(("aten::cat", "aten::stack"))

PICKS = frozenset(("aten::index", "aten::index_select", "aten::gather", "aten::take"))

REORDERS = frozenset(("aten::repeat", "aten::roll", "aten::flip", "aten::channel_shuffle"))

MIXES = frozenset(f"aten::{name}" for name in ("mul", "mul_", "div", "div_", "addcmul", "addcmul_", "lerp", "where"))
"""These can weigh parameters by what images say."""

SHAPED = frozenset(
    (
        *(f"aten::{name}_like" for name in ("empty", "zeros", "ones", "full", "rand", "randn", "randint")),
        *(f"aten::new_{name}" for name in ("empty", "zeros", "ones", "full", "empty_strided")),
    )
)
"""These read the shape of a tensor, not its values."""


class Kind(Enum):
    """What a tensor's values are."""

    CONSTANT = "constant"
    WEIGHT = "weight"
    COMPUTED = "computed"
    DATA = "data"


@dataclass(frozen=True)
class Origin:
    """Of a storage. `names` are the parameters that a weight consists of, or that other values were computed from.

    Data has names where it is weights that were mixed by what images say. `whole` is the parameter of which a storage
    or a tensor is one whole copy, `ids` are the elements of a copy. `is_token` is a weight with values for each image:
    repeated, or `is_picked` by what the image says. `sizes` are, of a constant, how many values the tensors had that it
    was made of.
    """

    kind: Kind
    names: frozenset[str] = frozenset()
    whole: str | None = None
    ids: Callable[[], Tensor] | None = None
    is_token: bool = False
    is_picked: bool = False
    sizes: frozenset[int] = frozenset()

    @property
    def stands_for_data(self) -> bool:
        """Whether the values may differ from image to image."""
        return self.kind is Kind.DATA or self.is_token


DATA = Origin(Kind.DATA)


@dataclass(frozen=True)
class _Region:
    """A parameter's place in its storage, in elements; `base` is the id of the storage's first element."""

    name: str
    parameter: Tensor
    start: int
    end: int
    base: int


class Origins:
    """The origins of all storages, while a network runs once on `batch` images."""

    def __init__(self, parameters: Mapping[str, Tensor], batch: int) -> None:
        self.batch = batch
        self.sizes = {name: parameter.numel() for name, parameter in parameters.items()}
        self.regions: dict[int, list[_Region]] = {}
        self.known: dict[int, tuple[StorageWeakRef, Origin]] = {}
        self.ids_given = 0
        for name, parameter in parameters.items():
            self._hold(name, parameter.detach())

    def _hold(self, name: str, parameter: Tensor) -> None:
        regions = self.regions.setdefault(storage_key(parameter), [])
        base = regions[0].base if regions else self.ids_given
        if not regions:
            self.ids_given += _storage_size(parameter)
        start = int(parameter.storage_offset())
        regions.append(_Region(name, parameter, start, start + _extent(parameter), base))

    def aliases(self) -> list[tuple[str, str]]:
        """Pairs of parameters that share memory without being one."""
        pairs = []
        for regions in self.regions.values():
            ordered = sorted(regions, key=lambda region: region.start)
            pairs += [(a.name, b.name) for a, b in pairwise(ordered) if b.start < a.end]
        return pairs

    def of(self, tensor: Tensor) -> Origin:
        """Of a tensor; a constant where nothing has said otherwise."""
        key = storage_key(tensor)
        if key in self.regions:
            return self._of_held(tensor, self.regions[key])
        origin = self.known[key][1] if key in self.known else constant(tensor)
        if origin.kind is not Kind.WEIGHT:
            return origin
        if origin.whole is not None and not self._is_whole(tensor, origin.whole):
            origin = replace(origin, whole=None)
        return self._token(tensor, origin)

    def _of_held(self, tensor: Tensor, regions: Sequence[_Region]) -> Origin:
        start = tensor.storage_offset()
        end = start + _extent(tensor)
        inside = [region for region in regions if start < region.end and region.start < end]
        origin = Origin(Kind.WEIGHT, frozenset(region.name for region in inside))
        if len(inside) == 1 and self._is_whole(tensor, inside[0].name):
            origin = replace(origin, whole=inside[0].name)
        return self._token(tensor, origin)

    def _is_whole(self, tensor: Tensor, name: str) -> bool:
        return tensor.numel() == self.sizes[name] and _is_injective(tensor)

    def _token(self, tensor: Tensor, origin: Origin) -> Origin:
        spread = self.batch > 1 and tensor.dim() > 0 and tensor.shape[0] == self.batch and tensor.stride(0) == 0
        return replace(origin, is_token=True) if spread else origin

    def is_known(self, tensor: Tensor) -> bool:
        """Whether it is a parameter's, or something has said where its values come from."""
        return storage_key(tensor) in self.regions or storage_key(tensor) in self.known

    def set(self, tensor: Tensor, origin: Origin) -> None:
        """Of a storage that is new, or was written to."""
        self.known[storage_key(tensor)] = (StorageWeakRef(tensor.untyped_storage()), origin)  # type: ignore[no-untyped-call]

    # --- which elements

    def elements(self, tensor: Tensor) -> dict[str, Tensor]:
        """Of a weight: for each parameter that it has elements of, which ones, numbered in the parameter's memory."""
        ids, parts = self._ids(tensor)().flatten(), {}
        for region in (region for regions in self.regions.values() for region in regions):
            first, last = region.base + region.start, region.base + region.end
            inside = ids[(ids >= first) & (ids < last)]
            if len(inside):
                parts[region.name] = inside - first
        return parts

    def _ids(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Of every element of a weight the number that it has among all parameters' elements, in the tensor's shape.

        The answer comes later, and holds no memory till then.
        """
        key, shape, stride, offset = storage_key(tensor), tensor.shape, tensor.stride(), tensor.storage_offset()
        if key in self.regions:
            base, size = self.regions[key][0].base, _storage_size(tensor)
            return lambda: torch.arange(base, base + size).as_strided(shape, stride, offset)
        copied = self.known[key][1].ids
        assert copied is not None, "a copy of a weight knows its elements"
        return lambda: copied().as_strided(shape, stride, offset)

    # --- what becomes of them

    def moved(self, name: str, func: Any, args: Sequence[Any], out: Tensor) -> Origin | None:
        """The origin of what moves weights and does nothing else to them; None where it does, or has no weights."""
        if name in COPIES:
            sources = [args[1] if name == "aten::copy_" else args[0]]
        elif name in JOINS:
            sources = list(args[0])
        elif name in PICKS | REORDERS:
            sources = [args[0]]
        else:
            return None
        origins = [self.of(source) for source in sources]
        if any(origin.kind is not Kind.WEIGHT for origin in origins):
            return None
        names = frozenset[str]().union(*(origin.names for origin in origins))
        by_data = name in PICKS and any(self.of(tensor).kind is Kind.DATA for tensor in tensors_in(args[1:]))
        token = by_data or any(origin.is_token for origin in origins)
        whole = origins[0].whole if name in COPIES and out.numel() == sources[0].numel() else None
        picked = by_data or any(origin.is_picked for origin in origins)
        return Origin(Kind.WEIGHT, names, whole, self._replayed(name, func, args, sources, out), token, picked)

    def _replayed(
        self, name: str, func: Any, args: Sequence[Any], sources: Sequence[Tensor], out: Tensor
    ) -> Callable[[], Tensor]:
        """The same move of the elements' numbers, as the storage of `out` has them."""
        shape, stride, offset, size = out.shape, out.stride(), out.storage_offset(), _storage_size(out)
        later = {id(source): self._ids(source) for source in sources}
        indices = {id(t): t.detach() for t in tensors_in(args) if id(t) not in later}
        places = [] if name in COPIES else tree_map(lambda x: id(x) if isinstance(x, Tensor) else x, list(args))
        keys = tree_map(lambda x: isinstance(x, Tensor), list(args))

        def ids() -> Tensor:
            numbers = {key: make() for key, make in later.items()} | {k: t.cpu() for k, t in indices.items()}
            if name in COPIES:
                moved = next(iter(numbers.values())).expand(shape)
            else:
                moved = func(*tree_map(lambda place, is_key: numbers[place] if is_key else place, places, keys))
            whole = torch.full((size,), -1)
            whole.as_strided(shape, stride, offset).copy_(moved)
            return whole

        return ids

    def combined(self, name: str, tensors: Sequence[Tensor], size: int) -> Origin:
        """Of `size` values that the operation computes from these tensors.

        Among images, weights leave their names when they were multiplied to more values than the images had: a sum of
        them by what an image says, such as conditional experts. Weights that an image picked always do.
        """
        origins = [(tensor, self.of(tensor)) for tensor in tensors]
        names = names_of(origin for _, origin in origins)
        if any(origin.stands_for_data for _, origin in origins):
            mixed = names_of(origin for _, origin in origins if origin.kind is Kind.DATA or origin.is_picked)
            images = [tensor.numel() for tensor, origin in origins if origin.kind is Kind.DATA]
            spread = name in MIXES and size > max(images, default=size)
            return Origin(Kind.DATA, names if spread else mixed)
        if any(origin.kind is not Kind.CONSTANT for _, origin in origins):
            return Origin(Kind.COMPUTED, names)
        return Origin(Kind.CONSTANT, sizes=frozenset[int]().union(*(origin.sizes for _, origin in origins)))


def tensors_in(values: Any) -> list[Tensor]:
    """All tensors among arguments or results, those in lists too."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def constant(tensor: Tensor) -> Origin:
    """The origin of a tensor that was there before anything ran, such as a buffer."""
    return Origin(Kind.CONSTANT, sizes=frozenset([_storage_size(tensor)]))


def storage_key(tensor: Tensor) -> int:
    """The storage's own address, which stays its own while a weak reference is held."""
    key: int = tensor.untyped_storage()._cdata
    return key


def covers_storage(tensor: Tensor) -> bool:
    """Whether a tensor has every element of its storage."""
    return tensor.numel() == _storage_size(tensor)


def names_of(origins: Iterable[Origin]) -> frozenset[str]:
    """All their parameters."""
    return frozenset[str]().union(*(origin.names for origin in origins))


def _storage_size(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() // tensor.element_size()


def _extent(tensor: Tensor) -> int:
    """How many elements of the storage lie between a tensor's first and its last, both included."""
    if not tensor.numel():
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _is_injective(tensor: Tensor) -> bool:
    """Whether no element of the storage comes twice; true of what slicing and permuting make."""
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride <= reach:
            return False
        reach += stride * (size - 1)
    return True
