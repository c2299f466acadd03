from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from torchvision.transforms.functional import rotate

from prunesweep.workers import data, models
from prunesweep.workers.data import augmentation, memory
from prunesweep.workers.data.base import epoch_generator
from prunesweep.workers.data.memory import InMemory, Split
from prunesweep.workers.errors import UserError
from prunesweep.workers.host import Where
from prunesweep.workers.registry import load
from prunesweep.workers.run import run_stage
from prunesweep.workers.store import Store
from tests.cases import last_stage, trial

GENERATED = ["digits", "synthetic"]


@pytest.fixture
def _one_thread() -> Iterator[None]:
    # On a busy machine, threads that wait for each other make tiny layers twenty times slower.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def dataset(name: str, **options: object) -> InMemory:
    return data.load(data.choose(name, options), "unused")


def numbered(count: int = 10, *, padding: int = 0, flip: bool = False) -> InMemory:
    """Images [2, 3, 4] whose pixels all differ; the target is the image's number. Not normalised."""
    images = (torch.arange(count * 24) % 251).to(torch.uint8).view(count, 2, 3, 4)
    split = Split(images, torch.arange(count))
    return InMemory("numbered", split, split, split, count, torch.zeros(2), torch.ones(2), padding, flip)


def epoch_of(given: InMemory, *, seed: int = 0, epoch: int = 0, batch_size: int = 4, augment: bool = False) -> Split:
    batches = given.train_batches(seed=seed, epoch=epoch, batch_size=batch_size, augment=augment)
    images, targets = zip(*batches, strict=True)
    return Split(torch.cat(images), torch.cat(targets))


def order(seed: int, epoch: int) -> list[int]:
    numbers: list[int] = epoch_of(numbered(), seed=seed, epoch=epoch).targets.tolist()
    return numbers


@pytest.mark.parametrize("name", data.DATASETS)
def test_options_of_an_entry_are_the_builders(name: str) -> None:
    parameters = inspect.signature(load(data.DATASETS[name].target)).parameters.values()
    entry = data.DATASETS[name]
    assert {**entry.options, **entry.later} == {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize("name", GENERATED)
def test_splits_have_the_promised_types(name: str) -> None:
    given = dataset(name)
    for split in (given.train, given.validation, given.test):
        assert (split.images.dtype, split.targets.dtype) == (torch.uint8, torch.int64)
        assert split.images.shape == (len(split), *given.shape)
        assert split.targets.unique().tolist() == list(range(given.classes))
    assert len(given.validation) == round(0.1 * (len(given.train) + len(given.validation)))


@pytest.mark.parametrize("name", GENERATED)
def test_training_images_have_mean_zero_and_deviation_one(name: str) -> None:
    images = epoch_of(dataset(name), batch_size=500).images.double()
    assert images.mean((0, 2, 3)).abs().max() < 1e-5
    assert (images.square().mean((0, 2, 3)) - 1).abs().max() < 1e-5


def test_channel_statistics_by_hand() -> None:
    images = torch.tensor([[[[1, 3]], [[0, 255]]], [[[5, 7]], [[255, 0]]]], dtype=torch.uint8)
    mean, std = memory.channel_statistics(images)
    assert mean.tolist() == [4.0, 127.5]
    assert std.tolist() == pytest.approx([5**0.5, 127.5])


def test_a_dataset_is_loaded_once() -> None:
    assert dataset("digits") is dataset("digits")
    assert dataset("synthetic", images=100) is not dataset("synthetic", images=200)


def test_validation_is_a_tenth_drawn_by_a_fixed_seed() -> None:
    images, targets = torch.zeros(20, 1, 1, 1, dtype=torch.uint8), torch.arange(20)
    train, validation = memory.split_validation(images, targets)
    assert validation.targets.tolist() == [1, 18]
    assert train.targets.tolist() == [0, *range(2, 18), 19]


def test_every_image_comes_once_with_its_target_and_the_last_batch_is_smaller() -> None:
    sizes = [len(t) for _, t in numbered().train_batches(seed=0, epoch=0, batch_size=4, augment=False)]
    assert sizes == [4, 4, 2]
    assert numbered().iterations(4) == 3
    assert numbered().iterations(5) == 2
    assert sorted(order(0, 0)) == list(range(10))
    seen = epoch_of(numbered())
    assert torch.equal(seen.images, numbered().train.images[seen.targets].float())


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert order(0, 0) == [4, 5, 3, 7, 8, 2, 6, 0, 1, 9], "results trained so far had this order"
    assert len({tuple(order(seed, epoch)) for seed in range(4) for epoch in range(-1, 4)}) == 20


def test_augmentation_does_not_depend_on_batch_size_or_the_global_generator() -> None:
    given = dataset("synthetic", images=1000)
    torch.manual_seed(1)
    one = epoch_of(given, seed=1, epoch=2, batch_size=100, augment=True)
    torch.manual_seed(2)
    two = epoch_of(given, seed=1, epoch=2, batch_size=900, augment=True)
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.targets, two.targets)


