"""A network in evaluation mode for a moment, and as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from prunesweep.workers.seeding import preserved, seed_all
from prunesweep.workers.uses import numbers

Values = Mapping[str, tuple[nn.Parameter, Tensor, Tensor]]
"""Of each matrix the parameter, its sum, and how many of its values are not zero."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients and compilers; modes, buffers and random numbers are afterwards as before."""
    with ExitStack() as stack:
        stack.enter_context(preserved())
        stack.enter_context(torch.no_grad())
        stack.enter_context(_evaluation_mode(model))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(torch.jit.optimized_execution(False))  # type: ignore[attr-defined]
        seed_all("record")
        stack.enter_context(same_buffers(model))
        yield


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def same_buffers(model: nn.Module) -> Iterator[None]:
    """Some layers count, or average, in evaluation too."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield
    finally:
        for name, buffer in model.named_buffers():
            if name in before and buffer.shape == before[name].shape and not buffer.is_meta:
                buffer.copy_(before[name])


def values(model: nn.Module) -> Values:
    """Of all matrices of a network as it is now."""
    return {
        name: (p, p.detach().sum(dtype=torch.float64), p.detach().count_nonzero().double())
        for name, p in model.named_parameters()
        if p.dim() >= 2 and p.layout == torch.strided and not p.is_complex()
    }


def changed(before: Values, now: Values) -> str | None:
    """What is wrong where a network in evaluation mode has other parameters than in training, or None."""
    names = [n for n in before if n in now and before[n][0] is now[n][0]]
    if len(names) < max(len(before), len(now)):
        return "eval() gives it other parameters than it trains; write one forward pass for both modes"
    sums = numbers([tensor for tensors in (before, now) for name in names for tensor in tensors[name][1:]])
    half = len(sums) // 2
    # As text, since a weight may be NaN.
    differ = dict.fromkeys(names[i // 2] for i in range(half) if str(sums[i]) != str(sums[half + i]))
    if not differ:
        return None
    return (
        f"eval() changes {', '.join(differ)}, so that evaluation has other values than training, and no mask holds "
        "there; write one forward pass for both modes"
    )
