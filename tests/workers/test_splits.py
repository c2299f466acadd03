"""Which images are held out: a function of each file's name."""

from __future__ import annotations

from hashlib import blake2b

import pytest

from prunesweep.workers.data.splits import SHARE, held_out, place_of
from prunesweep.workers.errors import UserError

CLASSES = ["cat", "dog"]


def files(*sizes: int) -> tuple[list[str], list[int]]:
    """So many files of each class."""
    names = [f"{CLASSES[number]}/{index:04}.jpg" for number, size in enumerate(sizes) for index in range(size)]
    return names, [number for number, size in enumerate(sizes) for _ in range(size)]


def chosen(names: list[str], targets: list[int], keep: int = 2) -> set[str]:
    indices, _ = held_out("image_folder", CLASSES, names, targets, "test", 0, keep)
    return {names[index] for index in indices}


def test_the_place_of_a_file_is_written_down():
    """Who changes it moves images between training and test: changes keys, and changes results."""
    digest = blake2b(b"0 test\ncat/0.jpg", digest_size=8).digest()
    assert place_of("cat/0.jpg", "0 test") == int.from_bytes(digest, "big") / 2**64
    assert place_of("cat/0.jpg", "0 test") == GOLDEN
    assert place_of("cat/e\u0301.jpg", "0") == place_of("cat/\u00e9.jpg", "0"), "as a Mac writes it"


GOLDEN = 0.8512664678815619


def test_a_tenth_is_held_out():
    names, targets = files(4000, 2000)
    test = chosen(names, targets)
    for class_name, size in zip(CLASSES, (4000, 2000), strict=True):
        share = sum(name.startswith(class_name) for name in test) / size
        assert abs(share - SHARE) < 4 * (SHARE * (1 - SHARE) / size) ** 0.5, "four standard deviations"


def test_a_file_that_is_added_or_removed_moves_no_other():
    names, targets = files(300, 200)
    before = chosen(names, targets)
    more = [(f"cat/more {index}.jpg", 0) for index in range(61)]
    after = chosen([*names, *(name for name, _ in more)], [*targets, *(target for _, target in more)])
    assert {name for name in after if "more" not in name} == before
    assert 0 < len(after - before) < 20
    fewer = [(name, target) for name, target in zip(names, targets, strict=True) if not name.endswith("7.jpg")]
    less = chosen([name for name, _ in fewer], [target for _, target in fewer])
    assert less == {name for name in before if not name.endswith("7.jpg")}


def test_a_rare_class_gives_the_file_that_is_nearest():
    names, targets = files(300, 3)
    places = {name: place_of(name, "0 test") for name in names if name.startswith("dog")}
    dogs = {name for name in chosen(names, targets) if name.startswith("dog")}
    assert dogs == {min(places, key=places.__getitem__)}


def test_a_class_with_too_few_images_is_named():
    names, targets = files(300, 2)
    with pytest.raises(UserError, match=r"the class dog has too few images: of its 2 .* at least 3 are needed"):
        chosen(names, targets)
    assert len({name for name in chosen(names, targets, keep=1) if name.startswith("dog")}) == 1
