"""Images with masks: folders of both, and Pascal VOC's format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import pad

from prunesweep.workers.data.base import SPLIT_SEED, Batches, Dataset, SplitName, epoch_generator, normalised
from prunesweep.workers.data.own_files import Pair, folder_pairs, root_of, voc_pairs
from prunesweep.workers.errors import UserError

IGNORED = 255
VOC_CLASSES = 21
MEAN, STD = (torch.tensor(values) * 255 for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
"""ImageNet's, as torchvision's reference training for segmentation takes them."""


@dataclass(frozen=True, eq=False)
class Masked(Dataset):
    """Images uint8 [N, 3, H, W] with masks uint8 [N, H, W], in memory.

    Augmentation is a mirror image every other time and a shift by up to an eighth of the size, of both alike; what
    comes in at the border is the mean colour, and counts for nothing.
    """

    name: str
    splits: dict[str, tuple[Tensor, Tensor]]
    classes: int
    targets: str = "masks"
    device: torch.device = torch.device("cpu")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.splits["train"][0].shape
        return channels, height, width

    def count(self, split: SplitName) -> int:
        """How many images a split has."""
        return len(self.splits[split][1])

    def to(self, device: torch.device | str, processes: int = 0) -> Masked:
        """The same with batches on another device; images stay where they are."""
        return replace(self, device=torch.device(device))

    def train_batches(
        self, *, seed: int, epoch: int, batch_size: int, augment: bool, dtype: torch.dtype = torch.float32
    ) -> Batches:
        """One epoch; see `Dataset.train_batches`."""
        images, masks = self.splits["train"]
        generator = epoch_generator(seed, epoch)
        order = torch.randperm(len(images), generator=generator)
        reach = images.shape[-1] // 8
        shifts = torch.randint(2 * reach + 1, (len(images), 2), generator=generator).tolist()
        flips = (torch.rand(len(images), generator=generator) < 0.5).tolist()
        for places in torch.split(order, batch_size):
            chosen, wanted = images[places], masks[places]
            if augment:
                drawn = [(*shifts[i], flips[i]) for i in places.tolist()]
                ignored = torch.tensor([IGNORED])
                chosen = torch.stack([_moved(c, reach, d, MEAN) for c, d in zip(chosen, drawn, strict=True)])
                wanted = torch.cat([_moved(w[None], reach, d, ignored) for w, d in zip(wanted, drawn, strict=True)])
            yield self._batch(chosen, wanted, dtype)

    def evaluation_batches(self, split: SplitName, *, batch_size: int, dtype: torch.dtype = torch.float32) -> Batches:
        """A split in its own order, never augmented."""
        images, masks = self.splits[split]
        for chosen, wanted in zip(torch.split(images, batch_size), torch.split(masks, batch_size), strict=True):
            yield self._batch(chosen, wanted, dtype)

    def _batch(self, images: Tensor, masks: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        placed = images.to(self.device)
        mean, std = MEAN.to(self.device), STD.to(self.device)
        return normalised(placed, mean, std, dtype), masks.to(self.device).long()


def mask_folder(
    folder: str, *, path: str = ".", classes: int = 2, size: int = 256, images: str = "images", masks: str = "masks"
) -> Masked:
    """`train/`, `test/` and perhaps `val/`, each with a folder of images and one of masks of the same names.

    Masks are pictures whose values are classes, 255 for what counts for nothing. Both are resized to `size`, masks to
    the nearest pixel. Raises `UserError` for masks that are missing, of another size, or of a class beyond `classes`.
    """
    root = root_of("mask_folder", path, folder)
    pairs = {split: folder_pairs("mask_folder", root / split, images, masks) for split in ("train", "test")}
    if (root / "val").is_dir():
        pairs["validation"] = folder_pairs("mask_folder", root / "val", images, masks)
    return _loaded("mask_folder", pairs, classes, size)


def voc(folder: str, *, path: str = "VOCdevkit/VOC2012", size: int = 256) -> Masked:
    """Pascal VOC's segmentation: 20 classes and the background; the published validation set is the test set.

    Of the training set a tenth is the validation set.
    """
    root = root_of("voc", path, folder)
    return _loaded("voc", {"train": voc_pairs(root, "train"), "test": voc_pairs(root, "val")}, VOC_CLASSES, size)


def _loaded(name: str, pairs: dict[str, list[Pair]], classes: int, size: int) -> Masked:
    if not 2 <= classes <= IGNORED:
        raise UserError(f"dataset {name}: classes: {classes} is not allowed: from 2 to {IGNORED}; {IGNORED} is ignored")
    if size < 8:
        raise UserError(f"dataset {name}: size: {size} is too small: at least 8")
    splits = {split: _stacked(name, listed, classes, size) for split, listed in pairs.items()}
    if "validation" not in splits:
        images, masks = splits["train"]
        order = np.random.RandomState(SPLIT_SEED).permutation(len(images))  # a stream that NumPy promises to keep
        validation, train = (torch.from_numpy(np.sort(o)) for o in np.split(order, [round(len(images) / 10)]))
        if not len(validation):
            raise UserError(f"dataset {name}: {len(images)} training images are too few: at least 10")
        splits |= {"train": (images[train], masks[train]), "validation": (images[validation], masks[validation])}
    return Masked(name, splits, classes)


def _stacked(name: str, pairs: Sequence[Pair], classes: int, size: int) -> tuple[Tensor, Tensor]:
    read = [_read(name, pair, classes, size) for pair in pairs]
    images = np.stack([image for image, _ in read]).transpose(0, 3, 1, 2)
    return torch.from_numpy(images).contiguous(), torch.from_numpy(np.stack([mask for _, mask in read]))


def _read(name: str, pair: Pair, classes: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        with Image.open(pair.image) as image, Image.open(pair.mask) as mask:
            if image.size != mask.size:
                raise UserError(
                    f"dataset {name}: mask {pair.mask} is {mask.width}x{mask.height} pixels and its image {pair.image} "
                    f"{image.width}x{image.height}: they must be of one size"
                )
            if mask.mode not in ("L", "P", "1", "I", "I;16"):
                raise UserError(f"dataset {name}: mask {pair.mask} is {mask.mode}, not a picture of one number a pixel")
            values = np.asarray(mask)
            worst = int(values[values != IGNORED].max(initial=0))
            if worst >= classes:
                raise UserError(
                    f"dataset {name}: mask {pair.mask} has class {worst}, beyond the {classes} of the dataset (0 to "
                    f"{classes - 1}; {IGNORED} is ignored)"
                )
            small = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
            nearest = Image.fromarray(values.astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST)
            return np.asarray(small), np.asarray(nearest)
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"dataset {name}: {pair.image} or its mask cannot be read: {error}") from error


def _moved(values: Tensor, reach: int, drawn: tuple[int, int, bool], border: Tensor) -> Tensor:
    """[C, H, W] shifted by up to `reach` either way, and mirrored; `border` [C] comes in."""
    down, across, mirrored = drawn
    _, height, width = values.shape
    outside = border.to(values.dtype)[:, None, None]
    wide = pad(values, (reach,) * 4)
    inside = pad(torch.ones(1, height, width, dtype=torch.bool), (reach,) * 4)
    wide = torch.where(inside, wide, outside)
    cut = wide[:, down : down + height, across : across + width]
    return cut.flip(2) if mirrored else cut
