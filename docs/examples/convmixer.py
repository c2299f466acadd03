"""A model of one's own: this file is all that it takes (docs/extending.md, "A model")."""

from torch import nn


class Residual(nn.Sequential):
    """Layers whose input is added to their output."""

    def forward(self, x):
        return x + super().forward(x)


def convmixer(shape, classes, *, width=256, depth=8, kernel=5, patch=2):
    """ConvMixer-width/depth (Trockman & Kolter 2022, section 2) for images of any number of channels."""

    def block():
        space = nn.Conv2d(width, width, kernel, groups=width, padding="same")
        return [Residual(space, nn.GELU(), nn.BatchNorm2d(width)), nn.Conv2d(width, width, 1)]

    mixed = [nn.Sequential(*block(), nn.GELU(), nn.BatchNorm2d(width)) for _ in range(depth)]
    patches = nn.Conv2d(shape[0], width, patch, stride=patch)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]
    return nn.Sequential(patches, nn.GELU(), nn.BatchNorm2d(width), *mixed, *head)
