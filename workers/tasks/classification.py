"""One class for each image."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Literal

from prunesweep.workers.lazy import torch
from prunesweep.workers.tasks.base import ClassScore, Metric, Task, beyond

if TYPE_CHECKING:
    from typing import Self

    from torch import Tensor

    from prunesweep.workers.tasks.base import Sums
    from prunesweep.workers.train_spec import TrainSpec

BINS = 15
"""Of the expected calibration error: of equal width (Guo et al. 2017, section 2, with their experiments' number)."""

BINARY = "binary_cross_entropy"

LOSSES = (BINARY,)
"""That can be trained with instead of cross-entropy."""

MANY = 10
"""With more classes than these top-5 accuracy says something."""


class Classification(Task):
    """Cross-entropy of logits [B, classes] and classes int64 [B]; top-1 accuracy is the primary metric.

    `macro_accuracy` is the mean of the classes' accuracies and `worst_class_accuracy` the least of them, over the
    classes that are there. The expected calibration error weights |accuracy - confidence| of 15 bins of the largest
    probability, ((k - 1) / 15, k / 15], by their share of the images.
    """

    metrics = (
        Metric("accuracy", "top-1 accuracy", "higher", "fraction"),
        Metric("accuracy_top5", "top-5 accuracy; null up to 10 classes", "higher", "fraction"),
        Metric("macro_accuracy", "mean of the classes' accuracies", "higher", "fraction"),
        Metric("worst_class_accuracy", "accuracy of the class that has the least", "higher", "fraction"),
        Metric("calibration_error", "expected calibration error, 15 bins of equal width", "lower", "fraction"),
    )
    targets = "classes"
    class_metric = "accuracy"
    smooths = True

    loss: str | None = None
    target_threshold: float | None = None

    def in_training(self, train: TrainSpec) -> Self:
        task = super().in_training(train)
        if train.loss is not None:
            task = copy(task)
            task.loss, task.target_threshold = train.loss, train.target_threshold
        return task

    def reduced(self, outputs: Tensor, targets: Tensor, reduction: Literal["mean", "sum"]) -> Tensor:
        if self.loss == BINARY:
            return super().reduced(outputs, targets, reduction)
        return torch.nn.functional.cross_entropy(
            outputs, targets, label_smoothing=self.label_smoothing, reduction=reduction
        )

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.loss == BINARY:
            wanted = binary_targets(outputs, targets, self.label_smoothing, self.target_threshold)
            return torch.nn.functional.binary_cross_entropy_with_logits(outputs, wanted, reduction="none").mean(1)
        return torch.nn.functional.cross_entropy(
            outputs, targets, label_smoothing=self.label_smoothing, reduction="none"
        )

    def running(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        if targets.is_floating_point():  # those of mixed images are shares of classes
            return {}
        return {"hits": (outputs.argmax(1) == targets).sum()}

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        classes = outputs.shape[1]
        right = outputs.argmax(1) == targets
        sums = {"hits": right.sum()}
        if classes > MANY:
            sums["hits5"] = (outputs.topk(5).indices == targets[:, None]).any(1).sum()
        sums["class_images"] = targets.new_zeros(classes).index_add_(0, targets, torch.ones_like(targets))
        sums["class_hits"] = targets.new_zeros(classes).index_add_(0, targets, right.long())
        confidence = outputs.double().softmax(1).amax(1)
        bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
        among = bins[:, None] == torch.arange(BINS, device=bins.device)  # in an order that a GPU keeps
        sums["bin_confidence"] = (among * confidence[:, None]).sum(0)
        sums["bin_hits"] = (among & right[:, None]).sum(0)
        return sums

    def measured(self, sums: Sums, images: int) -> dict[str, float | None]:
        hit = float(sums["hits"]) / images if "hits" in sums else None
        measured: dict[str, float | None] = {"accuracy": hit}
        if "class_hits" in sums:
            hits, count = sums["class_hits"], sums["class_images"]
            by_class = (hits / count)[count > 0]
            gaps = (sums["bin_hits"] - sums["bin_confidence"]).abs()
            measured |= {
                "accuracy_top5": float(sums["hits5"]) / images if "hits5" in sums else None,
                "macro_accuracy": float(by_class.mean()),
                "worst_class_accuracy": float(by_class.min()),
                "calibration_error": float(gaps.sum()) / images,
            }
        return measured

    def by_class(self, sums: Sums) -> Sequence[ClassScore]:
        if "class_hits" not in sums:
            return ()
        pairs = zip(sums["class_images"].tolist(), sums["class_hits"].tolist(), strict=True)
        return [ClassScore(k, int(count), hits / count if count else None) for k, (count, hits) in enumerate(pairs)]

    def problem(self, outputs: Tensor, targets: Tensor, classes: int) -> str | None:
        shown = f"[{', '.join(map(str, outputs.shape))}]"
        if outputs.dim() != 2:
            pooled = "average the map: nn.AdaptiveAvgPool2d(1), nn.Flatten()"
            advice = pooled if outputs.dim() > 2 else "one row per image"
            return f"gives outputs {shown} where logits [images, classes] are needed; {advice}"
        if len(outputs) != len(targets):
            return f"gives {len(outputs)} rows of logits for {len(targets)} images; one per image is needed"
        if outputs.shape[1] < classes:
            return (
                f"gives {outputs.shape[1]} logits for {classes} classes; its last layer needs an output for each class "
                "(also where there are only two), as many as it is told of when it is called"
            )
        if not outputs.is_floating_point():
            return f"gives {outputs.dtype} where logits are needed; does it end with an argmax?"
        return None if targets.is_floating_point() else beyond(targets, outputs.shape[1])


def binary_targets(outputs: Tensor, targets: Tensor, smoothing: float, threshold: float | None) -> Tensor:
    """Of each class whether an image has it, as `outputs` [B, classes], of class numbers [B] or shares [B, classes].

    Smoothed as for cross-entropy; with a threshold 1 for what then is above it, and 0 for what is not. As in timm's
    `BinaryCrossEntropy` behind its `Mixup`.
    """
    classes, shares = outputs.shape[1], targets
    if not targets.is_floating_point():
        shares = torch.nn.functional.one_hot(targets, classes)
    shares = shares.to(torch.promote_types(outputs.dtype, torch.float32))
    smoothed = shares * (1 - smoothing) + smoothing / classes
    return smoothed if threshold is None else (smoothed > threshold).to(smoothed.dtype)
