"""What is done to whole training batches of any dataset: random erasing, noise, and mixing images with each other.

Everything is drawn for the whole batch, by (seed, epoch, number of the batch), and then cut to the portion that one of
several replicas has. NumPy promises that the stream of `RandomState` never changes.
"""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import torch
from torch import Tensor

from prunesweep.workers.data.base import Batches, Dataset, SplitName
from prunesweep.workers.data.mixing import draw_mix, mixed
from prunesweep.workers.data.noise import normal
from prunesweep.workers.data.policies import Policy
from prunesweep.workers.data.portions import Portion, batch_sizes
from prunesweep.workers.errors import UserError
from prunesweep.workers.seeding import derive
from prunesweep.workers.spec import TrainSpec

ERASED_SHARE, ERASED_RATIO = (0.02, 0.33), (0.3, 3.3)
"""Area over the image's, and height over width, of what is erased (Zhong et al. 2020; torchvision's and timm's)."""

ATTEMPTS = 10


def augmented(dataset: Dataset, train: TrainSpec) -> Dataset:
    """The dataset with the augmentations of `train`; itself where there are none, and raises `UserError`."""
    policy = Policy(train.randaugment, train.randaugment_operations, train.trivialaugment, train.repeated_augmentation)
    if policy != Policy(None, train.randaugment_operations):
        dataset = dataset.with_policy(policy)
    mixes = train.mixup is not None or train.cutmix is not None
    return Augmented(dataset, train) if mixes or train.random_erasing or train.gaussian_noise else dataset


class Augmented(Dataset):
    """Another dataset's batches: training images erased in part, then noisy, then mixed with their neighbours.

    Targets of mixed images are shares of classes [B, classes]. Evaluation is the other dataset's.
    """

    def __init__(self, dataset: Dataset, train: TrainSpec, portion: Portion | None = None) -> None:
        self.dataset, self.train, self.portion = dataset, train, portion or Portion()
        self.name, self.classes = dataset.name, dataset.classes
        self.mixes = train.mixup is not None or train.cutmix is not None
        self.drawn_for = replace(self.portion, neighbour=self.mixes and not self.portion.whole)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.dataset.shape

    def count(self, split: SplitName) -> int:
        """How many images a split has."""
        return self.dataset.count(split)

    def to(self, device: torch.device | str, processes: int = 0) -> Dataset:
        """The same with batches on another device."""
        return Augmented(self.dataset.to(device, processes), self.train, self.portion)

    def portioned(self, portion: Portion) -> Dataset:
        """The same with only a portion of every batch."""
        return Augmented(self.dataset, self.train, portion)

    def train_batches(
        self, *, seed: int, epoch: int, batch_size: int, augment: bool, dtype: torch.dtype = torch.float32
    ) -> Batches:
        """One epoch."""
        batches = self.dataset.portioned(self.drawn_for).train_batches(
            seed=seed, epoch=epoch, batch_size=batch_size, augment=augment, dtype=dtype
        )
        sizes = batch_sizes(self.count("train"), batch_size)
        for number, (size, (images, targets)) in enumerate(zip(sizes, batches, strict=False)):
            self._require_images(images)
            batch = derive(seed, epoch, "augmentation", number)
            yield self._changed(batch, size, images, targets)

    def evaluation_batches(self, split: SplitName, *, batch_size: int, dtype: torch.dtype = torch.float32) -> Batches:
        """A split in its own order."""
        yield from self.dataset.portioned(self.portion).evaluation_batches(split, batch_size=batch_size, dtype=dtype)

    def _changed(self, batch: int, size: int, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        draws, places = np.random.RandomState(batch % 2**32), self.drawn_for.places(size)
        if self.train.random_erasing:
            boxes = erased_boxes(draws, size, images.shape[2], images.shape[3], self.train.random_erasing)
            images = erased(images, boxes[:, places].to(images.device))
        if self.train.gaussian_noise:
            images = images + normal(batch, places, images).mul_(self.train.gaussian_noise)
        if not self.mixes:
            return images, targets
        self._require_classes(targets)
        mix = draw_mix(draws, self.train.mixup, self.train.cutmix, images.shape[2:])
        return mixed(images, targets, self.classes, mix, leads=self.drawn_for.neighbour)

    def _require_images(self, images: Tensor) -> None:
        train = self.train
        cuts = [name for name in ("cutmix", "random_erasing") if getattr(train, name)]
        if cuts and images.dim() != 4:
            raise UserError(
                f"train.{cuts[0]}: it cuts boxes out of images, and the inputs of {self.name} are not images "
                f"[channels, height, width] but {list(images.shape[1:])}; leave it out"
            )
        blends = [name for name in ("mixup", "cutmix", "random_erasing", "gaussian_noise") if getattr(train, name)]
        if not images.is_floating_point():
            raise UserError(
                f"train.{blends[0]}: it computes with the values of the inputs, and those of {self.name} are whole "
                "numbers, such as words of a text; leave it out"
            )

    def _require_classes(self, targets: Tensor) -> None:
        if targets.dim() != 1 or targets.is_floating_point():
            setting = "mixup" if self.train.mixup is not None else "cutmix"
            raise UserError(
                f"train.{setting}: it mixes the classes of images, and the targets of {self.name} are not one class "
                "for each input; leave it out"
            )


def erased_boxes(draws: np.random.RandomState, count: int, height: int, width: int, share: float) -> Tensor:
    """For each of `count` images top, left, height and width of what is erased: int64 [4, count], zeros for nothing.

    As torchvision's `RandomErasing`: with probability `share`; shape and place are drawn again, up to ten times, until
    they fit into the image.
    """
    chosen = draws.random_sample(count) < share
    area = draws.uniform(*ERASED_SHARE, (ATTEMPTS, count)) * height * width
    ratio = np.exp(draws.uniform(log(ERASED_RATIO[0]), log(ERASED_RATIO[1]), (ATTEMPTS, count)))
    heights, widths = np.round(np.sqrt(area * ratio)), np.round(np.sqrt(area / ratio))
    fits = (heights < height) & (widths < width)
    first, images = fits.argmax(0), np.arange(count)
    kept = chosen & fits.any(0)
    sizes = np.stack([heights[first, images], widths[first, images]]) * kept
    room = np.array([[height], [width]]) - sizes + 1
    corners = np.floor(draws.random_sample((2, count)) * room) * kept
    return torch.from_numpy(np.concatenate([corners, sizes])).long()


def erased(images: Tensor, boxes: Tensor) -> Tensor:
    """The images [B, C, H, W] with zeros, their mean, in their boxes [4, B]."""
    rows, columns = (torch.arange(side, device=images.device) for side in images.shape[2:])
    top, left, height, width = boxes[:, :, None]
    inside = ((rows >= top) & (rows < top + height))[:, :, None] & ((columns >= left) & (columns < left + width))[
        :, None
    ]
    return torch.where(inside[:, None], 0.0, images)  # in the layout of the images
