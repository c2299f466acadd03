"""Folders that hold splits, folders that hold classes, and files that are passed over."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from prunesweep.workers.data import scan
from prunesweep.workers.data.layout import Layout, all_classes, read_layout
from prunesweep.workers.data.split_folders import split_role
from prunesweep.workers.errors import UserError


def write(root: Path, *folders: str, images: int = 2, ending: str = "jpg") -> Path:
    """Empty files, which are images by their names: nothing of a layout depends on what is in them."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(images):
            (root / folder / f"{index}.{ending}").touch()
    return root


def counts(layout: Layout) -> dict[str, int | None]:
    """Images of each split that has folders."""
    parts = {"train": layout.train, "validation": layout.validation, "test": layout.test}
    return {split: part and len(part.names) for split, part in parts.items()}


def layout(root: Path) -> Layout:
    return read_layout("image_folder", root)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("training_set", "test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("seg_train", "seg_test"),
        ("Train Images", "Test-Images"),
        ("trainset", "testset"),
        ("flowers_train", "flowers_test"),
        ("train", "val"),
        ("train2017", "val2017"),
        ("train", "valid"),
        ("flowers/train", "flowers/test"),
        ("train/images", "test/images"),
    ],
)
def test_two_folders_of_splits_by_any_name(tmp_path: Path, train: str, test: str):
    write(tmp_path, f"{train}/cat", f"{train}/dog", images=3)
    write(tmp_path, f"{test}/cat", f"{test}/dog", images=1)
    known = layout(tmp_path)
    assert known.classes == ["cat", "dog"]
    assert counts(known) == {"train": 6, "validation": None, "test": 2}
    assert "is the train set" in " ".join(known.notes)


def test_three_folders_of_splits_and_one_without_classes(tmp_path: Path):
    for split, images in {"Train": 3, "Val": 2, "Test": 1}.items():
        write(tmp_path, f"{split}/cat", f"{split}/dog", images=images)
    write(tmp_path, "unlabelled", images=5)
    known = layout(tmp_path)
    assert counts(known) == {"train": 6, "validation": 4, "test": 2}
    assert known.notes == [
        "folders are splits: Test is the test set, Train is the train set, Val is the validation set",
        "unlabelled is left out: its 5 images are in no class folders",
    ]


def test_folders_in_classes_that_only_some_have_are_parts_of_them(tmp_path: Path):
    write(tmp_path, "cat/old", "cat/young", "dog/old", "dog/puppies")
    assert counts(layout(tmp_path))["train"] == 8


def test_folders_that_archives_put_around_one_another(tmp_path: Path):
    write(tmp_path, "download/data/Training/cat", "download/data/Training/dog", "download/data/Testing/cat")
    write(tmp_path, "download/data/Testing/dog", images=1)
    assert counts(layout(tmp_path)) == {"train": 4, "validation": None, "test": 3}


def test_an_empty_test_folder_is_said_to_be_left_out(tmp_path: Path):
    write(tmp_path, "train/cat", "train/dog")
    (tmp_path / "test").mkdir()
    assert layout(tmp_path).notes[1:] == ["test is left out: there is no image in it"]


def test_a_training_folder_alone_is_all_there_is(tmp_path: Path):
    write(tmp_path, "train/cat", "train/dog")
    assert counts(layout(tmp_path)) == {"train": 4, "validation": None, "test": None}


def test_a_class_may_be_called_train_where_that_is_clear(tmp_path: Path):
    write(tmp_path, "bus", "car", "train")
    known = layout(tmp_path)
    assert known.classes == ["bus", "car", "train"]
    assert known.notes == ["train is taken for a class: it holds images and no class folders"]


