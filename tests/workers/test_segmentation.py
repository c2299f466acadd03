"""Segmentation: IoU by hand, torchvision's networks, folders of masks and Pascal VOC's format as it is on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from prunesweep.workers import data, models, outputs
from prunesweep.workers.errors import UserError
from prunesweep.workers.fingerprints import fingerprinted
from prunesweep.workers.replicas import ALONE
from prunesweep.workers.scoring import Tally
from prunesweep.workers.tasks.segmentation import Segmentation
from tests.workers.test_tasks import TRIALS, trial

VOC_FOLDERS = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")


def test_iou_by_hand():
    """Of four pixels that count one of class 0 is taken for 1; class 2 is nowhere."""
    targets = torch.tensor([[[0, 0, 1], [1, 255, 255]]])
    taken = torch.tensor([[[0, 1, 1], [1, 0, 2]]])
    logits = 9.0 * torch.nn.functional.one_hot(taken, 3).movedim(3, 1)
    task, tally = Segmentation(), Tally(ALONE)
    tally.add(task.reduced(logits, targets, "sum"), task.sums(logits, targets), 1)
    score = tally.score(task)
    assert score.metrics["mean_iou"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert score.metrics["pixel_accuracy"] == 3 / 4
    assert [(c.images, c.value) for c in score.classes] == [(2, 0.5), (2, pytest.approx(2 / 3)), (0, None)]
    right, wrong = (torch.log(torch.exp(torch.tensor(9.0 * k)) / (torch.exp(torch.tensor(9.0)) + 2)) for k in (1, 0))
    assert score.loss == pytest.approx(float(-(3 * right + wrong) / 4), rel=1e-5)


def test_an_image_without_a_pixel_that_counts_costs_nothing():
    logits, targets = torch.randn(2, 3, 4, 4), torch.full((2, 4, 4), 255)
    assert Segmentation().losses(logits, targets).tolist() == [0.0, 0.0]
    assert Segmentation().measured({"confusion": torch.zeros(3, 3)}, 2) == {"mean_iou": None, "pixel_accuracy": None}


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
def test_torchvisions_networks_give_a_class_for_each_pixel(name: str):
    model = models.build(models.choose(name, {}), (3, 64, 64), 5).eval()
    with torch.no_grad():
        assert outputs.read(model(torch.randn(1, 3, 64, 64))).logits.shape == (1, 5, 64, 64)
    with pytest.raises(UserError, match="takes images of 3 channels, and these have 1"):
        models.build(models.choose(name, {}), (1, 64, 64), 5)


@pytest.mark.slow
def test_auxiliary_logits_count_half():
    model = models.build(models.choose("fcn_resnet50", {"aux_loss": True}), (3, 32, 32), 2)
    read = outputs.read(model(torch.randn(2, 3, 32, 32)))
    assert (read.weight, [logits.shape for logits in read.auxiliary]) == (0.5, [(2, 2, 32, 32)])


def picture(file: Path, mask: np.ndarray) -> None:
    """A mask as Pascal VOC has it, with a palette, and the image that belongs to it."""
    made = Image.fromarray(mask.astype(np.uint8), "P")
    made.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
    made.save(file)


def voc_folder(root: Path, names: dict[str, list[str]]) -> Path:
    for part in VOC_FOLDERS:
        (root / part).mkdir(parents=True)
    for split, listed in names.items():
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(listed) + "\n")
        for number, name in enumerate(listed):
            mask = np.zeros((20, 30))
            mask[:10], mask[10] = number % 20 + 1, 255
            picture(root / "SegmentationClass" / f"{name}.png", mask)
            Image.fromarray(np.full((20, 30, 3), 8 * number, np.uint8)).save(root / "JPEGImages" / f"{name}.jpg")
    return root


def test_pascal_voc_is_read(tmp_path: Path):
    names = {"train": [f"2007_{k:06}" for k in range(20)], "val": ["2007_000020", "2007_000021"]}
    voc_folder(tmp_path / "VOCdevkit/VOC2012", names)
    dataset = data.load(data.choose("voc", {"size": 20}), str(tmp_path))
    assert [dataset.count(split) for split in ("train", "validation", "test")] == [18, 2, 2]
    assert (dataset.shape, dataset.classes, dataset.targets) == ((3, 20, 20), 21, "masks")
    images, masks = next(iter(dataset.evaluation_batches("test", batch_size=2)))
    assert images.shape == (2, 3, 20, 20)
    assert [masks[0, 0, 0], masks[1, 0, 0], masks[0, 10, 5], masks[0, 15, 5]] == [1, 2, 255, 0]


def masks_of(root: Path, size: tuple[int, int] = (16, 16), count: int = 12, largest: int = 2) -> Path:
    """A folder of images that show their masks, in two splits."""
    draw = np.random.RandomState(0)
    for split in ("train", "test"):
        for part in ("images", "masks"):
            (root / split / part).mkdir(parents=True)
        for number in range(count):
            mask = draw.randint(largest + 1, size=(4, 4)).repeat(size[0] // 4, 0).repeat(size[1] // 4, 1)
            Image.fromarray((100 * mask).astype(np.uint8)).save(root / split / "images" / f"{number}.png")
            Image.fromarray(mask.astype(np.uint8)).save(root / split / "masks" / f"{number}.png")
    return root


def test_augmentation_moves_images_and_masks_alike(tmp_path: Path):
    """An image is 100 times its mask; only what comes in at the border has the mean colour."""
    masks_of(tmp_path / "leaves")
    dataset = data.load(data.choose("mask_folder", {"path": "leaves", "classes": 3, "size": 16}), str(tmp_path))
    batches = [list(dataset.train_batches(seed=1, epoch=2, batch_size=4, augment=True)) for _ in range(2)]
    for (images, masks), (again, same) in zip(*batches, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(masks, same)
        assert (masks == 255).any()
        red = images[:, 0] * (0.229 * 255) + 0.485 * 255
        assert torch.allclose(red[masks != 255], 100.0 * masks[masks != 255], atol=1)
        assert torch.allclose(red[masks == 255], torch.tensor(0.485 * 255), atol=1)


def test_the_content_of_masks_is_in_the_key(tmp_path: Path):
    masks_of(tmp_path / "leaves")
    choice = data.choose("mask_folder", {"path": "leaves", "classes": 3, "size": 16})
    asked = replace(trial("segmentation"), dataset=choice)
    (before,) = fingerprinted([asked], str(tmp_path), {})
    assert "content:" in (before.dataset.fingerprint or "")
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "leaves/train/masks/0.png")
    (after,) = fingerprinted([asked], str(tmp_path), {})
    assert after.key != before.key


def test_mistakes_in_folders_of_masks(tmp_path: Path):
    def load(root: str, classes: int = 3) -> None:
        data.load(data.choose("mask_folder", {"path": root, "classes": classes, "size": 16}), str(tmp_path))

    masks_of(tmp_path / "leaves")
    with pytest.raises(UserError, match="has class 2, beyond the 2 of the dataset"):
        load("leaves", classes=2)
    with pytest.raises(UserError, match=r"there is no .*nowhere; set `path`"):
        load("nowhere")
    (tmp_path / "leaves/train/masks/3.png").unlink()
    with pytest.raises(UserError, match=r"image .*3\.png has no mask in .*masks"):
        load("leaves")
    Image.fromarray(np.zeros((4, 8), np.uint8)).save(tmp_path / "leaves/train/masks/3.png")
    with pytest.raises(UserError, match=r"is 8x4 pixels and its image .* 16x16: they must be of one size"):
        load("leaves")


def test_outputs_of_another_size_are_said():
    assert TRIALS["segmentation"]
    said = Segmentation().problem(torch.zeros(2, 3, 4, 4), torch.zeros(2, 8, 8, dtype=torch.long), 3)
    assert said is not None
    assert said.startswith("gives outputs [2, 3, 4, 4] where logits [2, 3, 8, 8] are needed")
