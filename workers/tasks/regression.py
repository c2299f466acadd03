"""A vector of numbers for each image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunesweep.workers.lazy import torch
from prunesweep.workers.tasks.base import Metric, Task

if TYPE_CHECKING:
    from torch import Tensor

    from prunesweep.workers.tasks.base import Sums


class Regression(Task):
    """Mean squared error of outputs [B, D] and targets float [B, D], which is the primary metric, too.

    `r2` is the share of the targets' variance that is explained, the mean over the D numbers, of which those that do
    not vary are left out. Losses are means over the D numbers.
    """

    metrics = (
        Metric("mse", "mean squared error", "lower"),
        Metric("mae", "mean absolute error", "lower"),
        Metric("r2", "share of the targets' variance explained", "higher"),
    )
    targets = "vectors"

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean(1)

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        outputs, targets = outputs.double(), targets.double()
        errors = outputs - targets
        return {
            "squares": errors.square().sum(0),
            "absolute": errors.abs().sum(0),
            "targets": targets.sum(0),
            "target_squares": targets.square().sum(0),
        }

    def measured(self, sums: Sums, images: int) -> dict[str, float | None]:
        squares = sums["squares"]
        spread = sums["target_squares"] - sums["targets"].square() / images
        varies = spread > 1e-12 * sums["target_squares"]
        explained = (1 - squares / spread)[varies]
        return {
            "mse": float(squares.mean()) / images,
            "mae": float(sums["absolute"].mean()) / images,
            "r2": float(explained.mean()) if len(explained) else None,
        }

    def problem(self, outputs: Tensor, targets: Tensor, classes: int) -> str | None:
        if outputs.shape != targets.shape:
            return (
                f"gives outputs {list(outputs.shape)} for targets {list(targets.shape)}; regression needs one row for "
                f"each image and {classes} number{'s' * (classes > 1)} in it"
            )
        return None if torch.is_floating_point(outputs) else f"gives {outputs.dtype} where numbers with a fraction are"
