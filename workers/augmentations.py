"""Which augmentations of training images fit together. What they do is in `workers.data`; light to import: no torch."""

from __future__ import annotations

from prunesweep.workers.errors import SpecError
from prunesweep.workers.spec import TrainSpec


def check_augmentations(train: TrainSpec) -> None:
    """Raise `SpecError` for what would have no effect, or contradicts itself."""
    if train.randaugment is not None and train.trivialaugment:
        raise SpecError(
            "train.trivialaugment", "RandAugment and TrivialAugment both choose the operations; leave one of them out"
        )
    if train.randaugment is None and train.randaugment_operations != 2:
        raise SpecError(
            "train.randaugment_operations",
            "without RandAugment there are none; give its strength, such as randaugment: 9",
        )
    if train.randaugment == 0:
        raise SpecError("train.randaugment", "0 is not allowed: at strength 0 hardly anything changes; leave it out")
    for name in ("mixup", "cutmix"):
        if getattr(train, name) is not None and train.batch_size == 1:
            raise SpecError(
                f"train.{name}", "an image is mixed with another of its batch; take a batch_size of at least 2"
            )
    _check_copies(train)


def _check_copies(train: TrainSpec) -> None:
    copies, name = train.repeated_augmentation, "train.repeated_augmentation"
    if copies > train.batch_size // 2 and copies > 1:
        raise SpecError(
            name, f"{copies} copies of an image leave no other in a batch of {train.batch_size}; take fewer"
        )
    changes = (train.augment, train.trivialaugment, train.randaugment, train.random_erasing, train.gaussian_noise)
    if copies > 1 and not any(changes):
        raise SpecError(name, "without any other augmentation the copies would be equal; leave it out")
