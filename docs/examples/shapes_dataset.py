"""A dataset of one's own: this file is all that it takes (docs/extending.md, "A dataset")."""

import torch

from prunesweep import InMemory, Split, channel_statistics, split_validation


def shapes(folder, *, images=500):
    """Discs (class 0) and squares (class 1) of any size and place, 1x16x16; the last fifth is the test set.

    `folder` is that of --data-dir, for datasets that read files; keyword-only parameters are the options.
    """
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(images) % 2
    radius, down, across = torch.rand(3, images, 1, 1, generator=generator)
    side = torch.linspace(-1, 1, 16)
    dy, dx = side[:, None] - (down - 0.5), side - (across - 0.5)
    distance = torch.where(targets[:, None, None] == 0, dx.hypot(dy), torch.maximum(dx.abs(), dy.abs()))
    pixels = 255 * (distance < 0.2 + 0.3 * radius).to(torch.uint8).unsqueeze(1)  # [N, C, H, W]

    held_out = images // 5
    train, validation = split_validation(pixels[:-held_out], targets[:-held_out])
    test = Split(pixels[-held_out:], targets[-held_out:])
    mean, std = channel_statistics(train.images)
    return InMemory("shapes", train, validation, test, 2, mean, std, padding=2, flip=True)
