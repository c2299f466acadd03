"""Images that stream from files: decoding, crops, the same bits with any number of processes, and what goes wrong."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import v2

from prunesweep.workers.data.base import Batches
from prunesweep.workers.data.folder import find_splits
from prunesweep.workers.data.images import Box, centred, random_box, read, resized
from prunesweep.workers.data.stream import Streamed
from prunesweep.workers.errors import UserError
from tests.orchestrator.conftest import descendants
from tests.workers.pictures import picture, write_flowers

SIZE = 224
"""So large that a batch of 40 is decoded in two parts."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def flowers(tmp_path_factory) -> Path:
    return write_flowers(tmp_path_factory.mktemp("pictures") / "flowers", 18, ("jpg", "png", "JPEG"))


def streamed(root: Path, size: int = SIZE) -> Streamed:
    found = find_splits("image_folder", root)
    return Streamed("flowers", found.train, found.validation, found.test, found.classes, size)


@pytest.fixture(scope="module")
def given(flowers: Path) -> Iterator[Streamed]:
    dataset = streamed(flowers)
    yield dataset
    dataset.running.clear()  # at once: the garbage collector may take a process's queue before the process


def joined(batches: Batches) -> tuple[Tensor, Tensor]:
    images, targets = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(targets)


def epoch_of(dataset: Streamed, epoch: int = 0, *, seed: int = 3, batch_size: int = 40, augment: bool = True):
    return joined(dataset.train_batches(seed=seed, epoch=epoch, batch_size=batch_size, augment=augment))


def levels(images: Tensor, dataset: Streamed) -> Tensor:
    """Normalised images back in units of uint8."""
    return images * dataset.std[:, None, None] + dataset.mean[:, None, None]


def same(one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


# --- decoding


@pytest.mark.parametrize(
    ("mode", "file"),
    [
        *[("RGB", f"picture.{ending}") for ending in ("jpg", "JPEG", "png", "bmp", "webp", "tif")],
        *[("L", "grey.jpg"), ("L", "grey.png"), ("CMYK", "print.jpg"), ("P", "palette.png"), ("RGBA", "clear.png")],
    ],
)
def test_every_kind_of_picture_is_read_as_pil_reads_it(tmp_path: Path, mode: str, file: str) -> None:
    picture(0, 31, 47).convert(mode).save(tmp_path / file)
    with Image.open(tmp_path / file) as opened:
        expected = np.array(opened.convert("RGB"))
    assert read(str(tmp_path / file)).permute(1, 2, 0).numpy().tolist() == expected.tolist()


def test_a_picture_of_another_kind_than_its_name_says(tmp_path: Path) -> None:
    picture(0, 31, 47).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.JPEG")
    assert read(str(tmp_path / "a.JPEG")).shape == (3, 31, 47)


@pytest.mark.parametrize("file", ["a.jpg", "a.png", "a.webp"])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_picture_is_named(tmp_path: Path, file: str, keep: float) -> None:
    picture(0, 64, 64).save(tmp_path / file)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UserError, match=rf"^{tmp_path / file} is no readable image \(.+\); replace it, or remove it"):
        read(str(tmp_path / file))


# --- crops


@pytest.mark.parametrize(("height", "width"), [(375, 500), (60, 40), (250, 90)])
def test_evaluation_images_are_torchvisions(tmp_path: Path, height: int, width: int) -> None:
    """Bit by bit those of its transforms for tensors; PIL's rounding is one level off here and there."""
    picture(1, height, width).save(tmp_path / "a.jpg")
    mine = centred(read(str(tmp_path / "a.jpg")), 256, 224)
    theirs = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224)])(read(str(tmp_path / "a.jpg")))
    assert torch.equal(mine, theirs)
    pil = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()])
    with Image.open(tmp_path / "a.jpg") as opened:
        difference = (mine.int() - pil(opened).int()).abs()
    assert difference.max() <= 1
    assert difference.float().mean() < 0.05


