"""Folders of images: layouts, splits, what is wrong with them, and the small pictures that are kept decoded."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from torchvision.datasets import imagenet

from prunesweep.workers import data
from prunesweep.workers.data import cache, folder, images
from prunesweep.workers.data.base import Dataset
from prunesweep.workers.data.image_files import ImageFiles
from prunesweep.workers.data.images import centred, read
from prunesweep.workers.data.memory import InMemory
from prunesweep.workers.data.split_folders import ANNOTATIONS
from prunesweep.workers.data.stream import Streamed
from prunesweep.workers.errors import UserError
from tests.workers.pictures import COLOURS, picture, write_flowers


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def load(name: str, place: Path, **options: object) -> Dataset:
    data.load.cache_clear()
    return data.load(data.choose(name, options), str(place))


def names(files: ImageFiles) -> list[str]:
    return [os.path.relpath(path, files.folder) for path in files.paths()]


# --- layouts


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    return write_flowers(tmp_path / "flowers", 20, ("jpg", "PNG", "JPEG", "webp", "bmp"))


def test_a_folder_with_a_folder_for_each_class(flowers: Path) -> None:
    splits = folder.find_splits("image_folder", flowers)
    assert splits.classes == sorted(COLOURS)
    assert sum(len(files) for files in splits.parts.values()) == 60
    every = [*names(splits.train), *names(splits.validation), *names(splits.test)]
    assert sorted(every) == sorted(str(path.relative_to(flowers)) for path in flowers.glob("*/*"))
    for files in (splits.train, splits.validation, splits.test):
        classes = [sorted(COLOURS)[target] for target in files.targets]
        assert classes == [name.split("/")[0] for name in names(files)]
    again = folder.find_splits("image_folder", flowers)
    assert names(again.test) == names(splits.test)
    assert names(again.validation) == names(splits.validation)


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_a_held_out_folder_is_the_test_set(flowers: Path, held_out: str) -> None:
    root = flowers.parent / "split"
    root.mkdir()
    flowers.rename(root / "train")
    write_flowers(root / held_out, 4)
    splits = folder.find_splits("image_folder", root)
    assert len(splits.train) + len(splits.validation) == 60
    assert set(splits.validation.targets.tolist()) == {0, 1, 2}
    assert names(splits.test) == [f"{name}/{index:03}.jpg" for name in sorted(COLOURS) for index in range(4)]


def test_with_both_val_is_the_validation_set(flowers: Path) -> None:
    root = flowers.parent / "split"
    root.mkdir()
    flowers.rename(root / "train")
    write_flowers(root / "val", 3)
    write_flowers(root / "test", 4)
    splits = folder.find_splits("image_folder", root)
    assert [len(files) for files in (splits.train, splits.validation, splits.test)] == [60, 9, 12]


def test_hidden_and_other_files_are_passed_over(flowers: Path) -> None:
    expected = names(folder.find_splits("image_folder", flowers).train)
    (flowers / ".thumbnails").mkdir()
    for name in ("._000.jpg", "Thumbs.db", "notes.txt"):
        (flowers / "rose" / name).write_text("no image")
    assert names(folder.find_splits("image_folder", flowers).train) == expected
    assert len(folder.check("image_folder", str(flowers))) == 60


def test_names_in_any_script(tmp_path: Path) -> None:
    root = write_flowers(tmp_path / "flowers", 6)
    (root / "rose").rename(root / "バラ")
    (root / "tulip" / "000.jpg").rename(root / "tulip" / os.fsdecode(b"\xff.jpg"))
    splits = folder.find_splits("image_folder", root)
    assert all(
        Path(path).is_file() for files in (splits.train, splits.validation, splits.test) for path in files.paths()
    )
    dataset = load("image_folder", root, size=8, crop="padded")
    assert sum(dataset.count(split) for split in ("train", "validation", "test")) == 18


def write_tiny_imagenet(root: Path) -> Path:
    """Two of the 200 classes, as the archive unpacks."""
    wnids = ["n02124075", "n04067472"]
    for kind, wnid in enumerate(wnids):
        images = root / "train" / wnid / "images"
        images.mkdir(parents=True)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t62\t63\t63\n")
        for index in range(10):
            picture(10 * kind + index, 64, 64).save(images / f"{wnid}_{index}.JPEG")
    (root / "val" / "images").mkdir(parents=True)
    (root / "test" / "images").mkdir(parents=True)
    for index in range(4):
        picture(100 + index, 64, 64).convert("L" if index == 0 else "RGB").save(root / f"val/images/val_{index}.JPEG")
        picture(200 + index, 64, 64).save(root / f"test/images/test_{index}.JPEG")
    lines = [f"val_{index}.JPEG\t{wnids[index % 2]}\t0\t32\t44\t62\n" for index in range(4)]
    (root / "val" / ANNOTATIONS).write_text("".join(lines))
    (root / "wnids.txt").write_text("\n".join(wnids))
    return root


def test_tiny_imagenet(tmp_path: Path) -> None:
    root = write_tiny_imagenet(tmp_path / "tiny-imagenet-200")
    given = load("tiny_imagenet", tmp_path)
    assert isinstance(given, InMemory)
    assert (given.shape, given.classes, given.padding, given.flip) == ((3, 64, 64), 2, 8, True)
    assert [given.count(split) for split in ("train", "validation", "test")] == [18, 2, 4]
    assert given.test.targets.tolist() == [0, 1, 0, 1]
    assert torch.equal(given.test.images[1], read(str(root / "val/images/val_1.JPEG")))
    assert len(folder.check("tiny_imagenet", str(tmp_path))) == 24
    (root / "val" / ANNOTATIONS).write_text("val_0.JPEG\tn99999999\t0\t32\t44\t62\n")
    with pytest.raises(UserError, match=r"val_annotations.txt is damaged, or of other .*: 'n99999999'"):
        load("tiny_imagenet", tmp_path)


def test_imagenet_is_unpacked_from_its_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives as ILSVRC2012 has them, of two classes; only their sums are not the real ones."""
    root = tmp_path / "imagenet"
    root.mkdir()
    with pytest.raises(UserError, match=r"imagenet cannot be fetched: The archive ILSVRC2012_devkit_t12.tar.gz is not"):
        folder.fetch("imagenet", str(tmp_path))
    with pytest.raises(UserError, match=r"no folder .*/imagenet/train; put ILSVRC2012's three archives beside it"):
        load("imagenet", tmp_path)
    _write_archives(root, tmp_path / "made")
    for kind, (name, _) in imagenet.ARCHIVE_META.items():
        monkeypatch.setitem(imagenet.ARCHIVE_META, kind, (name, None))
    (root / "train.part").mkdir()  # of a process that was killed
    folder.fetch("imagenet", str(tmp_path))
    given = load("imagenet", tmp_path, size=32)
    assert isinstance(given, Streamed)
    assert (given.shape, given.classes) == ((3, 32, 32), 2)
    assert [given.count(split) for split in ("train", "validation", "test")] == [11, 1, 4]
    assert given.test.targets.tolist() == [0, 0, 1, 1]
    assert names(given.test)[2:] == [f"n02/ILSVRC2012_val_{number:08}.JPEG" for number in (1, 3)]
    images, _ = next(given.evaluation_batches("test", batch_size=4))
    assert images.shape == (4, 3, 32, 32)


