"""A segmentation network and a task of one's own: cross-entropy plus the Dice loss, compared by mean IoU."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate, one_hot

from prunesweep import Metric, Task

IGNORED = 255


class UNet(nn.Module):
    """Down once, and up again beside what was there."""

    def __init__(self, channels, classes, width):
        super().__init__()
        self.before = block(channels, width)
        self.below = block(width, 2 * width)
        self.after = block(3 * width, width)
        self.last = nn.Conv2d(width, classes, 1)

    def forward(self, images):
        before = self.before(images)
        below = self.below(nn.functional.max_pool2d(before, 2))
        wide = interpolate(below, size=before.shape[2:], mode="nearest")
        return self.last(self.after(torch.cat([before, wide], 1)))


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def unet(shape, classes, *, width=16):
    return UNet(shape[0], classes, width)


class Dice(Task):
    """Cross-entropy and the Dice loss (Milletari et al. 2016), in equal parts."""

    metrics = (Metric("mean_iou", "mean over the classes of intersection over union", "higher", "fraction"),)
    targets = "masks"

    def losses(self, outputs, targets):
        counted = targets != IGNORED
        entropy = cross_entropy(outputs, targets, ignore_index=IGNORED, reduction="none").flatten(1).mean(1)
        wanted = one_hot(targets.where(counted, 0), outputs.shape[1]).movedim(3, 1) * counted[:, None]
        given = outputs.softmax(1) * counted[:, None]
        overlap = 2 * (given * wanted).sum((2, 3)) / ((given + wanted).sum((2, 3)) + 1e-6)
        return entropy + 1 - overlap.mean(1)

    def sums(self, outputs, targets):
        counted, classes = targets != IGNORED, range(outputs.shape[1])
        taken = outputs.argmax(1)
        both = [((taken == k) & (targets == k)).sum() for k in classes]
        either = [(((taken == k) | (targets == k)) & counted).sum() for k in classes]
        return {"both": torch.stack(both), "either": torch.stack(either)}

    def measured(self, sums, images):
        there = sums["either"] > 0
        return {"mean_iou": float((sums["both"] / sums["either"])[there].mean())}
