"""Datasets that stay in their files and stream through the training, decoded anew in every epoch.

The training process decides what is read in which order and how each image is cropped; loading processes read, decode,
crop and resize, and know nothing else. What comes back is uint8 and goes to the device as it is, where it is mirrored
and normalised. Images come in parts of a batch, so that what waits in memory is small however large the batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import prod
from multiprocessing import get_context, parent_process
from multiprocessing.context import BaseContext
from random import Random
from threading import Thread
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from prunesweep.workers.data.augmentation import flip
from prunesweep.workers.data.base import Batches, Dataset, SplitName, epoch_generator, normalised
from prunesweep.workers.data.corrupted import corrupted, require_corruptible
from prunesweep.workers.data.image_files import ImageFiles
from prunesweep.workers.data.images import centred, random_box, read, resized
from prunesweep.workers.data.policies import Policy, repeated
from prunesweep.workers.data.portions import Portion
from prunesweep.workers.errors import UserError

PART_VALUES = 2**22
"""A part of a batch has up to so many values: containers often have 64 MB of shared memory in all."""

PREFETCH = 2
"""Parts that wait for each loading process."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, in [0, 1]; usual for other photographs, too."""


class Part(NamedTuple):
    """Part of a batch, as it is sent to a loading process: `draws` seed the random crops; None takes the centre.

    `corruptions` are test sets with the images' numbers there; None leaves the image as it is.
    """

    paths: list[str]
    draws: list[str | None]
    corruptions: list[tuple[str, int] | None]


@dataclass(frozen=True)
class Decoder(torch.utils.data.Dataset[Tensor | UserError]):
    """ImageFiles to pixels, in a loading process."""

    size: int

    def __getitem__(self, part: Part) -> Tensor | UserError:
        """uint8 [B, H, W, 3]; an error is returned, since the DataLoader would bury its message in a traceback."""
        pixels = torch.empty(len(part.paths), self.size, self.size, 3, dtype=torch.uint8)
        try:
            for index, (path, draw, corruption) in enumerate(zip(*part, strict=True)):
                image = self._image(path, draw).permute(1, 2, 0)
                pixels[index] = torch.from_numpy(corrupted(image.numpy(), *corruption)) if corruption else image
        except UserError as error:
            return error
        return pixels

    def _image(self, path: str, draw: str | None) -> Tensor:
        image = read(path)
        if draw is None:
            return centred(image, round(self.size * 256 / 224), self.size)
        _, height, width = image.shape
        return resized(image, random_box(height, width, Random(draw)), self.size)


class PartSampler:
    """The parts to decode next. A DataLoader takes its sampler once, so a new epoch changes this one's `parts`."""

    parts: Iterable[Part] = ()

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)


class Loaders:
    """Processes that decode images, kept from epoch to epoch and from stage to stage; with 0 the caller's decodes."""

    def __init__(self, decoder: Decoder, processes: int, pinned: bool) -> None:
        self.sampler = PartSampler()
        self.turn = 0
        self.loader = DataLoader(
            decoder,
            batch_size=None,
            sampler=self.sampler,
            num_workers=processes,
            persistent_workers=processes > 0,
            prefetch_factor=PREFETCH if processes else None,
            multiprocessing_context=_forkserver() if processes else None,
            worker_init_fn=_end_with_parent if processes else None,
            pin_memory=pinned,
            generator=torch.Generator(),  # else the number of processes would move the model's draws
        )

    def decoded(self, parts: Iterable[Part]) -> Iterator[Tensor]:
        """The parts' pixels, in order; a new call ends those before it. Raises `UserError` on a damaged file."""
        self.sampler.parts, self.turn = parts, self.turn + 1
        turn = self.turn
        for pixels in self.loader:
            if isinstance(pixels, UserError):
                raise pixels
            yield pixels
            assert turn == self.turn, "the loading processes have begun something else"


def _forkserver() -> BaseContext:
    """Loading processes are forked from a server that has imported what they need.

    Forking the training process would copy the locks that its threads hold, which is a danger with CUDA and in a Ray
    worker. Starting each of them from nothing would cost seconds and hundreds of megabytes.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    return context


def _end_with_parent(_: int) -> None:
    """End when the training process is killed: the DataLoader watches the direct parent, and that is the server."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


