"""Augmentations that a sweep file asks for: what they do to pixels and targets, and that nothing else decides."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from prunesweep.workers.augmentations import check_augmentations
from prunesweep.workers.data import policies
from prunesweep.workers.data.augmented import Augmented, augmented, erased, erased_boxes
from prunesweep.workers.data.base import Dataset
from prunesweep.workers.data.digits import digits
from prunesweep.workers.data.folder import image_folder
from prunesweep.workers.data.mixing import Mix, draw_mix, mixed
from prunesweep.workers.data.noise import normal
from prunesweep.workers.data.policies import OPERATIONS, RANDAUGMENT, TRIVIALAUGMENT, Policy, Space, repeated
from prunesweep.workers.data.portions import Portion
from prunesweep.workers.data.synthetic import synthetic
from prunesweep.workers.errors import SpecError, UserError
from prunesweep.workers.spec import TrainSpec
from prunesweep.workers.store import CURVE, Store
from tests.cases import TRAIN, last_stage, trial
from tests.contract import numbers, resumed_after, run
from tests.workers.pictures import write_flowers

EVERYTHING = {
    "mixup": 0.8,
    "cutmix": 1.0,
    "randaugment": 20,
    "random_erasing": 0.5,
    "gaussian_noise": 0.2,
    "repeated_augmentation": 2,
}


def batches_of(dataset: Dataset, batch_size: int = 7, epoch: int = 3) -> list[tuple[Tensor, Tensor]]:
    return list(dataset.train_batches(seed=5, epoch=epoch, batch_size=batch_size, augment=True))


# --- mixing


def test_mixup_by_hand() -> None:
    """Of three images of one pixel, in the proportion of 3 to 1 with the one before; the first with the last."""
    images = torch.tensor([0.0, 4.0, 8.0]).view(3, 1, 1, 1)
    given, shares = mixed(images, torch.tensor([0, 1, 1]), 2, Mix(0.75), leads=False)
    assert given.flatten().tolist() == [2.0, 3.0, 7.0]
    assert shares.tolist() == [[0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]


def test_cutmix_by_hand() -> None:
    images = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)])
    box = (slice(0, 1), slice(1, 2))
    given, shares = mixed(images, torch.tensor([0, 1]), 2, Mix(0.75, box), leads=False)
    assert given[:, 0].tolist() == [[[0.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 1.0]]]
    assert shares.tolist() == [[0.75, 0.25], [0.25, 0.75]]


def test_the_proportions_of_cutmix_are_the_areas_that_are_left() -> None:
    draws = np.random.RandomState(0)
    for _ in range(50):
        mix = draw_mix(draws, None, 1.0, (8, 6))
        assert mix.box is not None
        outside = torch.ones(8, 6)
        outside[mix.box] = 0.0
        assert mix.kept == pytest.approx(float(outside.mean()))


def test_with_both_each_comes_half_of_the_time_and_proportions_follow_the_beta_distribution() -> None:
    draws = np.random.RandomState(1)
    drawn = [draw_mix(draws, 4.0, 1.0, (32, 32)) for _ in range(2000)]
    blended = [mix.kept for mix in drawn if mix.box is None]
    assert abs(len(blended) / 2000 - 0.5) < 0.04
    assert np.mean(blended) == pytest.approx(0.5, abs=0.02)
    assert np.std(blended) == pytest.approx(1 / 6, abs=0.02), "of Beta(4, 4)"


def test_training_on_mixed_images_reports_no_accuracy(store: Store) -> None:
    stage = last_stage(trial("dense", train=replace(TRAIN, epochs=2, mixup=0.2, label_smoothing=0.1)))
    run(stage, store)
    curve = pq.read_table(io.BytesIO(store.read_published(stage.key, CURVE))).to_pylist()
    assert [row["train_accuracy"] for row in curve] == [None, None]
    assert all(row["train_loss"] > 0 for row in curve)
    assert store.result(stage.key)["metrics"]["train_accuracy"] > 0.2, "of the images themselves, at the end"


# --- operations on pixels


def _torchvisions(name: str, images: Tensor, relative: float, space: Space) -> Tensor:
    """The operation by torchvision, at a signed strength of 1 and less, as its RandAugment calls it."""
    _, _, height, width = images.shape
    degrees = math.degrees(math.atan(space.shear * relative))
    right, down = (int((space.pixels or space.share * side) * relative) for side in (width, height))
    bits = 8 - round(abs(relative) * space.bits)

    def moved(translate: list[int], shear: list[float], **options: list[float]) -> Tensor:
        return functional.affine(images, angle=0.0, translate=translate, scale=1.0, shear=shear, **options)

    of: dict[str, Callable[[], Tensor]] = {
        "identity": lambda: images,
        "shear_x": lambda: moved([0, 0], [degrees, 0.0], center=[0.0, 0.0]),
        "shear_y": lambda: moved([0, 0], [0.0, degrees], center=[0.0, 0.0]),
        "translate_x": lambda: moved([right, 0], [0.0, 0.0]),
        "translate_y": lambda: moved([0, down], [0.0, 0.0]),
        "rotate": lambda: functional.rotate(images, space.degrees * relative),
        "brightness": lambda: functional.adjust_brightness(images, 1 + space.colour * relative),
        "color": lambda: functional.adjust_saturation(images, 1 + space.colour * relative),
        "contrast": lambda: functional.adjust_contrast(images, 1 + space.colour * relative),
        "sharpness": lambda: functional.adjust_sharpness(images, 1 + space.colour * relative),
        "posterize": lambda: functional.posterize(images, bits),
        "solarize": lambda: functional.solarize(images, 255 * (1 - abs(relative))),
        "auto_contrast": lambda: functional.autocontrast(images),
        "equalize": lambda: functional.equalize(images),
    }
    return of[name]()


@pytest.mark.parametrize("space", [RANDAUGMENT, TRIVIALAUGMENT], ids=["randaugment", "trivialaugment"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_torchvisions(name: str, space: Space) -> None:
    """To a level, which it rounds in another way; a pixel that is moved may be its neighbour where it lies between."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(256, (6, 3, 7, 9), generator=generator).float()
    images = functional.resize(coarse, [32, 48]).to(torch.uint8)
    for strength in (-30, -12, 7, 9, 30):
        strengths = torch.full((6,), strength)
        drawn = torch.full((6,), OPERATIONS.index(name))
        given = policies._applied(images.permute(0, 2, 3, 1), drawn, strengths, space).permute(0, 3, 1, 2)
        apart = (given.int() - _torchvisions(name, images, strength / 30, space).int()).abs() > 1
        assert apart.float().mean() <= (0.03 if name in ("rotate", "shear_x", "shear_y") else 0.001), strength


