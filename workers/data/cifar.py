"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), read from the files that torchvision downloads."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import datasets

from workers.data.memory import InMemory, Split, split_validation
from workers.errors import UserError


def cifar10(folder: str) -> InMemory:
    """50,000 training (5,000 of them validation) and 10,000 test images of 3x32x32 in 10 classes."""
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    return read("cifar10", datasets.CIFAR10, folder, 10, mean, std)


def cifar100(folder: str) -> InMemory:
    """As `cifar10`, in 100 classes."""
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    return read("cifar100", datasets.CIFAR100, folder, 100, mean, std)


def read(
    name: str,
    source: type[datasets.CIFAR10],
    folder: str,
    classes: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> InMemory:
    """A dataset in CIFAR's format; `mean` and `std` are of images in [0, 1].

    `source` is torchvision's class; it knows the files and their checksums. Raises `UserError` when one of them is
    absent or damaged.
    """
    try:
        known, test = (source(folder, train=train, download=False) for train in (True, False))
    except RuntimeError as error:
        raise UserError(_absent(name, folder)) from error
    train, validation = split_validation(*_tensors(known))
    scaled = (255 * torch.tensor(mean), 255 * torch.tensor(std))
    return InMemory(name, train, validation, Split(*_tensors(test)), classes, *scaled, padding=4, flip=True)


def _tensors(source: datasets.CIFAR10) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(source.targets)


def _absent(name: str, folder: str) -> str:
    fetch = f"import torchvision; torchvision.datasets.{name.upper()}('{folder}', download=True)"
    return f'dataset {name} is absent or damaged in folder {folder}; fetch it with: python -c "{fetch}"'