def test_augmentation_leaves_the_order_alone_and_changes_every_epoch() -> None:
    given = numbered(padding=1, flip=True)
    plain, one, two = epoch_of(given), epoch_of(given, augment=True), epoch_of(given, epoch=1, augment=True)
    assert torch.equal(plain.targets, one.targets)
    assert not torch.equal(one.images[one.targets.argsort()], two.images[two.targets.argsort()])


def views(image: Tensor, padding: int, flip: bool) -> list[Tensor]:
    """Every image that augmentation may make of [C, H, W], one by one."""
    height, width = image.shape[1:]
    padded = pad(image, (padding,) * 4)
    steps = range(2 * padding + 1)
    crops = [padded[:, y : y + height, x : x + width] for y in steps for x in steps]
    return crops + [crop.flip(2) for crop in crops] if flip else crops


@pytest.mark.parametrize(("padding", "flip"), [(0, True), (1, False), (1, True), (2, True)])
def test_augmented_images_are_all_crops_and_flips_equally_often(padding: int, flip: bool) -> None:
    given = numbered(padding=padding, flip=flip)
    counts = torch.zeros(len(views(given.train.images[0], padding, flip)))
    for epoch in range(300):
        seen = epoch_of(given, epoch=epoch, batch_size=10, augment=True)
        for image, target in zip(seen.images[:3], seen.targets[:3], strict=True):
            allowed = torch.stack(views(given.train.images[target], padding, flip))
            matches = (allowed == image).flatten(1).all(1)
            assert matches.sum() == 1
            counts += matches
    expected = 900 / len(counts)
    assert (counts - expected).abs().max() < 5 * expected**0.5


@pytest.mark.parametrize("shape", [(2, 4, 3), (3, 5, 1)])
def test_chosen_images_are_mirrored_whatever_their_size(shape: tuple[int, ...]) -> None:
    images = torch.randint(256, (6, *shape), dtype=torch.uint8)
    expected = torch.stack([images[0], images[1].flip(1), images[2], images[3], images[4].flip(1), images[5]])
    augmentation.flip(images, torch.tensor([4, 1]))
    assert torch.equal(images, expected)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 9, 14)])
def test_rotated_images_are_pils(shape: tuple[int, int, int]) -> None:
    images = torch.randint(1, 256, (200, *shape[1:], shape[0]), dtype=torch.uint8)
    degrees = torch.empty(200).uniform_(-60, 60)
    degrees[:3] = torch.tensor([0.0, 45.0, -15.0])
    rotated = augmentation.rotated(images, augmentation.turns(degrees, *shape[1:]))
    for image, angle, found in zip(images, degrees.tolist(), rotated, strict=True):
        expected = rotate(Image.fromarray(image.squeeze(2).numpy()), angle)
        assert np.array_equal(np.asarray(expected), found.squeeze(2).numpy())


def test_rotation_is_drawn_and_applied_last() -> None:
    images = torch.randint(256, (90, 3, 8, 8), dtype=torch.uint8)
    split = Split(images, torch.arange(90))
    plain = InMemory("p", split, split, split, 90, torch.zeros(3), torch.ones(3), padding=1, flip=True)
    before = epoch_of(plain, seed=1, epoch=2, augment=True)
    after = epoch_of(replace(plain, rotation=15.0), seed=1, epoch=2, augment=True)
    generator = epoch_generator(1, 2)
    torch.randperm(90, generator=generator)
    torch.randint(3, (2, 90), generator=generator)
    torch.rand(90, generator=generator)
    degrees = torch.empty(90).uniform_(-15.0, 15.0, generator=generator)
    pixels = before.images.permute(0, 2, 3, 1).byte()
    expected = augmentation.rotated(pixels.contiguous(), augmentation.turns(degrees, 8, 8))
    assert torch.equal(after.targets, before.targets)
    assert torch.equal(after.images, expected.permute(0, 3, 1, 2).float())


