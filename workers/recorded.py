"""What was seen of a network while it ran: its operations, the weights in them, and what stands in a weight's place."""

from __future__ import annotations

from dataclasses import dataclass, field

from prunesweep.workers.uses import Use


@dataclass(frozen=True)
class Operation:
    """A counted operation without a weight: its operands are activations, or constants."""

    layer: str
    kind: str
    multiply_adds: int


@dataclass(frozen=True)
class Transformed:
    """Weights that reach a layer's kernel as something else; `names` may be empty where nothing tells them."""

    layer: str
    names: frozenset[str]
    reason: str


@dataclass(frozen=True)
class Constant:
    """An operand that was not computed from parameters or images: a buffer, or a tensor from elsewhere.

    `sizes` are how many values it has, and how many the tensors had that it was made of.
    """

    layer: str
    sizes: frozenset[int]
    digest: float


@dataclass
class Recording:
    """What forward passes on `images` images did.

    `covered` says of every weight that reached a kernel whether all of its elements did; `felt` are the parameters
    whose values went into what the images became without a kernel, such as a bias. `transposed` are weights that are
    multiplied as [inputs, outputs]. `problems` are other reasons why nothing that is counted here would be true.
    """

    images: int
    uses: list[Use] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    transformed: list[Transformed] = field(default_factory=list)
    constants: list[Constant] = field(default_factory=list)
    covered: dict[str, bool] = field(default_factory=dict)
    transposed: set[str] = field(default_factory=set)
    felt: set[str] = field(default_factory=set)
    aliases: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    depends_on_data: bool = False
    """Whether the images decided which operations ran, or on how much."""
