"""The VGG networks for small images: the convolutions of Simonyan & Zisserman 2014, and one linear layer."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from prunesweep.workers.models.narrow import channels

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""By depth, the number of convolutions before each of the five poolings (table 1)."""

CHANNELS = (64, 128, 256, 512, 512)


class CifarVGG(nn.Module):
    """A VGG without its two hidden linear layers, which is what the pruning literature calls VGG on CIFAR.

    Images of any number of channels and at least 32x32 pixels. torchvision's names and initialisation. The channels of
    all convolutions are multiplied by `factor`.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int, depth: int, batch_norm: bool, factor: float = 1.0
    ) -> None:
        super().__init__()
        outputs = [channels(count, factor) for count in CHANNELS]
        groups = zip(pairwise((shape[0], *outputs)), CONVOLUTIONS[depth], strict=True)
        layers = [layer for (i, o), count in groups for layer in group(i, o, count, batch_norm)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(outputs[-1], classes)
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] -> logits [N, classes]."""
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


def group(inputs: int, outputs: int, count: int, batch_norm: bool) -> list[nn.Module]:
    """The convolutions of one resolution, and the pooling that halves it."""
    layers: list[nn.Module] = []
    for number in range(count):
        conv = nn.Conv2d(inputs if number == 0 else outputs, outputs, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        layers += [conv, *([nn.BatchNorm2d(outputs)] if batch_norm else []), nn.ReLU(inplace=True)]
    return [*layers, nn.MaxPool2d(2)]
