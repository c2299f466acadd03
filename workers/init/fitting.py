"""Whether weights are those of a network; what differs is named both ways, with shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
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


@runtime_checkable
class Translates(Protocol):
    """A network whose files may have other names for its tensors, or hold them in other parts."""

    def translated(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a file as the network has them; what it does not know keeps its name."""


@dataclass(frozen=True)
class Outline:
    """A network's tensors by the names that files have, and those of them whose shapes depend on the classes.

    `shared` has for each tensor of several names all of these, such as an embedding that is the last layer's matrix,
    too: a file needs one of them.
    """

    shapes: Shapes
    head: frozenset[str]
    shared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def names_of(self, name: str) -> tuple[str, ...]:
        """A tensor's names, this one first."""
        return name, *(other for other in self.shared.get(name, ()) if other != name)


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
    model = build(classes)
    own, other = shapes_of(_own(model)), shapes_of(_own(build(classes + 1)))
    head = frozenset(name for name in own if own[name] != other.get(name, []))
    return Outline(own, head, _shared(model))


def shapes_in(model: nn.Module, shapes: Shapes) -> Shapes:
    """The shapes of a file's tensors as the network has them."""
    if not isinstance(model, Translates):
        return shapes
    nothing = torch.zeros(())
    return shapes_of(model.translated({n: nothing.expand(shape) for n, shape in shapes.items() if shape is not None}))


def _own(model: nn.Module) -> dict[str, Tensor]:
    """Its tensors by the names that files have."""
    state = storable(model.state_dict())
    return state if isinstance(model, Translates) else unprefixed(state)


def _shared(model: nn.Module) -> dict[str, tuple[str, ...]]:
    kept, names = model.state_dict(keep_vars=True), dict[int, list[str]]()
    for name, full in zip(_own(model), storable(model.state_dict()), strict=True):
        if full in kept:
            names.setdefault(id(kept[full]), []).append(name)
    return {name: tuple(group) for group in names.values() if len(group) > 1 for name in group}


def differences(network: Outline, shapes: Shapes, new_head: bool) -> Differences:
    """Between a network and a file; with `new_head` but for the classifier."""
    own = network.shapes
    left_out = network.head if new_head else frozenset()
    return Differences(
        {
            n: s
            for n, s in own.items()
            if not (n in left_out or n.endswith(COUNTER) or any(name in shapes for name in network.names_of(n)))
        },
        {n: s for n, s in shapes.items() if n not in own and n not in left_out},
        {
            name: (shape, other)
            for name, shape in own.items()
            if name not in left_out and (other := shapes.get(name)) and shape is not None and shape != other
        },
    )


def load(model: nn.Module, tensors: Mapping[str, Tensor], network: Outline, new_head: bool) -> None:
    """Put weights into a network, but for a new head; raises `UserError` where they do not fit."""
    if isinstance(model, Translates):
        tensors = model.translated(tensors)
    differing = differences(network, shapes_of(tensors), new_head)
    if differing.names:
        raise UserError(f"the weights do not fit the network: {differing}")
    _require_equal(tensors, network)
    state = storable(model.state_dict())
    left_out = network.head if new_head else frozenset()
    given = {
        full: tensors[known[0]]
        for full, name in zip(state, _own(model), strict=True)
        if name not in left_out and (known := [other for other in network.names_of(name) if other in tensors])
    }
    load_network(model, {**state, **given})


def _require_equal(tensors: Mapping[str, Tensor], network: Outline) -> None:
    for names in dict.fromkeys(network.shared.values()):
        first, *others = [name for name in names if name in tensors] or [""]
        for other in others:
            if not torch.equal(tensors[first], tensors[other]):
                raise UserError(f"{first} and {other} are one tensor in the network, and the file has two that differ")


def _shape(name: str, tensor: Tensor) -> Shape | None:
    return None if name.endswith(JSON) or is_lazy(tensor) else list(tensor.shape)


def _tensor(name: str, shape: Shape | None) -> str:
    return name if shape is None else f"{name} {shape}"


def _part(what: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    more = ", ..." if len(items) > SHOWN else ""
    return f"{what.format(f'{len(items)} tensor' + 's' * (len(items) > 1))} ({', '.join(items[:SHOWN])}{more})"