def test_every_image_of_a_batch_draws_for_itself() -> None:
    """Sixty equal images, after one draw for each: as different as what they drew, and each as if it were alone."""
    generator = torch.Generator().manual_seed(0)
    one = torch.randint(256, (1, 16, 16, 3), generator=generator).to(torch.uint8)
    policy = Policy(trivial=True)
    drawn = policy.draw(0, 0, 60)
    together = policy.apply(one.expand(60, -1, -1, -1), drawn)
    assert len({bytes(image.numpy().tobytes()) for image in together}) > 30
    for index in range(0, 60, 7):
        alone = policy.apply(one, drawn.at(slice(index, index + 1)))
        assert torch.equal(alone[0], together[index])


def test_operations_are_drawn_equally_often_and_randaugment_has_one_strength() -> None:
    operations, strengths, negative = Policy(magnitude=9, operations=3).draw(1, 2, 7000)
    assert operations.shape == (3, 7000)
    counts = torch.bincount(operations.flatten(), minlength=len(OPERATIONS))
    assert counts.min() > 1300
    assert counts.max() < 1700
    assert set(strengths.flatten().tolist()) == {9}
    assert 0.48 < float(negative.float().mean()) < 0.52


def test_the_levels_of_digits_stay_those_of_digits() -> None:
    given = digits("").with_policy(Policy(magnitude=15, operations=2))
    images = torch.cat([images for images, _ in given.train_batches(seed=0, epoch=0, batch_size=64, augment=False)])
    levels = (images * given.std[0] + given.mean[0]).round()
    assert levels.min() >= 0
    assert levels.max() == 16
    assert levels.mean() == pytest.approx(float(given.mean[0]), abs=2.0)


def test_images_that_are_neither_grey_nor_rgb_have_no_colours_to_change() -> None:
    given = synthetic("", shape=(2, 8, 8), images=20)
    with pytest.raises(UserError, match="have 2 channels, neither grey nor RGB"):
        given.with_policy(Policy(magnitude=9))


# --- erasing, noise, copies


def test_what_is_erased_by_hand() -> None:
    images = torch.ones(2, 1, 3, 3)
    boxes = torch.tensor([[1, 0], [0, 0], [2, 0], [1, 0]])  # top, left, height, width
    assert erased(images, boxes)[:, 0].tolist() == [
        [[1.0, 1.0, 1.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0]],
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]],
    ]


