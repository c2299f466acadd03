"""Kernel launches and device waits of a method's own work in an iteration, counted without a card.

    python -m benchmarks.gpu.counting [--network resnet56|resnet50]

Tensors say that they lie on torch's `meta` device, so that code takes the way that it takes on a GPU, and keep their
numbers on the CPU, where every operation is computed and counted. A read-back (`item`, `tolist`, `bool`), a copy from
the CPU and an operation whose result's shape depends on numbers (`nonzero`, a boolean index) make the host wait for a
GPU. Every other operation is a launch unless it only makes a view; a multi-tensor operation is one for every `TOGETHER`
tensors, a count that a profiler on a card corrects. What is written for CUDA alone is not seen.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

from benchmarks.methods import NAMES, RETRAINED, SETTINGS, SPARSITY, markdown
from prunesweep.workers import models
from prunesweep.workers.methods import method_class
from prunesweep.workers.methods.base import Method
from prunesweep.workers.methods.dpf import DPF
from prunesweep.workers.methods.gmp import GMP
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.prunable import prunable
from prunesweep.workers.recording import record
from prunesweep.workers.selection import magnitude_masks

DEVICE = torch.device("meta")
TOGETHER = 36
"""Tensors that one launch of a multi-tensor operation takes: 36 of three lists, 110 of one (`MultiTensorApply.cuh`)."""

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "repeat_interleave"}
FREE = {"detach", "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "set_"}
EPOCHS, ITERATIONS = 160, 352


class Pretended(Tensor):
    """A tensor on another device than the CPU, whose numbers are in `held`, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Pretended:
        made: Pretended = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held.detach()
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Pretended({self.held!r})"

    def tolist(self) -> Any:
        """One copy to the CPU."""
        return self.to("cpu").tolist()

    def new_tensor(self, data: Any) -> Tensor:  # type: ignore[override]
        """One copy from the CPU."""
        return torch.tensor(data, dtype=self.dtype).to(self.device)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return computed(func, args, kwargs or {})


def computed(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The operation, on the CPU; what it gives is pretended again, unless it was to go to the CPU."""
    held_args, held_kwargs = tree_map_only(Pretended, lambda t: t.held, (list(args), dict(kwargs)))
    device = kwargs.get("device")
    if device is not None:
        held_kwargs["device"] = torch.device("cpu")
    result = func(*held_args, **held_kwargs)
    if device is not None and torch.device(device).type == "cpu":
        return result
    made = tree_map_only(Tensor, Pretended, result)
    return return_and_correct_aliasing(func, tuple(args), dict(kwargs), made)


@dataclass
class Counts(TorchDispatchMode):
    """Launches and waits by operation, of what is done inside."""

    launches: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if any(isinstance(t, Pretended) for t in tensors) or (device is not None and torch.device(device) == DEVICE):
            self.count(func, args, kwargs)
            return computed(func, args, kwargs)
        return func(*args, **kwargs)

    def count(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """A boolean index waits for `nonzero`; so does a copy between host and device."""
        name = func.overloadpacket.__name__
        device = kwargs.get("device")
        there = device is not None and torch.device(device).type != "cpu"
        moved = name == "_to_copy" and device is not None and there != isinstance(args[0], Pretended)
        booleans = name.startswith(("index", "_index_put")) and any(
            isinstance(leaf, Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1:])
        )
        unknown = name in WAITS and kwargs.get("output_size") is None
        if moved or booleans or unknown:
            self.waits[name] += 1
        if name not in FREE and not func.is_view and name != "_local_scalar_dense":
            together = len(args[0]) if name.startswith("_foreach") else 1
            self.launches[name] += -(-together // TOGETHER)


def pretend(model: nn.Module) -> None:
    """Put the model's parameters on the device that is not there; it can be pruned then, and not called."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(Pretended(parameter.detach()), parameter.requires_grad))


@dataclass(frozen=True)
class Work:
    """What a method does in an iteration beyond plain training, or seldom: launches and waits by operation."""

    name: str
    launches: Counter[str]
    waits: Counter[str]


def count_methods(network: str = "resnet56", names: Iterable[str] = NAMES[1:]) -> list[Work]:
    """All methods on a network of one size, as late in a training."""
    return [work for name in names for work in count_method(name, network)]


def count_method(name: str, network: str) -> list[Work]:
    """The second iteration: the first may make what later ones use."""
    torch.manual_seed(0)
    shape = (3, 224, 224) if network == "resnet50" else (3, 32, 32)
    model = models.build(models.choose(network, {}), shape, 10).to(memory_format=torch.channels_last)
    names = list(prunable(model, record(model, torch.zeros(2, *shape))))
    retrained = name in (RETRAINED, *RETRAINED.split(", "))
    method = Method() if retrained else method_class(name)(**SETTINGS.get(name, {}))
    with Counts():
        pretend(model)
        weights = {weight: model.get_parameter(weight) for weight in names}
        pruner = method.pruner(Setup(model, weights, SPARSITY, EPOCHS, ITERATIONS))
        parameters = [*pruner.model.parameters(), *pruner.parameters().values()]
        pruner.optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4, foreach=False)
        for weight in pruner.weights:
            weight.grad = torch.empty_like(weight.detach()).normal_(std=1e-3)
        pruner.optimizer.step()
        if retrained:
            pruner.hold(magnitude_masks(pruner.weights, SPARSITY))
        pruner.iteration = EPOCHS * 7 // 8 * ITERATIONS // 16 * 16
        seldom(pruner)
        iteration(pruner)
    every = Counts()
    with every:
        iteration(pruner)
    works = [Work(name, every.launches, every.waits)]
    rare = Counts()
    with rare:
        what = seldom(pruner)
    return [*works, Work(what, rare.launches, rare.waits)] if what else works


def iteration(pruner: Pruner) -> None:
    """What `workers.training.train_epoch` asks of the pruner, beside the network's own passes."""
    with pruner.view():
        term = pruner.regularization()
        if isinstance(term, Tensor):
            torch.autograd.backward(term)
    pruner.adjust_gradients()
    pruner.adjust_decay()
    pruner.replace_step()
    pruner.iteration += 1
    pruner.after_step()


def seldom(pruner: Pruner) -> str:
    """What the method does once in many iterations; returns what it is called."""
    method = pruner.method
    if isinstance(method, GMP):
        pruner.after_epoch((pruner.epochs // method.pruning_interval - 1) * method.pruning_interval)
        return "gmp: a prune"
    if isinstance(method, DPF):
        pruner.iteration = pruner.iteration // method.mask_interval * method.mask_interval
        pruner.after_step()
        return "dpf: a mask"
    return ""


def table(works: Sequence[Work]) -> list[list[str]]:
    """A header, and a row for each."""
    rows = [["method", "launches", "waits", "the most frequent operations"]]
    for work in works:
        most = ", ".join(f"{count} {name}" for name, count in work.launches.most_common(4))
        waits = ", ".join(f"{count} {name}" for name, count in work.waits.items())
        rows.append(
            [work.name, str(work.launches.total()), f"{work.waits.total()} {f'({waits})' if waits else ''}", most]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=["resnet56", "resnet50"], default="resnet56")
    print(markdown(table(count_methods(parser.parse_args().network))))


if __name__ == "__main__":
    main()
