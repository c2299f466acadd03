"""How fast training images are made: images/s of our batches, next to torchvision's PIL transforms.

    python benchmarks/loading.py [--rounds N] [--device cpu|cuda]

On one CPU thread. In every round each set's batches are made both ways, one after the other and in alternating order:
the ratio of such a pair cancels what the machine does meanwhile. Reported are the median of the images/s and of the
ratio, with its quartiles. Images are random bytes in the shape of the set, with the set's own augmentation.

The other way is the usual one: the transforms of torchvision on PIL images, one by one, then stacked to a batch.
Without loading processes, so that both are per core. On one CPU thread seconds are those that the process had the CPU.

Rows "jpeg" are ImageNet's recipe from files of its typical size (500x375, quality 90, about 70 KB), at 224x224: ours
streamed, next to torchvision's `ImageFolder` and `DataLoader`, both with so many loading processes. With any of these,
seconds are those on the clock, and more processes than idle cores measure the machine.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from prunesweep.workers.data.base import Dataset
from prunesweep.workers.data.image_files import ImageFiles
from prunesweep.workers.data.memory import InMemory, Split
from prunesweep.workers.data.stream import MEAN, STD, Streamed
from prunesweep.workers.data.vision import SOURCES
from prunesweep.workers.host import describe_device

BATCH = 128
SIZES = {
    "cifar10": (6400, 3, 32, 32),
    "cifar100": (6400, 3, 32, 32),
    "mnist": (6400, 1, 28, 28),
    "stl10": (640, 3, 96, 96),
}
"""Images of an epoch, channels, height, width."""


@dataclass(frozen=True)
class Contest:
    """Two ways to the same batches; each call makes some and returns how many images they have."""

    name: str
    ours: Callable[[], int]
    theirs: Callable[[], int]


def contest(name: str, device: torch.device) -> Contest:
    """A set's recipe on random images."""
    source = SOURCES[name]
    images = torch.randint(256, SIZES[name], dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(images, torch.zeros(len(images), dtype=torch.int64))
    mean, std = 255 * torch.tensor(source.mean), 255 * torch.tensor(source.std)
    recipe = (source.padding, source.flip, source.rotation)
    dataset = InMemory(name, split, split, split, 10, mean, std, *recipe).to(device)
    arrays = list(images[: 4 * BATCH].permute(0, 2, 3, 1).numpy())
    transform = usual(name)
    return Contest(name, lambda: total(ours(dataset)), lambda: total(theirs(arrays, transform)))


def ours(dataset: Dataset) -> Iterator[Tensor]:
    """An epoch."""
    return (images for images, _ in dataset.train_batches(seed=0, epoch=0, batch_size=BATCH, augment=True))


def theirs(arrays: list[np.ndarray], transform: Callable[[Image.Image], Tensor]) -> Iterator[Tensor]:
    """As a `DataLoader` without processes makes them of torchvision's dataset."""
    for start in range(0, len(arrays), BATCH):
        yield torch.stack([transform(Image.fromarray(a.squeeze())) for a in arrays[start : start + BATCH]])


def usual(name: str) -> Callable[[Image.Image], Tensor]:
    """A set's recipe in torchvision's transforms."""
    source = SOURCES[name]
    steps = [transforms.RandomCrop(SIZES[name][2], padding=source.padding)]
    steps += [transforms.RandomHorizontalFlip()] if source.flip else []
    steps += [transforms.RandomRotation(source.rotation)] if source.rotation else []
    recipe: Callable[[Image.Image], Tensor] = transforms.Compose(
        [*steps, transforms.ToTensor(), transforms.Normalize(source.mean, source.std)]
    )
    return recipe


PICTURES, LINKS = 128, 8
"""Distinct files, and how often each is in the set: decoding does not get faster when a file was decoded before."""


def write_jpegs(root: Path) -> ImageFiles:
    """Waves, blots of several sizes and noise: as hard to decode as photographs of the same size in bytes."""
    random = np.random.RandomState(0)
    names = [f"{link % 2}/{picture}-{link}.jpg" for picture in range(PICTURES) for link in range(LINKS)]
    for kind in "01":
        (root / kind).mkdir()
    for name in names:
        first = root / f"0/{name[2:].partition('-')[0]}-0.jpg"
        if first.exists():
            (root / name).hardlink_to(first)
        else:
            _photograph(random).save(first, quality=90)
    return ImageFiles(root, names, [int(name[0]) for name in names])


def _photograph(random: np.random.RandomState) -> Image.Image:
    y, x = np.mgrid[:375, :500]
    waves = [np.sin(x * random.uniform(0.005, 0.05) + y * random.uniform(0.005, 0.05)) for _ in "rgb"]
    pixels = 128 + 60 * np.stack(waves, 2) + random.normal(0, 5, (375, 500, 1))
    for size in (4, 8, 16, 32):
        blots = random.normal(128, 14, (375 // size + 1, 500 // size + 1, 3)).clip(0, 255).astype(np.uint8)
        pixels += np.asarray(Image.fromarray(blots).resize((500, 375), Image.Resampling.BICUBIC)) - 128.0
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def streaming(files: ImageFiles, processes: int, device: torch.device) -> Contest:
    """ImageNet's recipe from files."""
    dataset = Streamed("jpeg", files, files, files, 2, 224).to(device, processes)
    steps = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    source = ImageFolder(files.folder, transforms.Compose([*steps, transforms.Normalize(MEAN, STD)]))
    loader = DataLoader(source, BATCH, shuffle=True, num_workers=processes, persistent_workers=processes > 0)
    name = f"jpeg, {processes} processes"
    return Contest(name, lambda: total(ours(dataset)), lambda: total(images for images, _ in loader))


def total(batches: Iterator[Tensor]) -> int:
    return sum(len(images) for images in batches)


def measure(each: Contest, rounds: int, clock: Callable[[], float]) -> list[str]:
    """A row of the table."""
    pairs = [pair(each, clock, i % 2) for i in range(rounds + 1)][1:]  # the first fills caches
    own, other = np.median(pairs, 0)
    low, median, high = np.quantile([a / b for a, b in pairs], [0.25, 0.5, 0.75])
    return [each.name, f"{own:,.0f}", f"{other:,.0f}", f"{median:.1f}", f"{low:.1f} to {high:.1f}", str(rounds)]


def pair(each: Contest, clock: Callable[[], float], first: int) -> tuple[float, float]:
    """Images/s of both, back to back; `first` is 0 for ours."""
    ways = [each.ours, each.theirs]
    speeds = {way: speed(way, clock) for way in (ways[::-1] if first else ways)}
    return speeds[each.ours], speeds[each.theirs]


def speed(way: Callable[[], int], clock: Callable[[], float]) -> float:
    """Images/s."""
    start = clock()
    images = way()
    return images / (clock() - start)


def make_clock(device: torch.device) -> Callable[[], float]:
    """Seconds, once the device has finished."""
    if device.type == "cpu":
        return process_time

    def finished() -> float:
        torch.cuda.synchronize(device)
        return perf_counter()

    return finished


def main() -> None:
    """Measure every set, and print a row as it is ready."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="pairs a set")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where our batches are made")
    parser.add_argument("--loaders", type=int, nargs="*", default=[0, 1, 2], help="loading processes of the rows jpeg")
    given = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(given.device)
    print(f"{describe_device(device)}, torch {torch.__version__}, load average {os.getloadavg()[0]:.1f}\n")
    print("| set | ours, images/s | PIL, images/s | ratio | quartiles | rounds |\n|---|---|---|---|---|---|")
    for name in SIZES:
        print(f"| {' | '.join(measure(contest(name, device), given.rounds, make_clock(device)))} |", flush=True)
    with TemporaryDirectory() as folder:
        files = write_jpegs(Path(folder))
        for processes in given.loaders:
            clock = perf_counter if processes else make_clock(device)
            print(f"| {' | '.join(measure(streaming(files, processes, device), given.rounds, clock))} |", flush=True)


if __name__ == "__main__":
    main()
