"""Watches a network while it runs: what reaches kernels of convolutions and matrix products, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils.flop_counter import flop_registry

from prunesweep.workers.errors import UserError
from prunesweep.workers.operations import TRANSPOSED, Product, complete, is_counted, products
from prunesweep.workers.origins import (
    DATA,
    SHAPED,
    Kind,
    Origin,
    Origins,
    constant,
    covers_storage,
    names_of,
    storage_key,
    tensors_in,
)
from prunesweep.workers.outputs import read
from prunesweep.workers.recorded import Constant, Operation, Recording, Transformed
from prunesweep.workers.uses import Uses, numbers

KNOWN = frozenset(("aten", "prim", "prims", "torchvision", "profiler", "debugprims", "inductor_prims"))
"""Operations of these namespaces that are not counted multiply no matrices."""


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation of a forward pass below autograd, where composite operations are taken apart already."""

    def __init__(self, model: nn.Module, batch: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.parameters = dict(model.named_parameters())
        _require_plain(self.parameters)
        self.matrices = frozenset(name for name, p in self.parameters.items() if p.dim() >= 2)
        self.names = {id(module): name for name, module in model.named_modules()}
        self.where: list[str] = [""]
        self.origins = Origins(self.parameters, batch)
        self.result = Recording(0, aliases=self.origins.aliases())
        self.uses = Uses(self.parameters, self.origins)
        self.digests: list[tuple[str, frozenset[int], Tensor]] = []
        self.from_outside: list[str] = []
        """Layers that got a tensor with a row for each image that no operation of torch made."""
        for module in model.modules():
            for tensor in tensors_in([*module._buffers.values(), *vars(module).values()]):
                if not self.origins.is_known(tensor):
                    self.origins.set(tensor, constant(tensor))

    def run(self, model: nn.Module, images: Tensor) -> None:
        """One more batch; its images are copied, since some networks write into them."""
        inputs = images.clone(memory_format=torch.preserve_format)
        self.origins.set(inputs, DATA)
        with self.layers(), self:
            outputs = model(inputs)
        self.result.images += len(images)
        logits = read(outputs).logits
        if not self.origins.of(logits).stands_for_data:
            self.note("its logits come from its images by other ways than operations of torch, such as NumPy")

    def note(self, text: str) -> None:
        """A problem, once."""
        if text not in self.result.problems:
            self.result.problems.append(text)

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
        if any(self._is_from_outside(tensor) for tensor in inputs):
            self.from_outside.append(self._layer())
        self._require_strided(name, [*inputs, *outputs])
        counted = products(name, arguments, result)
        if counted is None:
            if name.partition("::")[0] not in KNOWN:
                self._foreign(func, name, inputs)
            origin = self._origin(name, func, arguments, inputs, outputs)
        else:
            roles = [self._count(product) for product in counted]
            origin = DATA if any(roles) else self.origins.combined(name, inputs, 0)
        known = {storage_key(tensor) for tensor in inputs}
        for tensor in outputs:
            if storage_key(tensor) not in known:
                self.origins.set(tensor, origin)
        for tensor in _written(func, arguments):
            self._write(tensor, origin)
        if any(self.origins.of(tensor).kind is Kind.DATA for tensor in _deciding(name, arguments)):
            self.result.depends_on_data = True

    def _is_from_outside(self, tensor: Tensor) -> bool:
        if tensor.is_nested or self.origins.is_known(tensor) or not tensor.is_floating_point():
            return False
        return self.origins.batch > 1 and tensor.dim() > 1 and tensor.shape[0] == self.origins.batch

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
        origin = self.origins.combined(name, inputs, max((tensor.numel() for tensor in outputs), default=0))
        if origin.kind is Kind.DATA:
            self.result.felt |= names_of(map(self.origins.of, inputs))
        return origin

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

    def _weight(
        self, product: Product, left: Origin, right: Origin
    ) -> tuple[Tensor | None, tuple[Tensor, Origin] | None]:
        """The operand that is a weight, and the one that is a constant.

        Of two weights that one which is not repeated for every image; of such two the second, as in x W.
        """
        sides = [(product.right, right)] if product.is_slot else [(product.right, right), (product.left, left)]
        weights = [(tensor, origin) for tensor, origin in sides if origin.kind is Kind.WEIGHT]
        weights.sort(key=lambda pair: pair[1].is_token)
        constants = [
            (tensor, origin) for tensor, origin in sides if origin.kind is Kind.CONSTANT and tensor is not None
        ]
        return (weights[0][0] if weights else None), (constants[0] if constants else None)

    def _other(self, product: Product, left: Origin, right: Origin, fixed: tuple[Tensor, Origin] | None) -> None:
        self.result.operations.append(Operation(self.where[-1], product.kind, product.multiply_adds))
        if fixed is not None and not fixed[0].is_nested:
            self._constant(*fixed)
        depends = left.stands_for_data or right.stands_for_data
        computed = [o for o in ((right,) if product.is_slot else (left, right)) if o.kind is Kind.COMPUTED]
        if names := names_of(computed) & self.matrices:
            if depends:
                self._transform(names, "its kernel receives a weight that is computed from others")
        elif product.is_slot and right.kind is Kind.DATA:
            self._transform(right.names & self.matrices, "its kernel receives weights that are made for each image")
        elif left.kind is right.kind is Kind.DATA and (names := (left.names | right.names) & self.matrices):
            self._transform(names, "its kernel receives weights that are mixed for each image")

    def _constant(self, operand: Tensor, origin: Origin) -> None:
        """A kernel may be handed the same values for every image; they are counted once, as the buffer has them."""
        sizes = [1 if step == 0 else n for n, step in zip(operand.shape, operand.stride(), strict=True)]
        once = operand.detach().as_strided(sizes, operand.stride(), operand.storage_offset())
        self.digests.append((self.where[-1], origin.sizes | {once.numel()}, once.double().sum()))

    def _transform(self, names: frozenset[str], reason: str) -> None:
        self.result.transformed.append(Transformed(self.where[-1], names, reason))

    def _use(self, product: Product, operand: Tensor) -> None:
        origin = self.origins.of(operand)
        names = origin.names & self.matrices
        if names and (operand.is_complex() or self._is_reinterpreted(operand, origin)):
            self._transform(names, "its kernel receives complex numbers, or bits of another type")
            return
        self.uses.add(product, operand)
        if product.kind == TRANSPOSED and origin.whole is not None:
            self.result.transposed.add(origin.whole)
        if product.sums_inside and origin.whole is not None and operand.dim() > 1:
            axis = -2 if operand is product.right else -1
            if _is_first(self.parameters[origin.whole], operand.stride(axis), operand.shape[axis]):
                self.result.transposed.add(origin.whole)

    def _is_reinterpreted(self, operand: Tensor, origin: Origin) -> bool:
        held = storage_key(operand) in self.origins.regions
        return held and any(self.parameters[name].dtype != operand.dtype for name in origin.names)

    def _layer(self) -> str:
        return f"layer {self.where[-1]}" if self.where[-1] else "the network"

    def recording(self) -> Recording:
        """All that was seen."""
        result = self.result
        result.uses, result.covered = self.uses.list(), self.uses.covered()
        for (layer, sizes, _), digest in zip(self.digests, numbers([d for *_, d in self.digests]), strict=True):
            result.constants.append(Constant(layer, sizes, digest or 0.0))
        return result


def _is_first(parameter: Tensor, step: int, size: int) -> bool:
    """Whether steps of this width through a matrix, so many, are along its first dimension."""
    if parameter.dim() != 2 or parameter.stride(0) == parameter.stride(1):
        return False
    return (parameter.stride(0), parameter.shape[0]) == (step, size)


def _deciding(name: str, arguments: Sequence[Any]) -> list[Tensor]:
    """The arguments whose values decide what is computed: a number that Python sees, or places that are picked."""
    if name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::masked_select"):
        return tensors_in(arguments[:2])
    if name in ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"):
        return [tensor for tensor in tensors_in(arguments[1]) if tensor.dtype in (torch.bool, torch.uint8)]
    return []


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
