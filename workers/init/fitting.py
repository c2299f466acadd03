"""Whether weights are those of a network; what differs is named both ways, with shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from prunesweep.workers.checkpoint import load_network, storable
from prunesweep.workers.errors import UserError
from prunesweep.workers.init.reading import unprefixed
from prunesweep.workers.json_tensors import JSON

Shape = list[int]

Shapes = Mapping[str, Shape | None]
"""Of tensors by name; None where any shape will do."""

SHOWN = 2
"""So many names of each kind of difference are shown."""

COUNTER = ".num_batches_tracked"
"""Of batch norm, which old files lack, as torch allows."""


@dataclass(frozen=True)
class Outline:
    """A network's tensors by the names that files have, and those of them whose shapes depend on the classes."""

    shapes: Shapes
    head: frozenset[str]


@dataclass(frozen=True)
class Differences:
    """What a network and a file of weights have otherwise; of `shapes` the network's is the first."""

    lacking: Mapping[str, Shape | None]
    unknown: Mapping[str, Shape | None]
    shapes: Mapping[str, tuple[Shape, Shape]]

    @property
    def names(self) -> set[str]:
        """All of them."""
        return {*self.lacking, *self.unknown, *self.shapes}

    def __str__(self) -> str:
        parts = [
            _part("{} that the file lacks", [_tensor(name, shape) for name, shape in self.lacking.items()]),
            _part("{} that the network lacks", [_tensor(name, shape) for name, shape in self.unknown.items()]),
            _part("{} of another shape", [f"{n} {s[0]}, in the file {s[1]}" for n, s in self.shapes.items()]),
        ]
        return "; ".join(filter(None, parts))


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    """The shapes of a file's tensors."""
    return {name: _shape(name, tensor) for name, tensor in tensors.items()}


def outline(build: Callable[[int], nn.Module], classes: int) -> Outline:
    """Of the network that `build` makes for a number of classes; it is built twice, to see what depends on it."""
    own, other = (shapes_of(unprefixed(storable(build(n).state_dict()))) for n in (classes, classes + 1))
    return Outline(own, frozenset(name for name in own if own[name] != other.get(name, [])))


def differences(network: Outline, shapes: Shapes, new_head: bool) -> Differences:
    """Between a network and a file; with `new_head` but for the classifier."""
    own = network.shapes
    left_out = network.head if new_head else frozenset()
    return Differences(
        {n: s for n, s in own.items() if n not in shapes and n not in left_out and not n.endswith(COUNTER)},
        {n: s for n, s in shapes.items() if n not in own and n not in left_out},
        {
            name: (shape, other)
            for name, shape in own.items()
            if name not in left_out and (other := shapes.get(name)) and shape is not None and shape != other
        },
    )


def load(model: nn.Module, tensors: Mapping[str, Tensor], network: Outline, new_head: bool) -> None:
    """Put weights into a network, but for a new head; raises `UserError` where they do not fit."""
    differing = differences(network, shapes_of(tensors), new_head)
    if differing.names:
        raise UserError(f"the weights do not fit the network: {differing}")
    own = storable(model.state_dict())
    left_out = network.head if new_head else frozenset()
    names = zip(own, unprefixed(own), strict=True)
    given = {full: tensors[name] for full, name in names if name in tensors and name not in left_out}
    load_network(model, {**own, **given})


def _shape(name: str, tensor: Tensor) -> Shape | None:
    return None if name.endswith(JSON) or is_lazy(tensor) else list(tensor.shape)


def _tensor(name: str, shape: Shape | None) -> str:
    return name if shape is None else f"{name} {shape}"


def _part(what: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    more = ", ..." if len(items) > SHOWN else ""
    return f"{what.format(f'{len(items)} tensor' + 's' * (len(items) > 1))} ({', '.join(items[:SHOWN])}{more})"
