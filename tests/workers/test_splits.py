"""Which images are held out: a function of each file's name."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import pytest
import torch

from prunesweep.workers import data
from prunesweep.workers.data.base import split_indices
from prunesweep.workers.data.folder import find_splits, image_folder
from prunesweep.workers.data.splits import SHARE, ValidationSplit, held_out, place_of
from prunesweep.workers.errors import UserError
from tests.workers.pictures import write_flowers

CLASSES = ["cat", "dog"]


def files(*sizes: int) -> tuple[list[str], list[int]]:
    """So many files of each class."""
    names = [f"{CLASSES[number]}/{index:04}.jpg" for number, size in enumerate(sizes) for index in range(size)]
    return names, [number for number, size in enumerate(sizes) for _ in range(size)]


def chosen(names: list[str], targets: list[int], keep: int = 2) -> set[str]:
    indices, _ = held_out("image_folder", CLASSES, names, targets, "test", keep, ValidationSplit())
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


# --- validation sets as asked


def test_a_stratified_split_by_hand() -> None:
    """A quarter of 8, 5 and 3 images is 2, 1.25 and 0.75: together 4, of which the largest remainder is rounded up."""
    how = ValidationSplit(0.25, stratify=True)
    targets = torch.tensor([0] * 8 + [1] * 5 + [2] * 3)
    assert how.counts(targets.tolist(), 3) == [2, 1, 1]
    train, validation = split_indices(targets, how)
    assert torch.bincount(targets[validation]).tolist() == [2, 1, 1]
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(16))
    assert validation.tolist() == sorted(validation.tolist())
    others = split_indices(targets, ValidationSplit(0.25, seed=1, stratify=True))[1]
    assert others.tolist() != validation.tolist()


def test_a_class_that_a_split_would_lack_is_named() -> None:
    targets = [0] * 80 + [1] * 2
    with pytest.raises(UserError, match=r"class 1 would be missing from the validation images: .* of its 2 is 0"):
        ValidationSplit(0.1, stratify=True).counts(targets, 2)
    with pytest.raises(UserError, match="class 1 would be missing from the training images"):
        ValidationSplit(0.9, stratify=True).counts(targets, 2)
    with pytest.raises(UserError, match="class 1 would be missing from the validation images"):
        ValidationSplit(0.1, stratify=True).counts([0] * 20, 2)


@pytest.mark.parametrize(("fraction", "rest"), [(0.01, "for validation"), (0.99, "to train on")])
def test_too_few_images_for_the_fraction(fraction: float, rest: str) -> None:
    with pytest.raises(UserError, match=f"of 20 images leaves none {rest}"):
        ValidationSplit(fraction).count(20)


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_every_class_gives_its_share(name: str) -> None:
    given = data.load(data.with_validation(data.choose(name, {}), {"validation_fraction": 0.2, "stratify": True}), "")
    known = torch.bincount(torch.cat([given.train.targets, given.validation.targets]))
    held = torch.bincount(given.validation.targets)
    assert bool(((held - 0.2 * known).abs() < 1).all())
    assert held.sum() == round(0.2 * int(known.sum()))


def test_a_choice_without_it_has_the_old_key_and_the_old_images() -> None:
    plain = data.choose("digits", {})
    assert plain.options == ()
    assert data.with_validation(plain, {"stratify": False, "validation_fraction": 0.1}) == plain
    other = data.with_validation(plain, {"validation_seed": 4})
    assert other.options == (("validation_seed", 4),)
    one, two = (data.load(choice, "").validation.targets for choice in (plain, other))
    assert len(one) == len(two) == 140
    assert one.tolist() != two.tolist()


def test_of_a_folder_each_class_gives_its_share(tmp_path: Path) -> None:
    root = write_flowers(tmp_path / "flowers", 20)
    splits = find_splits("image_folder", root, split=ValidationSplit(0.25, stratify=True))
    known = torch.bincount(splits.train.targets) + torch.bincount(splits.validation.targets)
    assert torch.bincount(splits.validation.targets).tolist() == [round(0.25 * int(count)) for count in known]
    assert list(find_splits("image_folder", root).test.paths()) == list(splits.test.paths())


def test_a_folder_with_validation_images_draws_none(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_flowers(tmp_path / "flowers" / split, 4)
    with pytest.raises(UserError, match=r"its validation images are those of .*val, so that none are drawn"):
        image_folder(str(tmp_path / "flowers"), validation_fraction=0.2)