def test_boxes_are_as_random_erasing_draws_them() -> None:
    top, left, height, width = erased_boxes(np.random.RandomState(0), 4000, 32, 24, 0.25)
    chosen = height > 0
    assert abs(float(chosen.float().mean()) - 0.25) < 0.03
    areas = (height * width)[chosen] / (32 * 24)
    assert 0.01 < float(areas.min()) < 0.03
    assert 0.3 < float(areas.max()) < 0.36
    assert bool((top + height <= 32).all())
    assert bool((left + width <= 24).all())


def test_noise_is_normal_and_any_part_of_it_can_be_made_alone() -> None:
    like = torch.empty(40, 3, 17, 19)
    whole = normal(123, torch.arange(40), like)
    assert abs(float(whole.mean())) < 0.01
    assert abs(float(whole.std()) - 1) < 0.01
    assert abs(float((whole.abs() < 1).float().mean()) - 0.6827) < 0.01
    part = normal(123, torch.tensor([39, 7]), like[:2])
    assert torch.equal(part, whole[[39, 7]])
    assert not torch.equal(normal(124, torch.arange(1), like[:1]), whole[:1])
    neighbours = torch.corrcoef(whole.flatten(1)) - torch.eye(40)
    assert float(neighbours.abs().max()) < 0.15


def test_copies_by_hand() -> None:
    """Two batches of five and one of two: three distinct images, three, and one, each twice where there is room."""
    order, copies = repeated(torch.arange(12) + 10, 2, 5)
    assert order.tolist() == [10, 11, 12, 10, 11, 13, 14, 15, 13, 14, 16, 16]
    assert copies.tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 1]


def test_copies_of_an_image_are_augmented_each_in_its_own_way(tmp_path: Path) -> None:
    files = image_folder(str(write_flowers(tmp_path / "flowers", 9)), size=32)
    for whole in (synthetic("", shape=(3, 16, 16), images=40), files):
        (images, targets), *_ = batches_of(whole.with_policy(Policy(copies=2)), batch_size=8)
        assert torch.equal(targets[:4], targets[4:])
        assert all(not torch.equal(one, other) for one, other in zip(images[:4], images[4:], strict=True))


# --- nothing but seed and epoch decides


def test_resumed_at_any_epoch_equals_unbroken_bit_for_bit_with_all_of_them(tmp_path: Path) -> None:
    stage = last_stage(trial("imp", train=replace(TRAIN, epochs=2, **EVERYTHING)))
    unbroken, broken = Store(tmp_path / "unbroken"), Store(tmp_path / "broken")
    run(stage, unbroken)
    resumed_after(1, stage, broken)
    assert numbers(stage, broken) == numbers(stage, unbroken)


@pytest.mark.parametrize("kind", ["memory", "files", "other"])
@pytest.mark.parametrize(("batch_size", "count"), [(7, 2), (4, 5)])
def test_portions_of_augmented_batches_are_the_batches(kind: str, batch_size: int, count: int, tmp_path: Path) -> None:
    """Images are mixed with partners of the whole batch, whichever replica has them."""
    asked = TrainSpec(**EVERYTHING)
    if kind == "other":  # which makes whole batches, of which portions are cut
        whole: Dataset = Augmented(Whole(), asked)
    elif kind == "files":
        whole = augmented(image_folder(str(write_flowers(tmp_path / "flowers", 9)), size=32), asked)
    else:
        whole = augmented(synthetic("", shape=(3, 8, 8), images=50, test_images=13), asked)
    parts = [whole.portioned(Portion(index, count)) for index in range(count)]
    together = zip(*(batches_of(part, batch_size) for part in parts), strict=True)
    for (images, targets), portions in zip(batches_of(whole, batch_size), together, strict=True):
        assert torch.equal(images, torch.cat([part for part, _ in portions]))
        assert torch.equal(targets, torch.cat([part for _, part in portions]))


class Whole(Dataset):
    """A dataset of one's own, which knows of no portions."""

    name, classes, shape = "whole", 10, (3, 8, 8)

    def __init__(self, inputs: Tensor | None = None) -> None:
        self.inner = synthetic("", shape=(3, 8, 8), images=50, test_images=13)
        self.inputs = inputs

    def count(self, split: str) -> int:
        return self.inner.count(split)

    def to(self, device: object, processes: int = 0) -> Dataset:
        return self

    def train_batches(self, **options: object) -> object:
        for images, targets in self.inner.train_batches(**options):
            yield images if self.inputs is None else self.inputs[: len(targets)], targets

    def evaluation_batches(self, split: str, **options: object) -> object:
        return self.inner.evaluation_batches(split, **options)


