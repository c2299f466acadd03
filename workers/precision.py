"""The floating-point arithmetic of a stage: `float64`, `float32`, `tf32` or `bfloat16`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

PRECISIONS = ("float32", "tf32", "bfloat16", "float64")


def storage(precision: str) -> torch.dtype:
    """The type of weights, gradients and momentum; `tf32` and `bfloat16` are ways to multiply, not to store."""
    return torch.float64 if precision == "float64" else torch.float32


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Around a forward pass: with `bfloat16` convolutions and products are computed in it, sums in float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def set_backends(precision: str) -> None:
    """Tell CUDA's libraries what a stage asked for, whatever the one before it in this process did.

    Left alone, cuDNN multiplies in TF32 what says it is float32, and may sum in another order in every run.
    """
    # torch.compile fails with the successors of these flags (pytorch/pytorch#166387).
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.deterministic = True