def test_words_that_only_begin_like_a_split_are_classes(tmp_path: Path):
    write(tmp_path, "train station", "bus station", "trainers", "valley")
    assert layout(tmp_path).classes == ["bus station", "train station", "trainers", "valley"]
    assert [split_role(name) for name in ("trainers", "valley", "train or test", "daisy")] == [None] * 4


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("train", "plane"), "train look like splits, but hold no folders of classes"),
        (("train", "test"), "test and train look like splits, but hold no folders of classes"),
        (("valid", "invalid"), "valid look like splits"),
        (("test/cat", "test/dog", "val/cat", "val/dog"), "test and val look like splits, but there is no training set"),
        (("train/cat", "train/dog", "plane"), "train look like splits, plane do not"),
        (("train/cat", "train/dog", "test/cat", "test/dog", "extra/cat", "extra/dog"), "extra do not"),
        (
            ("train/a", "train/b", "test/a", "test/b", "testing/a", "testing/b"),
            "test and testing all look like the test",
        ),
        (("fold1/cat", "fold2/cat", "fold3/cat"), "fold1, fold2 and fold3 look like the folds"),
        (("images", "masks"), "masks looks like masks or labels"),
        (("cat/train", "cat/test", "dog/train", "dog/test"), "test and train look like splits inside a class"),
        (("cat/images", "cat/masks", "dog/images"), "masks looks like masks"),
        (("1/cat", "1/dog", "2/cat", "2/dog"), "1 and 2 all hold the folders cat and dog, which look like the classes"),
        (("color/a", "color/b", "grayscale/a", "grayscale/b"), "color and grayscale all hold the folders a and b"),
    ],
)
def test_what_is_not_clear_is_asked(tmp_path: Path, folders: Iterable[str], said: str):
    write(tmp_path, *folders)
    with pytest.raises(UserError) as caught:
        layout(tmp_path)
    assert said in str(caught.value)
    assert str(caught.value).endswith("if every folder is a class, say so with the dataset's option `layout: classes`")
    assert all_classes("image_folder", tmp_path).classes == sorted({folder.split("/")[0] for folder in folders})


def test_masks_beside_their_images_are_asked_for(tmp_path: Path):
    write(tmp_path, "benign", "normal")
    for name in ("scan (1).png", "scan (1)_mask.png", "scan (1)_mask_1.png", "unmask.png"):
        (tmp_path / "benign" / name).touch()
    with pytest.raises(UserError, match=r"2 files look like masks of others, such as scan \(1\)_mask"):
        layout(tmp_path)
    assert counts(all_classes("image_folder", tmp_path))["train"] == 8


def test_what_is_passed_over_is_counted(tmp_path: Path):
    write(tmp_path, "cat", "dog", "cat/.ipynb_checkpoints", "dog/__MACOSX", ".trash")
    write(tmp_path, "cat", ending="heic")
    for name in ("cat/._0.jpg", "cat/Thumbs.db", "dog/README", "readme.txt", "loose.png"):
        (tmp_path / name).touch()
    (tmp_path / "dog" / "gone.jpg").symlink_to("nowhere.jpg")
    known = layout(tmp_path)
    assert counts(known)["train"] == 4
    assert known.passed_over == {
        "hidden": 7,
        ".heic": 2,
        ".db": 1,
        "no ending": 1,
        "broken link": 1,
        "in no class folder": 1,
    }


def test_links_are_followed_but_not_in_circles(tmp_path: Path):
    root = write(tmp_path / "data", "cat", "dog/old", images=3)
    write(tmp_path, "elsewhere", images=4)
    (root / "cat" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "dog" / "loop").symlink_to(root / "dog", target_is_directory=True)
    (root / "dog" / "old" / "up").symlink_to(root, target_is_directory=True)
    (root / "dog" / "self").symlink_to("self")
    (root / "self").symlink_to("self")
    known = layout(root)
    cats = [*(f"cat/{index}.jpg" for index in range(3)), *(f"cat/more/{index}.jpg" for index in range(4))]
    assert known.train.names == [*cats, *(f"dog/old/{index}.jpg" for index in range(3))]
    assert known.passed_over == {scan.LOOP: 2, "no ending": 1}


def test_every_ending_that_pillow_decodes_is_read():
    """But for stores of arrays, films, drawings and formats that Pillow only recognises."""
    Image.init()
    decoded = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    no_pixels = {".bufr", ".emf", ".eps", ".grib", ".h5", ".hdf", ".mpeg", ".mpg", ".ps", ".wmf", ".icns"}
    assert decoded - scan.ENDINGS - no_pixels == set()
    assert [scan.is_image(name) for name in ("A.JFIF", "b.jpe", "c.Gif", "d.avif", "e.webp", "f.heic", ".g.jpg")] == [
        *[True] * 5,
        *[False] * 2,
    ]


def test_a_folder_of_names_in_no_encoding(tmp_path: Path):
    write(tmp_path, "cat", "dog")
    (tmp_path / "cat" / os.fsdecode(b"\xff.jpg")).touch()
    assert counts(layout(tmp_path))["train"] == 5