def _write_archives(root: Path, made: Path) -> None:
    (made / "train").mkdir(parents=True)
    for kind, wnid in enumerate(("n01", "n02")):
        with tarfile.open(made / "train" / f"{wnid}.tar", "w") as archive:
            for index in range(6):
                _add_picture(archive, made / f"{wnid}_{index}.JPEG", 10 * kind + index)
    with tarfile.open(root / "ILSVRC2012_img_train.tar", "w") as archive:
        for wnid in ("n01", "n02"):
            archive.add(made / "train" / f"{wnid}.tar", f"{wnid}.tar")
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as archive:
        for number in range(1, 5):
            _add_picture(archive, made / f"ILSVRC2012_val_{number:08}.JPEG", 100 + number)
    kit = made / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    row = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    synsets = np.array([(1, "n01", "cat", "", 0), (2, "n02", "dog", "", 0), (3, "n00", "pet", "", 2)], dtype=row)
    scipy.io.savemat(kit / "meta.mat", {"synsets": synsets})
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n1\n2\n1\n")
    with tarfile.open(root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as archive:
        archive.add(kit.parent, kit.parent.name)


def _add_picture(archive: tarfile.TarFile, file: Path, number: int) -> None:
    picture(number, 40, 50).save(file)
    archive.add(file, file.name)


# --- what is wrong


def _no_images(root: Path) -> None:
    for path in (root / "rose").iterdir():
        path.unlink()


def _few(root: Path) -> None:
    for path in (path for path in root.glob("*/*") if path.stem > "001"):
        path.unlink()


def _no_classes(root: Path) -> None:
    for path in root.iterdir():
        for image in path.iterdir():
            image.rename(root / f"{path.name}-{image.name}")
        path.rmdir()


def _one_class(root: Path) -> None:
    for name in ("rose", "tulip"):
        shutil.rmtree(root / name)


def _few_test_classes(root: Path) -> None:
    _other_test_classes(root)
    for name in ("daisy", "lily"):
        (root / "test" / name).rename(root / name)


def _other_test_classes(root: Path) -> None:
    root.rename(root.with_name("all"))
    root.mkdir()
    root.with_name("all").rename(root / "train")
    write_flowers(root / "test", 2)
    (root / "test" / "rose").rename(root / "test" / "lily")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: root.rename(root.with_name("trees")), "there is no folder {root}; set `path` to the folder"),
        (_no_classes, "{root} has no folder; it needs a folder with images for each of two or more classes"),
        (_one_class, "{root} has only the folder daisy; it needs"),
        (_no_images, "no image in {root}/rose; put some there or remove the class (known: .avif, .bmp, .gif"),
        (_few, "the class daisy has too few images: of its 2 each split needs one, so at least 3 are needed; add some"),
        (_few_test_classes, "no image in {root}/test/daisy; put some there"),
        (_other_test_classes, "{root}/test has the class lily, which is not in the training set"),
    ],
)
def test_a_folder_that_cannot_be_used(flowers: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(flowers)
    with pytest.raises(UserError) as caught:
        load("image_folder", flowers.parent, path="flowers")
    assert str(caught.value).startswith("image_folder: " + message.format(root=flowers))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"crop": "pad"}, 'crop: "pad" is not allowed: resized or padded'), ({"size": 0}, "size: 0 is too small")],
)
def test_options_that_cannot_be(flowers: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load("image_folder", flowers, **options)


def test_check_names_what_cannot_be_decoded(flowers: Path) -> None:
    first, second = flowers / "daisy" / "000.jpg", flowers / "rose" / "001.PNG"
    first.write_bytes(first.read_bytes()[:-40])
    with pytest.raises(UserError, match=rf"^image_folder: {first} is no readable image .*folder$"):
        folder.check("image_folder", str(flowers))
    second.write_bytes(b"")
    with pytest.raises(UserError, match=r"no readable image .*; 1 more of the 60 files are damaged$"):
        folder.check("image_folder", str(flowers))
    with pytest.raises(UserError, match=r"is no readable image"):
        load("image_folder", flowers, size=16, crop="padded")
    assert not list((flowers / cache.FOLDER).glob("*.npy"))


# --- small pictures


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_both_decoders_give_the_same_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    file = tmp_path / "picture.jpg"
    picture(3, 123, 77).convert(mode).save(file)
    assert images.decode_jpeg is not None
    fast = read(str(file))
    monkeypatch.setattr(images, "decode_jpeg", None)
    assert torch.equal(read(str(file)), fast)


def test_padded_pictures_are_in_memory_at_one_size(flowers: Path) -> None:
    given = load("image_folder", flowers.parent, path="flowers", size=16, crop="padded")
    assert isinstance(given, InMemory)
    assert (given.shape, given.classes, given.padding, given.flip) == ((3, 16, 16), 3, 2, True)
    splits = folder.find_splits("image_folder", flowers)
    for split, files in ((given.train, splits.train), (given.validation, splits.validation), (given.test, splits.test)):
        expected = torch.stack([centred(read(path), 16, 16) for path in files.paths()])
        assert torch.equal(split.images, expected)
        assert split.targets.tolist() == files.targets.tolist()
    moved = given.to("cpu")
    distance = moved.validation.images.data_ptr() - moved.train.images.data_ptr()
    assert distance == moved.train.images.numel(), "the splits are parts of one mapped file"
    images = torch.cat([i for i, _ in given.train_batches(seed=0, epoch=0, batch_size=20, augment=False)]).double()
    assert images.mean((0, 2, 3)).abs().max() < 1e-4
    assert (images.square().mean((0, 2, 3)) - 1).abs().max() < 1e-4


def test_pictures_are_decoded_once_and_again_when_a_file_changes(flowers: Path) -> None:
    options = {"path": "flowers", "size": 16, "crop": "padded"}
    first = load("image_folder", flowers.parent, **options)
    (kept,) = (flowers.parent / cache.FOLDER).glob("*.npy")
    written = kept.stat().st_mtime_ns
    second = load("image_folder", flowers.parent, **options)
    assert kept.stat().st_mtime_ns == written
    assert _mapped(kept)
    assert isinstance(first, InMemory)
    assert isinstance(second, InMemory)
    assert torch.equal(first.train.images, second.train.images)
    picture(7, 50, 50).save(flowers / "rose" / "000.jpg")
    load("image_folder", flowers.parent, **options)
    assert len(list((flowers.parent / cache.FOLDER).glob("*.npy"))) == 2


def _mapped(file: Path) -> bool:
    return str(file) in Path("/proc/self/maps").read_text()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(flowers: Path) -> None:
    flowers.chmod(stat.S_IRUSR | stat.S_IXUSR)
    given = load("image_folder", flowers, size=16, crop="padded")
    assert given.count("train") == 49


def test_where_nothing_can_be_kept_the_array_is_filled_in_memory(tmp_path: Path) -> None:
    (tmp_path / cache.FOLDER).write_text("a file in its place")
    pixels = cache.decoded(tmp_path, "a", (2, 3), lambda array: array.fill(7))
    assert pixels.tolist() == [[7, 7, 7], [7, 7, 7]]


def _decode(place: Path, log: Path) -> int:
    def fill(pixels: cache.Pixels) -> None:
        with log.open("a") as file:
            file.write("decoded\n")
        pixels[:] = np.arange(len(pixels))[:, None] % 251

    return int(cache.decoded(place, "a", (100_000, 10), fill).sum(dtype=np.int64))


def test_several_processes_decode_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        sums = pool.starmap(_decode, [(tmp_path, tmp_path / "log")] * 4)
    assert len(set(sums)) == 1
    assert (tmp_path / "log").read_text() == "decoded\n"
    assert [path.suffix for path in sorted((tmp_path / cache.FOLDER).iterdir())] == [".lock", ".npy"]


def test_a_full_disk_or_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(pixels: cache.Pixels) -> None:
        raise UserError("damaged")

    with pytest.raises(UserError, match="damaged"):
        cache.decoded(tmp_path, "a", (10,), fail)
    assert [path.suffix for path in (tmp_path / cache.FOLDER).iterdir()] == [".lock"]
    assert cache.decoded(tmp_path, "a", (3,), lambda array: array.fill(1)).tolist() == [1, 1, 1]
