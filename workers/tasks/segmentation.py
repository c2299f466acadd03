"""A class for each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prunesweep.workers.lazy import torch
from prunesweep.workers.tasks.base import ClassScore, Metric, Task, beyond

if TYPE_CHECKING:
    from torch import Tensor

    from prunesweep.workers.tasks.base import Sums

IGNORED = 255
"""The class of pixels that count for nothing: borders of objects in Pascal VOC, and what lies outside of a crop."""


class Segmentation(Task):
    """Cross-entropy of logits [B, classes, H, W] and masks int64 [B, H, W]; mean IoU is the primary metric.

    Pixels of class 255 count for nothing. An image's loss is the mean over its other pixels, so that all images count
    alike. The intersection over union of a class is over all pixels of the split; the mean is over the classes that
    are in a mask or a prediction.
    """

    metrics = (
        Metric("mean_iou", "mean over the classes of intersection over union", "higher", "fraction"),
        Metric("pixel_accuracy", "share of pixels whose class is right", "higher", "fraction"),
    )
    targets = "masks"
    class_metric = "iou"
    smooths = True

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        of_pixels = torch.nn.functional.cross_entropy(
            outputs, targets, ignore_index=IGNORED, label_smoothing=self.label_smoothing, reduction="none"
        )
        counted = (targets != IGNORED).sum((1, 2))
        return of_pixels.sum((1, 2)) / counted.clamp(min=1)

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The confusion matrix [classes, classes]: pixels of each class, and what they were taken for."""
        classes, counted = outputs.shape[1], targets != IGNORED
        pairs = targets[counted] * classes + outputs.argmax(1)[counted]
        return {"confusion": torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)}

    def measured(self, sums: Sums, images: int) -> dict[str, float | None]:
        confusion = sums["confusion"]
        iou, there = _iou(confusion)
        pixels = float(confusion.sum())
        return {
            "mean_iou": float(iou[there].mean()) if bool(there.any()) else None,
            "pixel_accuracy": float(confusion.diagonal().sum()) / pixels if pixels else None,
        }

    def by_class(self, sums: Sums) -> Sequence[ClassScore]:
        iou, there = _iou(sums["confusion"])
        rows = zip(sums["confusion"].sum(1).tolist(), iou.tolist(), there.tolist(), strict=True)
        return [ClassScore(k, int(pixels), value if seen else None) for k, (pixels, value, seen) in enumerate(rows)]

    def problem(self, outputs: Tensor, targets: Tensor, classes: int) -> str | None:
        wanted = [len(targets), classes, *targets.shape[1:]]
        if outputs.dim() != 4 or outputs.shape[1] < classes or outputs.shape[2:] != targets.shape[1:]:
            advice = "a segmentation network ends with an upsampling to the size of its images"
            return f"gives outputs {list(outputs.shape)} where logits {wanted} are needed for masks; {advice}"
        if not outputs.is_floating_point():
            return f"gives {outputs.dtype} where logits are needed"
        return beyond(targets[targets != IGNORED], outputs.shape[1])


def _iou(confusion: Tensor) -> tuple[Tensor, Tensor]:
    """Of each class, and whether it is in a mask or a prediction."""
    hits = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - hits
    return hits / union.clamp(min=1), union > 0
