"""Corrupted test sets: what they do to images, that only the image's number decides, and the stage that evaluates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prunesweep.workers.corruptions import CORRUPTIONS, SEVERITIES, named, parsed
from prunesweep.workers.data.corrupted import STRENGTHS, corrupted
from prunesweep.workers.data.digits import digits
from prunesweep.workers.data.folder import image_folder
from prunesweep.workers.data.portions import Portion
from prunesweep.workers.data.synthetic import synthetic
from prunesweep.workers.decoding import decode_stage, decode_trial
from prunesweep.workers.encoding import encode
from prunesweep.workers.errors import UserError
from prunesweep.workers.methods import last_stage
from prunesweep.workers.spec import EvaluationStage
from prunesweep.workers.store import Store
from tests.cases import TRAIN, trial
from tests.contract import network, run
from tests.workers.pictures import write_flowers
from tests.workers.test_augmentations import Whole


def image(side: int, channels: int = 3) -> np.ndarray:
    """Patches of 4x4 pixels."""
    coarse = np.random.RandomState(0).randint(0, 256, (side // 4, side // 4, channels))
    return np.kron(coarse, np.ones((4, 4, 1))).astype(np.uint8)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


# --- what is done to images


def test_contrast_and_brightness_by_hand() -> None:
    """Severity 2 of small images keeps half of the distance to the mean, and adds a tenth of 255 to the brightest."""
    pixels = np.array([[[0, 100, 200]], [[100, 100, 200]]], np.uint8)
    assert corrupted(pixels, "contrast_2", 0).tolist() == [[[25, 100, 200]], [[75, 100, 200]]]
    grey = np.array([[[100], [0], [250]]], np.uint8)
    assert corrupted(grey, "brightness_2", 0).tolist() == [[[125], [25], [255]]]
    bright = corrupted(pixels, "brightness_2", 0)  # the hue and the saturation stay: all are multiplied
    assert bright[1, 0].tolist() == [int(100 * 225.5 / 200), int(100 * 225.5 / 200), 225]


def test_noise_has_the_published_deviation() -> None:
    grey = np.full((224, 224, 3), 128, np.uint8)
    for severity, deviation in enumerate(STRENGTHS["gaussian_noise"].large[:2], 1):
        noisy = corrupted(grey, named("gaussian_noise", severity), 7) / 255
        assert noisy.std() == pytest.approx(deviation, rel=0.02)
        assert noisy.mean() == pytest.approx(0.5, abs=0.01)
    share = (corrupted(grey, "impulse_noise_5", 7) != 128).mean()
    assert share == pytest.approx(0.27, abs=0.01)
    counts = corrupted(grey, "shot_noise_1", 7) / 255
    assert counts.std() == pytest.approx((0.5 / 60) ** 0.5, rel=0.02), "a Poisson number of 60 x 0.5, over 60"


def test_a_blur_of_one_bright_pixel_is_its_kernel() -> None:
    pixels = np.zeros((65, 65, 1), np.uint8)
    pixels[32, 32] = 255
    blurred = corrupted(pixels, "gaussian_blur_1", 0)[:, :, 0].astype(float)  # of deviation 1
    assert blurred[32, 32] == int(255 / (2 * np.pi) * 1.0003)
    assert blurred[32, 33] / blurred[32, 32] == pytest.approx(np.exp(-0.5), abs=0.03)
    disk = corrupted(pixels, "defocus_blur_1", 0)[:, :, 0]  # of radius 3: 29 pixels
    assert int((disk > 0).sum()) == 29
    assert disk.max() == 255 // 29


def test_pixels_are_fewer_and_jpeg_is_that_of_pil() -> None:
    pixels = image(224)
    few = corrupted(pixels, "pixelate_5", 0)
    assert len(np.unique(few.reshape(-1, 3), axis=0)) <= 56 * 56
    assert (
        0
        < distance(corrupted(pixels, "jpeg_compression_1", 0), pixels)
        < distance(corrupted(pixels, "jpeg_compression_5", 0), pixels)
    )


def test_colours_become_paler_and_stronger() -> None:
    pixels = np.array([[[200, 100, 100]]], np.uint8)
    assert corrupted(pixels, "saturate_1", 0).tolist() == [[[200, 170, 170]]], "a third and less of the saturation"
    assert corrupted(pixels, "saturate_5", 0).tolist() == [[[200, 0, 0]]]


@pytest.mark.parametrize("side", [8, 32, 96])
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_more_severe_is_farther_from_the_image_and_the_number_alone_decides(corruption: str, side: int) -> None:
    pixels = image(side)
    sets = [corrupted(pixels, named(corruption, severity), 3) for severity in SEVERITIES]
    assert all(made.shape == pixels.shape and made.dtype == np.uint8 for made in sets)
    np.random.seed(1)
    assert all(np.array_equal(corrupted(pixels, named(corruption, s), 3), sets[s - 1]) for s in SEVERITIES)
    is_drawn = corruption.endswith("noise")
    assert is_drawn != np.array_equal(corrupted(pixels, named(corruption, 3), 4), sets[2])
    if side > 8 and corruption not in ("pixelate", "saturate"):  # whose patches happen to fit, or are paler first
        assert distance(sets[0], pixels) < distance(sets[2], pixels) < distance(sets[4], pixels)


def test_names_are_parsed() -> None:
    assert parsed("shot_noise_4") == ("shot_noise", 4)
    for wrong in ("shot_noise", "shot_noise_6", "fog_1", ""):
        with pytest.raises(UserError, match="there is no test set"):
            parsed(wrong)


# --- datasets


def test_of_digits_the_levels_stay() -> None:
    given = digits("")
    noisy = given.corrupted("gaussian_noise_5")
    assert torch.equal(noisy.train.images, given.train.images)
    assert noisy.test.images.max() == 16
    apart = (noisy.test.images.int() - given.test.images.int()).float()
    assert 0.5 < float(apart.std()) < 1.7, "a tenth of 16 levels, cut off at 0"


def test_portions_are_parts_of_the_same_images(tmp_path: Path) -> None:
    files = image_folder(str(write_flowers(tmp_path / "flowers", 18)), size=32)
    for whole in (files, synthetic("", shape=(3, 8, 8), images=50, test_images=13)):
        made = whole.corrupted("shot_noise_5")
        clean, noisy = (
            torch.cat([images for images, _ in d.evaluation_batches("test", batch_size=4)]) for d in (whole, made)
        )
        assert not torch.equal(clean, noisy)
        parts = [list(made.portioned(Portion(i, 2)).evaluation_batches("test", batch_size=4)) for i in range(2)]
        assert torch.equal(noisy, torch.cat([part for pair in zip(*parts, strict=True) for part, _ in pair]))
        validation = [
            torch.cat([images for images, _ in d.evaluation_batches("validation", batch_size=4)]) for d in (whole, made)
        ]
        assert torch.equal(*validation)
    files.running.clear()


def test_what_cannot_be_corrupted_is_refused() -> None:
    with pytest.raises(UserError, match="test_sets: saturate is for RGB images, and those of digits have 1 channels"):
        digits("").corrupted("saturate_1")
    with pytest.raises(UserError, match="dataset whole makes its batches itself: test_sets are for datasets in memory"):
        Whole().corrupted("contrast_1")


# --- the stage


def test_the_training_is_shared_with_trials_that_ask_for_no_or_for_other_sets() -> None:
    plain = trial("imp")
    one, two = (replace(plain, test_sets=sets) for sets in (("contrast_1",), ("contrast_1", "shot_noise_2")))
    assert len({plain.key, one.key, two.key}) == 3
    stages = [last_stage(asked) for asked in (plain, one, two)]
    assert len({stage.key for stage in stages}) == 3
    assert {stage.parent.key for stage in stages[1:]} == {stages[0].key}
    assert all(stage.epochs == 0 for stage in stages[1:])
    for asked, stage in zip((plain, one, two), stages, strict=True):
        assert decode_trial(encode(asked)) == asked
        assert decode_stage(encode(stage)) == stage


@pytest.mark.parametrize("sets", [3, ["fog_1"], [3], "contrast_1"])
def test_a_record_of_what_is_no_test_set_is_refused(sets: object) -> None:
    data = encode(last_stage(replace(trial("dense"), test_sets=("contrast_1",))))
    with pytest.raises((TypeError, ValueError)):
        decode_stage({**data, "test_sets": sets})


def test_a_finished_network_on_corrupted_test_sets(store: Store) -> None:
    asked = replace(trial("gmp", train=replace(TRAIN, epochs=2)), test_sets=("gaussian_noise_5", "contrast_5"))
    stage = last_stage(asked)
    assert isinstance(stage, EvaluationStage)
    run(stage, store)
    ours, parents = (store.result(key)["metrics"] for key in (stage.key, stage.parent.key))
    assert parents.items() <= ours.items()
    own = {name: ours[name] for name in ours.keys() - parents.keys()}
    mean = (own["test_accuracy_gaussian_noise_5"] + own["test_accuracy_contrast_5"]) / 2
    assert own.pop("test_accuracy_corrupted") == pytest.approx(mean)
    assert len(own) == 2
    assert own["test_accuracy_contrast_5"] < parents["test_accuracy"]
    trained, evaluated = network(stage.parent, store), network(stage, store)
    assert all(torch.equal(trained[name], evaluated[name]) for name in trained)