def test_angles_are_uniform_in_both_directions() -> None:
    """Told by where the pixel right of the centre comes from: values are the column, and the row."""
    place = torch.stack(torch.meshgrid(torch.arange(101), torch.arange(101), indexing="xy")).byte()
    split = Split(place.expand(1000, 2, 101, 101), torch.arange(1000))
    given = InMemory("p", split, split, split, 1000, torch.zeros(2), torch.ones(2), rotation=15.0)
    across, down = (epoch_of(given, augment=True).images[:, :, 50, 90] - 50).unbind(1)
    degrees = torch.rad2deg(torch.atan2(down, across))
    assert degrees.abs().max() == pytest.approx(15, abs=1)
    assert degrees.mean() == pytest.approx(0, abs=5 * 8.66 / 1000**0.5)
    assert degrees.std() == pytest.approx(15 / 3**0.5, rel=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batches_on_a_gpu_are_those_of_the_cpu(dtype: torch.dtype) -> None:
    images = torch.randint(256, (1000, 3, 32, 32), dtype=torch.uint8)
    split = Split(images, torch.arange(1000))
    mean, std = torch.tensor([125.3, 123.0, 113.9]), torch.tensor([63.0, 62.1, 66.7])
    given = InMemory("given", split, split, split, 1000, mean, std, padding=4, flip=True, rotation=15.0)
    here, there = (
        each.train_batches(seed=1, epoch=2, batch_size=128, augment=True, dtype=dtype)
        for each in (given, given.to("cuda"))
    )
    for (expected, numbers), (found, targets) in zip(here, there, strict=True):
        assert torch.equal(found.cpu(), expected)
        assert torch.equal(targets.cpu(), numbers)


def test_batches_are_normalised_by_channel() -> None:
    given = replace(numbered(), mean=torch.tensor([4.0, 2.0]), std=torch.tensor([2.0, 8.0]))
    images, _ = next(given.evaluation_batches("test", batch_size=3))
    assert images[0, 0, 2].tolist() == [2.0, 2.5, 3.0, 3.5]
    assert images[0, 1, 0].tolist() == [1.25, 1.375, 1.5, 1.625]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_round_the_exact_image_once(dtype: torch.dtype) -> None:
    given = replace(numbered(), mean=torch.tensor([125.3, 113.9]), std=torch.tensor([63.0, 66.7]))
    exact, _ = next(given.train_batches(seed=0, epoch=0, batch_size=4, augment=False))
    images, _ = next(given.train_batches(seed=0, epoch=0, batch_size=4, augment=False, dtype=dtype))
    assert images.dtype == dtype
    assert torch.equal(images, exact.to(dtype))


@pytest.mark.parametrize("augment", [True, False])
def test_memory_layout_is_channels_last(augment: bool) -> None:
    given = numbered(padding=1, flip=True)
    batches = given.train_batches(seed=0, epoch=0, batch_size=4, augment=augment)
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images, _ in batches)


def test_evaluation_goes_through_a_split_in_order() -> None:
    given = numbered(padding=1, flip=True)
    images, targets = zip(*given.evaluation_batches("test", batch_size=4), strict=True)
    assert torch.cat(targets).tolist() == list(range(10))
    assert torch.equal(torch.cat(images), numbered().test.images.float())
    assert torch.equal(given.test.images, numbered().test.images)


def test_a_dataset_moves_as_a_whole() -> None:
    moved = numbered(padding=1).to("meta")
    splits = (moved.train, moved.validation, moved.test)
    tensors = [moved.mean, moved.std, *(s.images for s in splits), *(s.targets for s in splits)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (moved.padding, moved.classes, moved.shape) == (1, 10, (2, 3, 4))


def test_digits_are_scikit_learns_with_the_last_397_held_out() -> None:
    images, targets = load_digits(return_X_y=True)
    given = dataset("digits")
    assert (len(given.train), len(given.validation), len(given.test)) == (1260, 140, 397)
    assert given.test.images.flatten(1).tolist() == images[1400:].tolist()
    assert given.test.targets.tolist() == targets[1400:].tolist()
    known = torch.cat([given.train.images, given.validation.images]).flatten(1).tolist()
    assert sorted(known) == sorted(images[:1400].astype(int).tolist())


def test_synthetic_images_are_as_asked_and_always_the_same() -> None:
    options = {"shape": [1, 12, 16], "classes": 3, "images": 200, "test_images": 30}
    given = dataset("synthetic", **options)
    assert (given.shape, given.classes) == ((1, 12, 16), 3)
    assert (len(given.train), len(given.validation), len(given.test)) == (180, 20, 30)
    again = load(data.DATASETS["synthetic"].target)("elsewhere", **{**options, "shape": (1, 12, 16)})
    assert torch.equal(given.train.images, again.train.images)


def test_a_dataset_of_ones_own_trains(store: Store) -> None:
    """The documented example, which is in no registry, in channels-first layout as its author wrote it."""
    choice = data.choose("shapes_dataset:shapes", {"images": 400})
    assert dict(choice.settings) == {"images": 400}
    given = data.load(choice, "unused")
    assert (given.shape, given.classes, given.count("train"), given.count("test")) == ((1, 16, 16), 2, 288, 80)
    stage = last_stage(replace(trial("gmp"), dataset=choice))
    progress = list(run_stage(stage, store, Where()))[-1]
    assert progress.curve[-1]["validation_accuracy"] > 0.8


@pytest.mark.usefixtures("_one_thread")
def test_synthetic_classes_can_be_learned_in_spite_of_augmentation() -> None:
    torch.manual_seed(0)
    given = dataset("synthetic", shape=(1, 8, 8), images=1000, test_images=200)
    model = models.build(models.choose("resnet8", {}), given.shape, given.classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(4):
        for images, targets in given.train_batches(seed=0, epoch=epoch, batch_size=64, augment=True):
            optimizer.zero_grad()
            cross_entropy(model(images), targets).backward()
            optimizer.step()
    images, targets = next(given.evaluation_batches("test", batch_size=200))
    assert (model.eval()(images).argmax(1) == targets).float().mean() > 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (3, 32)}, r"shape: \(3, 32\) is not \(channels, height, width\)"),
        ({"shape": (3, 0, 32)}, "shape: "),
        ({"classes": 1}, "classes: 1 is too few; at least 2"),
        ({"images": 3}, "images: 3 is too few; at least 10"),
    ],
)
def test_synthetic_options_that_cannot_be_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataset("synthetic", **options)
