from __future__ import annotations

import inspect
import subprocess
import sys
from math import sqrt

import pytest
import torch
import torchvision
from torch import nn

from workers import models
from workers.errors import UserError
from workers.models.resnet import Block, CifarResNet
from workers.models.torchvision_names import TORCHVISION
from workers.registry import load
from workers.selection import prunable

OWN = [name for name in models.MODELS if name not in TORCHVISION]
COLOUR = (3, 32, 32)
FAMILIES = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet18",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_0",
    "swin_t",
    "swin_v2_t",
    "vgg11",
    "vit_b_16",
    "wide_resnet50_2",
)


def build(name: str, shape: tuple[int, int, int] = COLOUR, classes: int = 10, **options: int) -> nn.Module:
    return models.build(models.choose(name, options), shape, classes)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_resnet56_has_the_published_size() -> None:
    model = build("resnet56")
    weights = prunable(model)
    assert count(model) == 853_018
    assert (len(weights), sum(weight.numel() for weight in weights.values())) == (56, 848_944)


def test_resnet8_on_grey_images_has_the_size_worked_out_by_hand() -> None:
    first, last = 1 * 16 * 9, 64 * 10
    groups = [2 * 16 * 16 * 9, (16 + 32) * 32 * 9, (32 + 64) * 64 * 9]
    norms = 2 * (16 + 2 * (16 + 32 + 64))
    model = build("resnet8", (1, 8, 8))
    assert sum(weight.numel() for weight in prunable(model).values()) == first + sum(groups) + last
    assert count(model) == first + sum(groups) + last + norms + 10


@pytest.mark.parametrize("name", ["resnet8", "resnet14", "resnet20", "resnet32", "resnet110"])
def test_shortcut_is_the_cifar_resnet_of_its_depth(name: str) -> None:
    short, long = build(name), build("cifar_resnet", depth=int(name.removeprefix("resnet")))
    assert [(k, v.shape) for k, v in short.state_dict().items()] == [(k, v.shape) for k, v in long.state_dict().items()]
    assert len(prunable(short)) == int(name.removeprefix("resnet"))


def test_resnet50_is_the_one_for_imagenet() -> None:
    assert sum(weight.numel() for weight in prunable(build("resnet50", (3, 224, 224), 1000)).values()) == 25_502_912


def test_a_shortcut_has_no_other_depth() -> None:
    with pytest.raises(UserError, match="resnet20 has depth 20; for another take cifar_resnet with depth 32"):
        models.choose("resnet20", {"depth": 32})


@pytest.mark.parametrize(
    ("depth", "below", "above"), [(21, 20, 26), (25, 20, 26), (55, 50, 56), (2, 8, 14), (7, 8, 14), (-4, 8, 14)]
)
def test_depth_that_cannot_be_names_the_nearest(depth: int, below: int, above: int) -> None:
    message = f"depth: {depth} is not 6n.2; the nearest allowed depths are {below} and {above}"
    with pytest.raises(UserError, match=message):
        models.choose("cifar_resnet", {"depth": depth})
    with pytest.raises(UserError, match=message):
        CifarResNet(COLOUR, 10, depth=depth)


def test_width_below_one_is_refused() -> None:
    with pytest.raises(UserError, match="width: 0"):
        models.choose("resnet8", {"width": 0})


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (3, 32, 32), (1, 28, 28), (2, 7, 5)])
@pytest.mark.parametrize("name", ["resnet8", "lenet300"])
def test_every_parameter_learns_at_any_shape(name: str, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    model = build(name, shape, 4)
    logits = model(torch.randn(16, *shape).contiguous(memory_format=torch.channels_last))
    assert logits.shape == (16, 4)
    nn.functional.cross_entropy(logits, torch.arange(16) % 4).backward()
    assert all(p.grad is not None and p.grad.count_nonzero() > 0 for p in model.parameters())


def test_shortcut_takes_every_second_pixel_and_pads_channels_with_zeros() -> None:
    block = Block(2, 4, 2).eval()
    nn.init.zeros_(block.conv2.weight)
    images = torch.arange(32.0).view(1, 2, 4, 4)
    first, second = [[0.0, 2.0], [8.0, 10.0]], [[16.0, 18.0], [24.0, 26.0]]
    zeros = [[0.0, 0.0], [0.0, 0.0]]
    assert block(images).tolist() == [[zeros, first, second, zeros]]


def test_block_does_not_write_to_its_input() -> None:
    images = torch.randn(2, 4, 8, 8)
    before = images.clone()
    Block(4, 4, 1)(images)
    assert torch.equal(images, before)


def test_convolutions_start_kaiming_normal() -> None:
    torch.manual_seed(0)
    model = build("resnet56")
    assert isinstance(model, CifarResNet)
    for layer in (m for m in model.layer3.modules() if isinstance(m, nn.Conv2d)):
        expected = sqrt(2 / (9 * layer.in_channels))
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.03)


def test_lenet300_has_the_size_worked_out_by_hand() -> None:
    assert count(build("lenet300", (1, 28, 28))) == 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10


def test_our_torchvision_names_are_those_of_the_installed_version() -> None:
    assert list(TORCHVISION) == torchvision.models.list_models(module=torchvision.models)


@pytest.mark.parametrize("name", FAMILIES)
def test_torchvision_model_gives_logits_for_the_datasets_classes(name: str) -> None:
    # On the meta device nothing is computed, so that even the large ones answer at once.
    with torch.device("meta"):
        model = build(name, (3, 299, 299), 7).train()
        logits = model(torch.zeros(2, 3, *((299, 299) if name == "inception_v3" else (224, 224))))
    assert logits.shape == (2, 7)


def test_regnet_gives_logits_for_the_datasets_classes() -> None:
    assert build("regnet_x_400mf", COLOUR, 7)(torch.zeros(2, *COLOUR)).shape == (2, 7)


@pytest.mark.parametrize("channels", [1, 4])
def test_torchvision_models_want_three_channels(channels: int) -> None:
    with pytest.raises(UserError, match=f"model resnet18 takes images with 3 channels, the dataset's have {channels}"):
        build("resnet18", (channels, 28, 28))


def test_a_misspelt_model_names_the_nearest() -> None:
    with pytest.raises(UserError, match='did you mean "resnet56"'):
        models.choose("resnet_56", {})


@pytest.mark.parametrize("name", OWN)
def test_options_of_an_entry_are_the_builders(name: str) -> None:
    parameters = inspect.signature(load(models.MODELS[name].target)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    preset = {} if name in ("cifar_resnet", "lenet300") else {"depth": int(name.removeprefix("resnet"))}
    assert models.MODELS[name].options == {**defaults, **preset}


def test_choosing_a_model_or_dataset_imports_no_torch() -> None:
    code = """if True:
        import sys
        from workers import data, models
        models.choose("resnet50", {}), models.choose("cifar_resnet", {"depth": 26}), data.choose("cifar10", {})
        print([name for name in ("torch", "torchvision", "numpy", "sklearn") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
