"""A network in evaluation mode for a moment, and as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from prunesweep.workers.seeding import preserved, seed_all


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
        stack.enter_context(_same_buffers(model))
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
def _same_buffers(model: nn.Module) -> Iterator[None]:
    """Some layers count, or average, in evaluation too."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield
    finally:
        for name, buffer in model.named_buffers():
            if name in before and buffer.shape == before[name].shape and not buffer.is_meta:
                buffer.copy_(before[name])
