"""What a network costs: sparsity, multiply-adds, memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from prunesweep.workers.selection import prunable

_PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Layer:
    """One prunable weight by its `state_dict` name; multiply-adds are for one image."""

    name: str
    weights: int
    nonzero: int
    multiply_adds: int
    nonzero_multiply_adds: int


def layer_costs(model: nn.Module, shape: tuple[int, int, int]) -> list[Layer]:
    """Every prunable weight with what it costs on one image of `shape`.

    `nonzero_multiply_adds` is what a kernel would do that skips every zero. A weight that several layers share is
    listed once and counts the multiply-adds of every use; one that is used without calling its layer, as in
    torchvision's transformers' attention, counts none.
    """
    weights = prunable(model)
    uses = _multiply_adds(model, shape)
    nonzero = _nonzero(list(weights.values()))
    return [
        _layer(name, weight.numel(), kept, uses[weight])
        for (name, weight), kept in zip(weights.items(), nonzero, strict=True)
    ]


def summary(model: nn.Module, layers: Sequence[Layer]) -> dict[str, float | int | None]:
    """The network's size and cost as columns of the results, given what `layer_costs` says of it.

    `reached_sparsity` is of prunable weights, parameters and compression ratio are of all. A ratio to zero is None.
    """
    parameters = list(model.parameters())
    total, nonzero = sum(p.numel() for p in parameters), sum(_nonzero(parameters))
    weights, kept = sum(layer.weights for layer in layers), sum(layer.nonzero for layer in layers)
    dense = sum(layer.multiply_adds for layer in layers)
    sparse = sum(layer.nonzero_multiply_adds for layer in layers)
    return {
        "parameters": total,
        "nonzero_parameters": nonzero,
        "reached_sparsity": (weights - kept) / weights,
        "multiply_adds": dense,
        "nonzero_multiply_adds": sparse,
        "theoretical_speedup": dense / sparse if sparse else None,
        "compression_ratio": total / nonzero if nonzero else None,
    }


class PeakMemory:
    """The most memory in use since this was made: of torch on a CUDA device, of the whole process on a Linux host.

    Making another one starts anew, for both.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.known = self._reset()

    def read(self) -> int | None:
        """Bytes, or None where the system does not tell."""
        if not self.known:
            return None
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else _resident_peak()

    def _reset(self) -> bool:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return True
        return self.device.type == "cpu" and _reset_resident_peak()


def _layer(name: str, weights: int, nonzero: int, multiply_adds: int) -> Layer:
    # Each weight of a layer is used equally often, so that the division is exact.
    return Layer(name, weights, nonzero, multiply_adds, multiply_adds // weights * nonzero)


def _nonzero(tensors: list[nn.Parameter]) -> list[int]:
    """All counts in one transfer from the device."""
    counts: list[int] = torch.stack([tensor.detach().count_nonzero() for tensor in tensors]).tolist()
    return counts


def _multiply_adds(model: nn.Module, shape: tuple[int, int, int]) -> Counter[Tensor]:
    """Multiply-adds by weight, seen while one image of zeros passes through."""
    uses: Counter[Tensor] = Counter()
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(partial(_count, uses)) for layer in layers]
    like = layers[0].weight
    try:
        with _evaluating(model), torch.no_grad():
            model(torch.zeros(1, *shape, device=like.device, dtype=like.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return uses


def _count(uses: Counter[Tensor], layer: nn.Conv2d | nn.Linear, inputs: tuple[Tensor], output: Tensor) -> None:
    """Every output value is a sum over one filter, whatever stride, padding, dilation and groups are."""
    uses[layer.weight] += output.numel() * layer.weight[0].numel()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each module has its own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _reset_resident_peak() -> bool:
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident_peak() -> int | None:
    """VmHWM, which the kernel gives in units of 1024 bytes."""
    for line in (_PROCESS / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return None
