"""The residual networks for small images of He et al. 2015, section 4.2."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from prunesweep.workers.models.narrow import channels
from prunesweep.workers.models.options import blocks_per_group, check_cifar_resnet


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.added = outputs - inputs
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, ceil(H / stride), ceil(W / stride)]."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out, inplace=True)

    def shortcut(self, x: Tensor) -> Tensor:
        """Option A: every second pixel, and channels of zeros where the block has more."""
        if self.stride == 1 and self.added == 0:
            return x
        before = self.added // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.added - before))


class CifarResNet(nn.Module):
    """ResNet of `depth` = 6n+2 layers: three groups of n blocks, `width`, 2 `width` and 4 `width` channels wide.

    Any image size and number of channels; raises `UserError` on another depth or a width below 1. All three are
    multiplied by `factor`.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int, *, depth: int = 20, width: int = 16, factor: float = 1.0
    ) -> None:
        super().__init__()
        check_cifar_resnet(depth=depth, width=width)
        blocks = blocks_per_group(depth)
        first, second, third = (channels(times * width, factor) for times in (1, 2, 4))
        self.conv1 = conv3x3(shape[0], first)
        self.bn1 = nn.BatchNorm2d(first)
        self.layer1 = group(first, first, blocks, stride=1)
        self.layer2 = group(first, second, blocks, stride=2)
        self.layer3 = group(second, third, blocks, stride=2)
        self.fc = nn.Linear(third, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] -> logits [N, classes]."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.layer3(self.layer2(self.layer1(out)))
        logits: Tensor = self.fc(out.mean((2, 3)))
        return logits


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution, Kaiming-normal (He et al. 2015b), without bias since batch normalisation follows."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return conv


def group(inputs: int, outputs: int, blocks: int, *, stride: int) -> nn.Sequential:
    """Blocks of one width; the first one changes channels and resolution."""
    rest = [Block(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Block(inputs, outputs, stride), *rest)