@dataclass(frozen=True, eq=False)
class Streamed(Dataset):
    """A dataset in files: ImageNet's recipe at size x size pixels.

    Training images are a random part of the picture, stretched, and a mirror image every other time; others have their
    shorter side made `size` * 256 / 224 long, of which the middle is taken. `mean` and `std` [3] are in units of uint8.
    """

    name: str
    train: ImageFiles
    validation: ImageFiles
    test: ImageFiles
    classes: int
    size: int
    mean: Tensor = field(default_factory=lambda: 255 * torch.tensor(MEAN))
    std: Tensor = field(default_factory=lambda: 255 * torch.tensor(STD))
    device: torch.device = torch.device("cpu")
    processes: int = 0
    portion: Portion = Portion()
    policy: Policy = Policy()
    test_set: str | None = None
    running: dict[tuple[int, bool], Loaders] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return 3, self.size, self.size

    def count(self, split: SplitName) -> int:
        """How many images a split has."""
        return len(self._files(split))

    def to(self, device: torch.device | str, processes: int = 0) -> Streamed:
        """Batches on `device`, decoded by so many processes; they start when needed and end with the dataset."""
        mean, std = self.mean.to(device), self.std.to(device)
        return replace(self, mean=mean, std=std, device=torch.device(device), processes=processes)

    def portioned(self, portion: Portion) -> Streamed:
        """The same with only a portion of every batch: no other file is read."""
        return replace(self, portion=portion)

    def corrupted(self, test_set: str) -> Streamed:
        """The same with each test image corrupted by its number, by the loading processes."""
        require_corruptible(self.name, self.shape[0], test_set)
        return replace(self, test_set=test_set)

    def with_policy(self, policy: Policy) -> Streamed:
        """The same with training images augmented by a policy, too: on the device, in the training process."""
        return replace(self, policy=policy)

    def train_batches(
        self, *, seed: int, epoch: int, batch_size: int, augment: bool, dtype: torch.dtype = torch.float32
    ) -> Batches:
        """One epoch; see `Dataset.train_batches`."""
        generator = epoch_generator(seed, epoch)
        order = torch.randperm(len(self.train), generator=generator)
        flips = torch.rand(len(self.train), generator=generator) < 0.5
        mine = self.portion.positions(len(self.train), batch_size)
        flips = flips[mine]
        drawn = self.policy.draw(seed, epoch, len(self.train)).at(mine) if self.policy.changes else None
        prefix = f"{seed} {epoch}" if augment else None
        order, copies = repeated(order, self.policy.copies, batch_size)
        for start, pixels, targets in self._batches(self.train, order, batch_size, prefix, copies):
            part = slice(start, start + len(targets))
            if augment and len(targets):
                chosen = flips[part].nonzero().squeeze(1)
                flip(pixels, chosen.to(self.device, non_blocking=True))
            if drawn and len(targets):
                pixels = self.policy.apply(pixels, drawn.at(part))
            yield normalised(pixels.permute(0, 3, 1, 2), self.mean, self.std, dtype), targets

    def evaluation_batches(self, split: SplitName, *, batch_size: int, dtype: torch.dtype = torch.float32) -> Batches:
        """One split in its own order; see `Dataset.evaluation_batches`."""
        files = self._files(split)
        test_set = self.test_set if split == "test" else None
        for _, pixels, targets in self._batches(files, torch.arange(len(files)), batch_size, test_set=test_set):
            yield normalised(pixels.permute(0, 3, 1, 2), self.mean, self.std, dtype), targets

    def _batches(
        self,
        files: ImageFiles,
        order: Tensor,
        batch_size: int,
        prefix: str | None = None,
        copies: Tensor | None = None,
        test_set: str | None = None,
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """For each batch its start within the portion, its pixels [B, H, W, C] and its targets, both on the device.

        `copies` says the how manieth of its image each is: each is cropped in its own way.
        """
        sizes = self.portion.sizes(len(order), batch_size)
        mine = self.portion.positions(len(order), batch_size)
        order, copies = order[mine], (torch.zeros_like(order) if copies is None else copies)[mine]
        targets = files.targets[order].to(self.device)
        decoded, start = self._loaders().decoded(self._parts(files, order, copies, sizes, prefix, test_set)), 0
        for size in sizes:
            count = max(1, -(-size // self._part_size()))
            parts = [next(decoded).to(self.device, non_blocking=True) for _ in range(count)]
            yield start, torch.cat(parts), targets[start : start + size]
            start += size

    def _parts(
        self,
        files: ImageFiles,
        order: Tensor,
        copies: Tensor,
        sizes: list[int],
        prefix: str | None,
        test_set: str | None,
    ) -> Iterator[Part]:
        """An empty batch is one part without images."""
        for batch in torch.split(torch.stack([order, copies]), sizes, 1):
            for images in torch.split(batch, self._part_size(), 1):
                numbers = images[0].tolist()
                draws = [prefix and _draw(prefix, *of) for of in images.T.tolist()]
                corruptions = [(test_set, number) if test_set else None for number in numbers]
                yield Part([files.path(number) for number in numbers], draws, corruptions)

    def _part_size(self) -> int:
        return max(1, PART_VALUES // prod(self.shape))

    def _loaders(self) -> Loaders:
        """Shared by all copies of this dataset: the stages of a process use the same loading processes."""
        kind = (self.processes, self.device.type == "cuda")
        if kind not in self.running:
            self.running[kind] = Loaders(Decoder(self.size), *kind)
        return self.running[kind]

    def _files(self, split: SplitName) -> ImageFiles:
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]


def _draw(prefix: str, number: int, copy: int) -> str:
    """What seeds the crop of an image; that of its first copy is as without others."""
    return f"{prefix} {number} {copy}" if copy else f"{prefix} {number}"