def test_a_part_of_an_image_is_stretched_as_torchvision_does_it(tmp_path: Path) -> None:
    picture(1, 120, 160).save(tmp_path / "a.jpg")
    mine = resized(read(str(tmp_path / "a.jpg")), Box(7, 20, 90, 61), 64)
    with Image.open(tmp_path / "a.jpg") as opened:
        pil = transforms.functional.resized_crop(opened, 7, 20, 90, 61, [64, 64])
    assert (mine.int() - transforms.functional.pil_to_tensor(pil).int()).abs().max() <= 1


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 200), (32, 32), (90, 500)])
def test_random_crops_are_distributed_as_torchvisions(height: int, width: int) -> None:
    def measures(box: Box) -> tuple[float, ...]:
        room_down, room_right = height - box.height, width - box.width
        assert 0 <= box.top <= room_down
        assert 0 <= box.left <= room_right
        places = (box.top / max(1, room_down), box.left / max(1, room_right))
        return box.height * box.width, box.width / box.height, *places

    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    transform = transforms.RandomResizedCrop(224)
    boxes = (Box(*transform.get_params(image, transform.scale, transform.ratio)) for _ in range(2000))
    theirs = [measures(box) for box in boxes]
    mine = [measures(random_box(height, width, random.Random(str(number)))) for number in range(2000)]
    for one, other in zip(zip(*mine, strict=True), zip(*theirs, strict=True), strict=True):
        assert ks_2samp(one, other).pvalue > 0.001


@pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10), (1, 1)])
def test_of_a_picture_without_room_for_a_crop_the_middle_is_taken(height: int, width: int) -> None:
    transform = transforms.RandomResizedCrop(224, scale=(20.0, 30.0))
    expected = transform.get_params(torch.empty(3, height, width), transform.scale, transform.ratio)

    class Large(random.Random):
        def random(self) -> float:
            return 0.999  # the largest area, which never fits

    if (height, width) != (1, 1):
        assert random_box(height, width, Large()) == expected
    assert random_box(height, width, random.Random(0)).height <= height


# --- batches


def test_training_images_are_random_crops_of_their_files_half_of_them_mirrored(given: Streamed) -> None:
    mirrored = 0
    for epoch in range(2):
        images, targets = epoch_of(given, epoch)
        plain, order = epoch_of(given, epoch, augment=False)
        assert torch.equal(targets, order)
        assert not torch.equal(images, plain)
        numbers = torch.randperm(given.count("train"), generator=_generator(3, epoch)).tolist()
        for image, number in zip(levels(images, given), numbers, strict=True):
            whole = read(given.train.path(number))
            box = random_box(*whole.shape[1:], random.Random(f"3 {epoch} {number}"))
            crop = resized(whole, box, SIZE)
            distances = [float((image - view).abs().max()) for view in (crop, crop.flip(2))]
            assert min(distances) < 1e-3
            mirrored += distances[1] < distances[0]
    assert 25 < mirrored < 63, "of 88"


def _generator(seed: int, epoch: int) -> torch.Generator:
    from prunesweep.workers.data.base import epoch_generator

    return epoch_generator(seed, epoch)


def test_every_training_image_comes_once_with_its_target_and_the_last_batch_is_smaller(given: Streamed) -> None:
    assert (given.count("train"), given.count("validation"), given.count("test")) == (40, 9, 5)
    assert given.iterations(18) == 3
    batches = list(given.train_batches(seed=0, epoch=0, batch_size=18, augment=False))
    assert [len(targets) for _, targets in batches] == [18, 18, 4]
    images, targets = joined(iter(batches))
    seen = sorted((int(t), float(image.double().sum())) for image, t in zip(images, targets, strict=True))
    files = zip(given.train.paths(), given.train.targets, strict=True)
    expected = sorted((int(t), _normalised_sum(centred(read(path), 256, SIZE), given)) for path, t in files)
    assert seen == [(t, pytest.approx(total, rel=1e-4, abs=0.1)) for t, total in expected]


def _normalised_sum(image: Tensor, dataset: Streamed) -> float:
    return float(((image - dataset.mean[:, None, None]) / dataset.std[:, None, None]).double().sum())


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_bits_do_not_depend_on_the_number_of_processes_or_on_where_training_resumes(
    given: Streamed, processes: int
) -> None:
    expected = [epoch_of(given, epoch) for epoch in range(3)]
    loaded = given.to("cpu", processes)
    assert all(same(epoch_of(loaded, epoch), expected[epoch]) for epoch in (0, 1, 2))
    resumed = streamed(given.train.folder).to("cpu", processes)
    assert same(epoch_of(resumed, 2), expected[2]), "another training process, which begins there"
    for split in ("validation", "test"):
        mine, theirs = (joined(d.evaluation_batches(split, batch_size=2)) for d in (loaded, given))
        assert same(mine, theirs)


