"""Which images are held out where a folder does not say: a function of each file's name, so that none ever moves.

Light to import: no torch.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

from prunesweep.workers.errors import UserError

SHARE = 0.1
"""Of the images that a split is drawn from."""


def place_of(name: str, salt: str) -> float:
    """A number in [0, 1) for a file, its path from the folder of the classes: a hash, so uniform and the same for ever.

    Names that look alike are alike: a Mac composes accents in another way.
    """
    text = f"{salt}\n{unicodedata.normalize('NFC', name)}".encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64


def held_out(
    dataset: str, classes: Sequence[str], names: Sequence[str], targets: Sequence[int], split: str, seed: int, keep: int
) -> tuple[list[int], int]:
    """The indices of the images of a split, ascending, and how many of them a small class had to give.

    Those whose place is below `SHARE` belong to it, whatever other files there are. A class from which that takes none
    gives the image with the lowest place, and one that would keep fewer than `keep` gives fewer. `UserError` for a
    class with no more than `keep` images.
    """
    members: list[list[tuple[float, int]]] = [[] for _ in classes]
    for index, (name, target) in enumerate(zip(names, targets, strict=True)):
        members[target].append((place_of(name, f"{seed} {split}"), index))
    chosen: list[int] = []
    moved = 0
    for class_name, places in zip(classes, members, strict=True):
        if len(places) <= keep:
            raise UserError(
                f"{dataset}: the class {class_name} has too few images: of its {len(places)} each split needs one, so "
                f"at least {keep + 1} are needed; add some, or remove the class"
            )
        drawn = sum(place < SHARE for place, _ in places)
        count = min(max(drawn, 1), len(places) - keep)
        moved += abs(count - drawn)
        chosen += [index for _, index in sorted(places)[:count]]
    return sorted(chosen), moved
