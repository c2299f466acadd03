"""Which images are held out where a dataset does not say.

Of folders that is a function of each file's name, so that none ever moves.

Light to import: no torch.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from prunesweep.workers.errors import UserError

SHARE = 0.1
"""Of the images that a split is drawn from."""


@dataclass(frozen=True)
class ValidationSplit:
    """How the validation images are drawn from the training images; raises `UserError` on what cannot be.

    `seed` is never a trial's: all trials are judged on the same images. With `stratify` each class gives its share,
    else the images are drawn from all together.
    """

    fraction: float = SHARE
    seed: int = 0
    stratify: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise UserError(f"validation_fraction: {self.fraction:g} is not allowed: a number between 0 and 1")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"validation_seed: {self.seed} is not allowed: a whole number of at least 0, below 2^32")

    def count(self, images: int) -> int:
        """How many of so many images are held out; raises `UserError` when that leaves none on one side."""
        count = round(self.fraction * images)
        if not 0 < count < images:
            rest = "for validation" if count == 0 else "to train on"
            raise UserError(f"validation: a fraction of {self.fraction:g} of {images} images leaves none {rest}")
        return count

    def counts(self, targets: Sequence[int], classes: int) -> list[int]:
        """How many images of each class are held out: its share, rounded so that all together are `count`.

        The largest remainders are rounded up. Raises `UserError` with the first class that one of the splits would
        lack.
        """
        sizes = Counter(targets)
        shares = [self.fraction * sizes[number] for number in range(classes)]
        counts = [int(share) for share in shares]
        order = sorted(range(classes), key=lambda number: counts[number] - shares[number])
        for number in order[: self.count(len(targets)) - sum(counts)]:
            counts[number] += 1
        for number, count in enumerate(counts):
            if not 0 < count < sizes[number]:
                lacks = "validation" if count == 0 else "training"
                raise UserError(
                    f"validation: class {number} would be missing from the {lacks} images: a fraction of "
                    f"{self.fraction:g} of its {sizes[number]} is {count}; take another fraction, add images of it, or "
                    "set stratify: false"
                )
        return counts


A_TENTH = ValidationSplit()
"""What was always drawn; also the test set of a folder that has none."""


def place_of(name: str, salt: str) -> float:
    """A number in [0, 1) for a file, its path from the folder of the classes: a hash, so uniform and the same for ever.

    Names that look alike are alike: a Mac composes accents in another way.
    """
    text = f"{salt}\n{unicodedata.normalize('NFC', name)}".encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64


def held_out(
    dataset: str,
    classes: Sequence[str],
    names: Sequence[str],
    targets: Sequence[int],
    split: str,
    keep: int,
    how: ValidationSplit,
) -> tuple[list[int], int]:
    """The indices of the images of a split, ascending, and how many of them a small class had to give.

    Those whose place is below the fraction belong to it, whatever other files there are; with `stratify` those of each
    class with the lowest places, which is the fraction of them. A class from which that takes none gives the image with
    the lowest place, and one that would keep fewer than `keep` gives fewer. `UserError` for a class with no more than
    `keep` images.
    """
    members: list[list[tuple[float, int]]] = [[] for _ in classes]
    for index, (name, target) in enumerate(zip(names, targets, strict=True)):
        members[target].append((place_of(name, f"{how.seed} {split}"), index))
    chosen: list[int] = []
    moved = 0
    for class_name, places in zip(classes, members, strict=True):
        if len(places) <= keep:
            raise UserError(
                f"{dataset}: the class {class_name} has too few images: of its {len(places)} each split needs one, so "
                f"at least {keep + 1} are needed; add some, or remove the class"
            )
        drawn = round(how.fraction * len(places)) if how.stratify else sum(p < how.fraction for p, _ in places)
        count = min(max(drawn, 1), len(places) - keep)
        moved += abs(count - drawn)
        chosen += [index for _, index in sorted(places)[:count]]
    return sorted(chosen), moved
