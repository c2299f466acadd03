"""What a network costs: sparsity, multiply-adds, memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from prunesweep.workers.recorded import Recording

_PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Layer:
    """One prunable weight by its `state_dict` name, or what else a layer multiplies; multiply-adds are for one image.

    `weights` and `nonzero` are None where no prunable weight is an operand, as in attention.
    """

    name: str
    kind: str
    weights: int | None
    nonzero: int | None
    multiply_adds: int
    nonzero_multiply_adds: int


def layer_costs(weights: Mapping[str, Tensor], recording: Recording) -> list[Layer]:
    """Every prunable weight with what it costs on one image, in the network's order, then all that is not prunable.

    `nonzero_multiply_adds` is what a kernel would do that skips every zero of a prunable weight. A weight that several
    layers share is listed once and counts the multiply-adds of every use. Multiply-adds are the mean over the recorded
    images, rounded.
    """
    nonzero = dict(zip(weights, _nonzero(list(weights.values())), strict=True))
    dense, sparse = dict.fromkeys(weights, 0), dict.fromkeys(weights, 0)
    kinds: dict[str, str] = {}
    others: dict[tuple[str, str], int] = {}
    for use in recording.uses:
        if use.name in weights:
            kinds.setdefault(use.name, use.kind)
            dense[use.name] += use.multiply_adds
            sparse[use.name] += use.multiply_adds * (use.values if use.nonzero is None else use.nonzero) // use.values
        else:
            others[use.name, use.kind] = others.get((use.name, use.kind), 0) + use.multiply_adds
    for done in recording.operations:
        key = done.layer or "network", done.kind
        others[key] = others.get(key, 0) + done.multiply_adds
    images = recording.images
    return [
        Layer(
            name,
            kinds.get(name, "unused"),
            weight.numel(),
            nonzero[name],
            round(dense[name] / images),
            round(sparse[name] / images),
        )
        for name, weight in weights.items()
    ] + [
        Layer(name, kind, None, None, round(count / images), round(count / images))
        for (name, kind), count in others.items()
    ]


@dataclass(frozen=True)
class Size:
    """What a dense network has, and what one image costs it."""

    parameters: int
    weights: int
    multiply_adds: int
    prunable_multiply_adds: int


def size_of(model: nn.Module, weights: Mapping[str, Tensor], recording: Recording) -> Size:
    """That of a network with these prunable weights."""
    return _size(model, layer_costs(weights, recording), frozenset())


def _size(model: nn.Module, layers: Sequence[Layer], exempt: Set[str]) -> Size:
    prunable = [layer for layer in layers if layer.weights is not None and layer.name not in exempt]
    costs = [sum(layer.multiply_adds for layer in of) for of in (layers, prunable)]
    return Size(sum(p.numel() for p in model.parameters()), _counts(prunable)[0], *costs)


class Sparse:
    """What a network's sparsity is at any time, and what it saves, given what was recorded of it once.

    That of a narrower network is what it lacks of the `full` one's weights.
    """

    def __init__(self, weights: Mapping[str, Tensor], recording: Recording, full: Size | None = None) -> None:
        self.full = full
        costs = dict.fromkeys(weights, 0)
        for use in recording.uses:
            if use.name in costs:
                costs[use.name] += use.multiply_adds
        others = sum(use.multiply_adds for use in recording.uses if use.name not in costs)
        self.other = (others + sum(done.multiply_adds for done in recording.operations)) / recording.images
        self.costs = [cost / recording.images for cost in costs.values()]

    def now(self, weights: Sequence[Tensor], masks: Sequence[Tensor] | None) -> dict[str, float]:
        """Zeros over all of these weights, and the multiply-adds of one image without what is pruned.

        With masks that is what they prune: a weight that has just grown is zero, and takes part.
        """
        counts, sizes = _nonzero([*weights, *(masks or ())]), [weight.numel() for weight in weights]
        nonzero, taking_part = counts[: len(weights)], counts[-len(weights) :]
        costs = (cost * part / size for cost, part, size in zip(self.costs, taking_part, sizes, strict=True))
        of = self.full.weights if self.full else sum(sizes)
        return {"sparsity": 1.0 - sum(nonzero) / of, "nonzero_multiply_adds": self.other + sum(costs)}


def summary(
    model: nn.Module, layers: Sequence[Layer], exempt: Set[str] = frozenset(), full: Size | None = None
) -> dict[str, float | int | None]:
    """The network's size and cost as columns of the results, given what `layer_costs` says of it.

    `reached_sparsity` is of the prunable weights that are not `exempt` from pruning, `sparsity_with_exempt` of all
    prunable weights; parameters, compression ratio and `overall_sparsity` are of all, and multiply-adds of all
    operations. A ratio to zero is None. A narrower network is described as the `full` one without what it lacks.
    """
    dense, nonzero = full or _size(model, layers, exempt), sum(_nonzero(list(model.parameters())))
    able = [layer for layer in layers if layer.weights is not None]
    prunable = [layer for layer in able if layer.name not in exempt]
    kept, (all_weights, all_kept) = _counts(prunable)[1], _counts(able)
    all_weights = full.weights if full else all_weights
    sparse = sum(layer.nonzero_multiply_adds for layer in layers)
    return {
        "parameters": dense.parameters,
        "nonzero_parameters": nonzero,
        "prunable_share": dense.weights / dense.parameters,
        "reached_sparsity": (dense.weights - kept) / dense.weights,
        "sparsity_with_exempt": (all_weights - all_kept) / all_weights,
        "overall_sparsity": (dense.parameters - nonzero) / dense.parameters,
        "multiply_adds": dense.multiply_adds,
        "prunable_multiply_adds_share": dense.prunable_multiply_adds / dense.multiply_adds
        if dense.multiply_adds
        else None,
        "nonzero_multiply_adds": sparse,
        "theoretical_speedup": dense.multiply_adds / sparse if sparse else None,
        "compression_ratio": dense.parameters / nonzero if nonzero else None,
    }


def _counts(layers: Sequence[Layer]) -> tuple[int, int]:
    """Weights, and those that are not zero."""
    return sum(layer.weights or 0 for layer in layers), sum(layer.nonzero or 0 for layer in layers)


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


def _nonzero(tensors: Sequence[Tensor]) -> list[int]:
    """All counts in one transfer from the device."""
    counts: list[int] = torch.stack([tensor.detach().count_nonzero() for tensor in tensors]).tolist()
    return counts


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