def test_draws_depend_on_seed_and_epoch_alone(given: Streamed) -> None:
    torch.manual_seed(1)
    one = epoch_of(given, 2, batch_size=7)
    torch.manual_seed(2)
    two = epoch_of(given, 2, batch_size=44)
    assert same(one, two)
    firsts = {tuple(epoch_of(given, epoch, seed=seed)[0][0, 0, 0, :8].tolist()) for seed in (0, 1) for epoch in (-1, 0)}
    assert len(firsts) == 4


@pytest.mark.parametrize("processes", [0, 1])
def test_the_models_random_numbers_stay_as_they_are(given: Streamed, processes: int) -> None:
    state = torch.get_rng_state()
    epoch_of(given.to("cpu", processes))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_batches_are_normalised_channels_last_and_rounded_once(given: Streamed, dtype: torch.dtype) -> None:
    images, _ = next(given.evaluation_batches("test", batch_size=4, dtype=dtype))
    exact, _ = next(given.evaluation_batches("test", batch_size=4))
    assert torch.equal(images, exact.to(dtype))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert given.shape == tuple(images.shape[1:]) == (3, SIZE, SIZE)


def test_an_epoch_that_is_left_in_the_middle_does_not_disturb_the_next(given: Streamed) -> None:
    loaded = given.to("cpu", 2)
    left = loaded.train_batches(seed=0, epoch=0, batch_size=5, augment=True)
    next(left)
    assert same(epoch_of(loaded, 1), epoch_of(given, 1))
    with pytest.raises(AssertionError, match="begun something else"):
        next(left)


# --- what goes wrong


@pytest.mark.parametrize("processes", [0, 1])
def test_a_damaged_file_is_named_and_the_processes_go_on(tmp_path: Path, processes: int) -> None:
    root = write_flowers(tmp_path / "flowers", 8)
    dataset = streamed(root, 16).to("cpu", processes)
    broken = Path(dataset.train.path(5))
    content = broken.read_bytes()
    broken.write_bytes(content[:500])
    with pytest.raises(UserError) as caught:
        epoch_of(dataset, batch_size=4)
    assert str(caught.value).startswith(f"{broken} is no readable image (")
    assert "\n" not in str(caught.value)
    broken.write_bytes(content)
    assert len(epoch_of(dataset)[1]) == dataset.count("train")
    dataset.running.clear()


def test_a_loading_process_that_dies_is_an_error(given: Streamed) -> None:
    dataset = streamed(given.train.folder, 16).to("cpu", 1)
    epoch_of(dataset)
    (loaders,) = dataset.running.values()
    (process,) = loaders.loader._iterator._workers
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        epoch_of(dataset)


def test_processes_end_with_the_dataset(given: Streamed) -> None:
    dataset = streamed(given.train.folder, 16).to("cpu", 2)
    epoch_of(dataset)
    (loaders,) = dataset.running.values()
    processes = loaders.loader._iterator._workers
    assert all(process.is_alive() for process in processes)
    del loaders, dataset
    assert not any(process.is_alive() for process in processes)


ENDLESS = """\
import sys
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from prunesweep.workers.data.folder import find_splits
from prunesweep.workers.data.stream import Streamed

if __name__ == "__main__":
    found = find_splits("image_folder", Path(sys.argv[1]))
    dataset = Streamed("a", found.train, found.validation, found.test, found.classes, 224).to("cpu", 2)
    for epoch in range(1000):
        for _ in dataset.train_batches(seed=0, epoch=epoch, batch_size=2, augment=True):
            pass
        print(getrusage(RUSAGE_SELF).ru_maxrss, flush=True)
"""


@pytest.mark.slow
def test_a_killed_training_process_leaves_no_process_and_one_that_lives_does_not_grow(
    flowers: Path, tmp_path: Path
) -> None:
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    with subprocess.Popen([sys.executable, script, flowers], stdout=subprocess.PIPE, text=True) as training:
        assert training.stdout is not None
        kilobytes = [int(training.stdout.readline()) for _ in range(12)]
        family = descendants(training.pid, "python")
        training.kill()
    assert kilobytes[-1] - kilobytes[1] < 20_000, "an epoch is 26 MB as float32"
    assert len(family) >= 4, "the training, the server, and two that load"
    deadline = time.monotonic() + 20
    while any(_alive(pid) for pid in family):
        assert time.monotonic() < deadline, "processes are left"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