@pytest.mark.slow
def test_loading_processes_change_no_bit(tmp_path: Path) -> None:
    whole = augmented(image_folder(str(write_flowers(tmp_path / "flowers", 9)), size=32), TrainSpec(**EVERYTHING))
    loaded = whole.to("cpu", 2)
    for mine, theirs in zip(batches_of(whole), batches_of(loaded), strict=True):
        assert all(map(torch.equal, mine, theirs))
    loaded.dataset.running.clear()


def test_the_datasets_own_crops_stay_as_they_are_and_evaluation_does() -> None:
    plain = synthetic("", shape=(3, 8, 8), images=50, test_images=13)
    erasing = augmented(plain, TrainSpec(random_erasing=1.0))
    for (images, targets), (whole, same) in zip(batches_of(erasing), batches_of(plain), strict=True):
        assert torch.equal(targets, same)
        assert bool(((images == whole) | (images == 0)).all())
    for (images, _), (whole, _) in zip(
        erasing.evaluation_batches("test", batch_size=5), plain.evaluation_batches("test", batch_size=5), strict=True
    ):
        assert torch.equal(images, whole)


def test_batches_stay_channels_last() -> None:
    for images, _ in batches_of(augmented(synthetic("", shape=(3, 8, 8), images=50), TrainSpec(**EVERYTHING))):
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_without_any_a_dataset_stays_itself() -> None:
    plain = synthetic("", shape=(3, 8, 8), images=50)
    assert augmented(plain, TrainSpec()) is plain


def test_methods_that_look_at_gradients_first_see_images_with_classes(store: Store) -> None:
    stage = last_stage(trial("snip", train=replace(TRAIN, epochs=1, warmup_epochs=0, mixup=0.2, cutmix=1.0)))
    run(stage, store)
    assert store.result(stage.key)["metrics"]["reached_sparsity"] == pytest.approx(0.75, abs=0.01)


# --- what makes no sense


@pytest.mark.parametrize(
    ("inputs", "settings", "message"),
    [
        (
            torch.zeros(50, 12),
            {"cutmix": 1.0},
            "train.cutmix: it cuts boxes out of images, and the inputs of whole are not",
        ),
        (torch.zeros(50, 12), {"random_erasing": 0.5}, "train.random_erasing: it cuts boxes out of images"),
        (torch.zeros(50, 12).long(), {"mixup": 1.0}, "train.mixup: it computes with the values of the inputs"),
        (
            torch.zeros(50, 12).long(),
            {"gaussian_noise": 1.0},
            "those of whole are whole numbers, such as words of a text",
        ),
    ],
)
def test_inputs_that_are_no_images(inputs: Tensor, settings: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        batches_of(augmented(Whole(inputs), TrainSpec(**settings)))


def test_vectors_can_be_mixed() -> None:
    vectors = torch.arange(600.0).view(50, 12)
    (inputs, shares), *_ = batches_of(augmented(Whole(vectors), TrainSpec(mixup=1.0)))
    assert inputs.shape == (7, 12)
    assert shares.sum(1).tolist() == pytest.approx([1.0] * 7)


def test_a_dataset_that_makes_its_batches_itself_has_no_policies() -> None:
    with pytest.raises(UserError, match="dataset whole makes its batches itself: randaugment, trivialaugment and"):
        augmented(Whole(), TrainSpec(randaugment=9))


@pytest.mark.parametrize(
    ("settings", "field", "message"),
    [
        ({"randaugment": 9, "trivialaugment": True}, "train.trivialaugment", "both choose the operations"),
        ({"randaugment_operations": 3}, "train.randaugment_operations", "give its strength, such as randaugment: 9"),
        ({"randaugment": 0}, "train.randaugment", "at strength 0 hardly anything changes"),
        ({"mixup": 0.2, "batch_size": 1}, "train.mixup", "take a batch_size of at least 2"),
        ({"repeated_augmentation": 40}, "train.repeated_augmentation", "leave no other in a batch of 64"),
        ({"repeated_augmentation": 2, "augment": False}, "train.repeated_augmentation", "the copies would be equal"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, object], field: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        check_augmentations(TrainSpec(**settings))
    assert caught.value.field == field


def test_a_key_holds_them_and_is_the_old_one_without() -> None:
    keys = {trial("dense", train=replace(TRAIN, **{name: value})).key for name, value in EVERYTHING.items()}
    assert len(keys) == len(EVERYTHING)
    assert trial("dense").key not in keys
