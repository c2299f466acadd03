"""One forward pass, and every convolution and matrix product of it: what reaches a kernel, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils.flop_counter import flop_registry

from prunesweep.workers.data.base import Dataset
from prunesweep.workers.errors import UserError
from prunesweep.workers.evaluating import evaluating
from prunesweep.workers.operations import Product, complete, is_counted, products
from prunesweep.workers.origins import (
    DATA,
    SHAPED,
    Kind,
    Origin,
    Origins,
    covers_storage,
    names_of,
    storage_key,
    tensors_in,
)
from prunesweep.workers.uses import Use, Uses, numbers


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
    """An operand that is neither a parameter nor computed: a buffer, or a tensor from elsewhere."""

    layer: str
    values: int
    digest: float


@dataclass
class Recording:
    """What one forward pass on `images` images did.

    `covered` says of every weight that reached a kernel whether all of its elements did.
    """

    images: int
    uses: list[Use] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    transformed: list[Transformed] = field(default_factory=list)
    constants: list[Constant] = field(default_factory=list)
    covered: dict[str, bool] = field(default_factory=dict)
    aliases: list[tuple[str, str]] = field(default_factory=list)
    depends_on_data: bool = False
    """Whether the images decided which operations ran."""


KNOWN = frozenset(("aten", "prim", "prims", "torchvision", "profiler", "debugprims", "inductor_prims"))
"""Operations of these namespaces that are not counted multiply no matrices."""

IMAGES = 32
"""So many are recorded at most: enough that experts and branches are reached, and fewer than a training step takes."""


def first_images(dataset: Dataset, batch_size: int, dtype: torch.dtype) -> Tensor:
    """The first images of the training set as they are, [B, C, H, W]; all stages of a dataset record the same."""
    size = min(IMAGES, batch_size)
    images, _ = next(dataset.train_batches(seed=0, epoch=0, batch_size=size, augment=False, dtype=dtype))
    return images


def record(model: nn.Module, images: Tensor) -> Recording:
    """Run images [B, C, H, W] through the network in evaluation mode; network and random numbers stay as they were."""
    with evaluating(model):
        recorder = _Recorder(model, len(images))
        inputs = images.clone(memory_format=torch.preserve_format)
        recorder.origins.set(inputs, DATA)
        with recorder.layers(), recorder:
            model(inputs)
    return recorder.recording()


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation of a forward pass below autograd, where composite operations are taken apart already."""

    def __init__(self, model: nn.Module, batch: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.parameters = dict(model.named_parameters())
        _require_plain(self.parameters)
        self.matrices = frozenset(name for name, p in self.parameters.items() if p.dim() >= 2)
        self.names = {id(module): name for name, module in model.named_modules()}
        self.where: list[str] = [""]
        self.origins = Origins(self.parameters, batch)
        self.result = Recording(batch, aliases=self.origins.aliases())
        self.uses = Uses(self.parameters, self.origins)
        self.digests: list[tuple[str, int, Tensor]] = []

    @contextmanager
    def layers(self) -> Iterator[None]:
        """Inside it `where` tells the layers that are running, the innermost last."""

        def enter(module: nn.Module, inputs: Any) -> None:
            self.where.append(self.names.get(id(module), self.where[-1]))

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            self.where.pop()

        hooks = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload):
            raise UserError(f"{self._layer()} runs {func}, which cannot be looked into; take it apart into operations")
        name = func._schema.name
        if not is_counted(name):
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        self._follow(name, func, complete(func._schema, args, kwargs), tensors_in((args, kwargs)), result)
        if name.partition("::")[0] not in KNOWN and (formula := flop_registry.get(func._overloadpacket)):
            flops = formula(*args, **kwargs, out_val=result)
            self.result.operations.append(Operation(self.where[-1], name, flops // 2))
        return result

    def _require_strided(self, name: str, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            if tensor.layout != torch.strided and not tensor.is_nested:
                raise UserError(
                    f"{self._layer()}: {name} works on a tensor of layout {tensor.layout}, whose weights cannot be "
                    "followed; take dense tensors, which masks make sparse"
                )

    def _follow(self, name: str, func: Any, arguments: list[Any], inputs: list[Tensor], result: Any) -> None:
        outputs = tensors_in(result)
        self._require_strided(name, [*inputs, *outputs])
        counted = products(name, arguments, result)
        if counted is None:
            if name.partition("::")[0] not in KNOWN:
                self._foreign(func, name, inputs)
            origin = self._origin(name, func, arguments, inputs, outputs)
        else:
            roles = [self._count(product) for product in counted]
            origin = DATA if any(roles) else Origin(Kind.COMPUTED, names_of(map(self.origins.of, inputs)))
        known = {storage_key(tensor) for tensor in inputs}
        for tensor in outputs:
            if storage_key(tensor) not in known:
                self.origins.set(tensor, origin)
        for tensor in _written(func, arguments):
            self._write(tensor, origin)
        if name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero"):
            self.result.depends_on_data |= any(self.origins.of(tensor).kind is Kind.DATA for tensor in inputs)

    def _foreign(self, func: Any, name: str, inputs: list[Tensor]) -> None:
        """What somebody else's kernel does with weights nobody here can know, nor what it costs without a formula."""
        weights = names_of(map(self.origins.of, inputs)) & self.matrices
        formula = flop_registry.get(func._overloadpacket)
        if weights or (formula is None and any(self.origins.of(tensor).kind is Kind.DATA for tensor in inputs)):
            raise UserError(
                f"{self._layer()} runs {name}, of which nothing is known here; give weights to operations of torch "
                "alone, and register what others cost with torch.utils.flop_counter.register_flop_formula"
            )

    def _origin(
        self, name: str, func: Any, arguments: list[Any], inputs: list[Tensor], outputs: list[Tensor]
    ) -> Origin:
        if name in SHAPED:
            return Origin(Kind.CONSTANT)
        moved = self.origins.moved(name, func, arguments, outputs[0]) if len(outputs) == 1 else None
        if moved is not None:
            return moved
        return self.origins.combined(name, inputs, max((tensor.numel() for tensor in outputs), default=0))

    def _write(self, tensor: Tensor, origin: Origin) -> None:
        """What an operation wrote into a tensor is part of its storage, or all of it."""
        if storage_key(tensor) in self.origins.regions:
            names = self.origins.of(tensor).names & self.matrices
            if names:
                self._transform(names, "it is changed while the network runs")
            return
        before = self.origins.of(tensor)
        if not covers_storage(tensor) and before.kind is not Kind.CONSTANT:
            origin = self.origins.combined("", [tensor], 0) if origin.kind is not Kind.DATA else origin
        self.origins.set(tensor, origin)

    # --- what reaches a kernel

    def _count(self, product: Product) -> bool:
        """Note the product; returns whether its result differs from image to image."""
        left, right = (DATA if side is None else self.origins.of(side) for side in (product.left, product.right))
        weight, other = self._weight(product, left, right)
        depends = left.stands_for_data or right.stands_for_data
        if weight is not None:
            self._use(product, weight)
        else:
            self._other(product, left, right, other)
        return depends

    def _weight(self, product: Product, left: Origin, right: Origin) -> tuple[Tensor | None, Tensor | None]:
        """The operand that is a weight, and the one that is a constant.

        Of two weights that one which is not repeated for every image; of such two the second, as in x W.
        """
        sides = [(product.right, right)] if product.is_slot else [(product.right, right), (product.left, left)]
        weights = [(tensor, origin) for tensor, origin in sides if origin.kind is Kind.WEIGHT]
        weights.sort(key=lambda pair: pair[1].is_token)
        constants = [tensor for tensor, origin in sides if origin.kind is Kind.CONSTANT]
        return (weights[0][0] if weights else None), (constants[0] if constants else None)

    def _other(self, product: Product, left: Origin, right: Origin, constant: Tensor | None) -> None:
        self.result.operations.append(Operation(self.where[-1], product.kind, product.multiply_adds))
        if constant is not None and not constant.is_nested:
            # A kernel may be handed the same values for every image; they are counted once, as the buffer has them.
            sizes = [1 if step == 0 else n for n, step in zip(constant.shape, constant.stride(), strict=True)]
            once = constant.detach().as_strided(sizes, constant.stride(), constant.storage_offset())
            self.digests.append((self.where[-1], once.numel(), once.double().sum()))
        depends = left.stands_for_data or right.stands_for_data
        computed = [o for o in ((right,) if product.is_slot else (left, right)) if o.kind is Kind.COMPUTED]
        if names := names_of(computed) & self.matrices:
            if depends:
                self._transform(names, "its kernel receives a weight that is computed from others")
        elif product.is_slot and right.kind is Kind.DATA:
            self._transform(right.names & self.matrices, "its kernel receives weights that are made for each image")
        elif left.kind is right.kind is Kind.DATA and (names := (left.names | right.names) & self.matrices):
            self._transform(names, "its kernel receives weights that are mixed for each image")

    def _transform(self, names: frozenset[str], reason: str) -> None:
        self.result.transformed.append(Transformed(self.where[-1], names, reason))

    def _use(self, product: Product, operand: Tensor) -> None:
        origin = self.origins.of(operand)
        names = origin.names & self.matrices
        if names and (operand.is_complex() or self._is_reinterpreted(operand, origin)):
            self._transform(names, "its kernel receives complex numbers, or bits of another type")
            return
        self.uses.add(product, operand)

    def _is_reinterpreted(self, operand: Tensor, origin: Origin) -> bool:
        held = storage_key(operand) in self.origins.regions
        return held and any(self.parameters[name].dtype != operand.dtype for name in origin.names)

    def _layer(self) -> str:
        return f"layer {self.where[-1]}" if self.where[-1] else "the network"

    def recording(self) -> Recording:
        """All that was seen."""
        result = self.result
        result.uses, result.covered = self.uses.list(), self.uses.covered()
        for (layer, values, _), digest in zip(self.digests, numbers([d for *_, d in self.digests]), strict=True):
            result.constants.append(Constant(layer, values, digest or 0.0))
        return result


def _written(func: Any, arguments: Sequence[Any]) -> list[Tensor]:
    """The arguments that an operation writes to."""
    if not func._schema.is_mutable:
        return []
    pairs = zip(func._schema.arguments, arguments, strict=False)
    return tensors_in([value for said, value in pairs if said.alias_info is not None and said.alias_info.is_write])


def _require_plain(parameters: dict[str, nn.Parameter]) -> None:
    for name, parameter in parameters.items():
        if is_traceable_wrapper_subclass(parameter) or parameter.layout != torch.strided:
            raise UserError(f"{name} is a {type(parameter).__name__}, not a plain tensor; take a dense one of torch")
