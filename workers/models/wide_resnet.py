"""Wide residual networks (Zagoruyko & Komodakis 2016); wrn<depth>x<width> names one of any depth and width."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from prunesweep.workers.models.narrow import channels
from prunesweep.workers.models.options import blocks_per_group, check_wide_resnet
from prunesweep.workers.models.resnet import conv3x3


class WideBlock(nn.Module):
    """Normalisation and ReLU before each of two 3x3 convolutions, dropout between them (section 2.4)."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv3x3(outputs, outputs)
        self.shortcut = conv1x1(inputs, outputs, stride) if inputs != outputs or stride != 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, ceil(H / stride), ceil(W / stride)]."""
        before = F.relu(self.bn1(x), inplace=True)
        hidden = F.relu(self.bn2(self.conv1(before)), inplace=True)
        out: Tensor = self.conv2(self.dropout(hidden))
        # The projection takes the normalised input, as in the authors' code; the identity takes the input itself.
        out += x if self.shortcut is None else self.shortcut(before)
        return out


class WideResNet(nn.Module):
    """WRN-depth-width: three groups of n blocks, depth = 6n+4, `width` times 16, 32 and 64 channels wide.

    Any image size and number of channels; raises `UserError` on another depth, a width below 1 or dropout outside
    [0, 1). All channels, those of the first convolution included, are multiplied by `factor`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        *,
        depth: int = 28,
        width: int = 10,
        dropout: float = 0.0,
        factor: float = 1.0,
    ) -> None:
        super().__init__()
        check_wide_resnet(depth=depth, width=width, dropout=dropout)
        blocks = blocks_per_group(depth, extra=4)
        start, *groups = (channels(count, factor) for count in (16, 16 * width, 32 * width, 64 * width))
        first, second, third = groups
        self.conv1 = conv3x3(shape[0], start)
        self.layer1 = group(start, first, blocks, 1, dropout)
        self.layer2 = group(first, second, blocks, 2, dropout)
        self.layer3 = group(second, third, blocks, 2, dropout)
        self.bn = nn.BatchNorm2d(third)
        self.fc = nn.Linear(third, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] -> logits [N, classes]."""
        out = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        out = F.relu(self.bn(out), inplace=True)
        logits: Tensor = self.fc(out.mean((2, 3)))
        return logits


def conv1x1(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    """The projection of a shortcut, Kaiming-normal like the other convolutions."""
    conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return conv


def group(inputs: int, outputs: int, blocks: int, stride: int, dropout: float) -> nn.Sequential:
    """Blocks of one width; the first one changes channels and resolution."""
    rest = [WideBlock(outputs, outputs, 1, dropout) for _ in range(blocks - 1)]
    return nn.Sequential(WideBlock(inputs, outputs, stride, dropout), *rest)
