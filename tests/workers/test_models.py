from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from math import sqrt
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops import StochasticDepth

from prunesweep.workers import models
from prunesweep.workers.errors import UserError
from prunesweep.workers.models.resnet import Block, CifarResNet
from prunesweep.workers.models.torchvision_names import RESNETS, TORCHVISION, VGGS
from prunesweep.workers.models.wide_resnet import WideBlock
from prunesweep.workers.registry import load
from tests.networks import prunable_weights
from tests.orchestrator.conftest import Cli

ROOT = Path(__file__).parents[2]
Shape = tuple[int, int, int]
COLOUR = (3, 32, 32)
GREY = (1, 28, 28)
LARGE = (3, 224, 224)

PUBLISHED: list[tuple[str, Shape, int, int]] = [
    ("lenet300", GREY, 10, 266_610),
    ("lenet5", GREY, 10, 431_080),
    ("resnet20", COLOUR, 10, 269_722),
    ("resnet32", COLOUR, 10, 464_154),
    ("resnet44", COLOUR, 10, 658_586),
    ("resnet56", COLOUR, 10, 853_018),
    ("resnet110", COLOUR, 10, 1_727_962),
    ("wrn16x8", COLOUR, 10, 10_961_370),
    ("wrn40x2", COLOUR, 10, 2_243_546),
    ("wrn40x4", COLOUR, 10, 8_949_210),
    ("wrn28x10", COLOUR, 10, 36_479_194),
    ("wrn28x10", COLOUR, 100, 36_536_884),
    ("resnet18", COLOUR, 10, 11_173_962),
    ("resnet34", COLOUR, 10, 21_282_122),
    ("resnet50", COLOUR, 10, 23_520_842),
    ("resnet18", LARGE, 1000, 11_689_512),
    ("resnet50", LARGE, 1000, 25_557_032),
    ("vgg16_bn", COLOUR, 10, 14_728_266),
    ("vgg16_bn", LARGE, 1000, 138_365_992),
]
"""Parameters of a model for images and classes; docs/models.md has the same table."""

SAMPLE: dict[str, Shape] = {
    "lenet300": (1, 8, 8),
    "lenet5": (1, 16, 20),
    "resnet8": (2, 7, 5),
    "wrn10x1": (3, 8, 8),
    "resnet18": (3, 8, 8),
    "vgg11_bn": (1, 32, 32),
    "squeezenet1_1": (3, 32, 32),
    "timm:test_resnet": (1, 32, 32),
    "timm:test_vit": (2, 32, 32),
    "convmixer:convmixer": (1, 8, 8),
}
"""A model of every kind, small images to be quick."""
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


sample = pytest.mark.parametrize(("name", "shape"), SAMPLE.items(), ids=list(SAMPLE))


def build(name: str, shape: Shape = COLOUR, classes: int = 10, **options: object) -> nn.Module:
    return models.build(models.choose(name, options), shape, classes)


def outline(name: str, shape: Shape = COLOUR, classes: int = 10, **options: object) -> nn.Module:
    """The model without its numbers: large ones take no time."""
    with torch.device("meta"):
        return build(name, shape, classes, **options)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# --- sizes


@pytest.mark.parametrize(("name", "shape", "classes", "parameters"), PUBLISHED)
def test_parameters_are_the_published_ones(name: str, shape: Shape, classes: int, parameters: int) -> None:
    assert count(outline(name, shape, classes)) == parameters


def test_the_documented_sizes_are_these() -> None:
    row = r"^\| `(\w+)` \| (\d+)x(\d+)x(\d+) \| (\d+) \| ([\d,]+) \|"
    found = re.findall(row, (ROOT / "docs/models.md").read_text(), re.MULTILINE)
    said = [(name, (int(c), int(h), int(w)), int(k), int(n.replace(",", ""))) for name, c, h, w, k, n in found]
    assert said == PUBLISHED


def test_resnet56_has_the_published_prunable_weights() -> None:
    weights = prunable_weights(build("resnet56"), COLOUR)
    assert (len(weights), sum(weight.numel() for weight in weights.values())) == (56, 848_944)


def test_resnet8_on_grey_images_has_the_size_worked_out_by_hand() -> None:
    first, last = 1 * 16 * 9, 64 * 10
    groups = [2 * 16 * 16 * 9, (16 + 32) * 32 * 9, (32 + 64) * 64 * 9]
    norms = 2 * (16 + 2 * (16 + 32 + 64))
    model = build("resnet8", (1, 8, 8))
    assert sum(weight.numel() for weight in prunable_weights(model, (1, 8, 8)).values()) == first + sum(groups) + last
    assert count(model) == first + sum(groups) + last + norms + 10


@pytest.mark.parametrize("name", ["resnet8", "resnet14", "resnet20", "resnet32", "resnet110"])
def test_shortcut_is_the_cifar_resnet_of_its_depth(name: str) -> None:
    short, long = build(name), build("cifar_resnet", depth=int(name.removeprefix("resnet")))
    assert [(k, v.shape) for k, v in short.state_dict().items()] == [(k, v.shape) for k, v in long.state_dict().items()]
    assert len(prunable_weights(short, COLOUR)) == int(name.removeprefix("resnet"))


def test_resnet50_is_the_one_for_imagenet() -> None:
    weights = prunable_weights(outline("resnet50", LARGE, 1000), LARGE)
    assert sum(weight.numel() for weight in weights.values()) == 25_502_912


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


def test_the_lenets_have_the_sizes_worked_out_by_hand() -> None:
    assert count(build("lenet300", GREY)) == 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10
    convolutions = (25 + 1) * 20 + (20 * 25 + 1) * 50
    assert count(build("lenet5", GREY)) == convolutions + (50 * 4 * 4 + 1) * 500 + 501 * 10


def test_lenet5_refuses_images_of_which_nothing_would_be_left() -> None:
    assert build("lenet5", (3, 16, 16))(torch.zeros(2, 3, 16, 16)).shape == (2, 10)
    with pytest.raises(UserError, match="at least 16x16 pixels, the dataset's have 15x16"):
        build("lenet5", (3, 15, 16))


# --- WideResNets


def test_a_name_says_depth_and_width() -> None:
    long = outline("wide_resnet", depth=22, width=3, dropout=0.3)
    short = outline("wrn22x3", dropout=0.3)
    assert [(k, v.shape) for k, v in short.state_dict().items()] == [(k, v.shape) for k, v in long.state_dict().items()]
    assert models.choose("wrn22x3", {}).settings == {"depth": 22, "width": 3, "dropout": 0.0}


def test_a_wide_block_adds_what_the_paper_adds() -> None:
    x = torch.randn(2, 4, 6, 6)
    same, wider = WideBlock(4, 4, 1, 0.0).eval(), WideBlock(4, 8, 2, 0.0).eval()
    for block in (same, wider):
        nn.init.zeros_(block.conv2.weight)
    assert torch.equal(same(x), x), "nothing is done to what passes by"
    assert wider.shortcut is not None
    assert torch.equal(wider(x), wider.shortcut(wider.bn1(x).relu()))


def test_dropout_is_active_in_training_only() -> None:
    model, images = build("wrn10x1", dropout=0.5), torch.randn(4, *COLOUR)
    model.train()
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("wrn29x10", {}, "depth: 29 is not 6n.4; the nearest allowed depths are 28 and 34"),
        ("wide_resnet", {"depth": 4}, "depth: 4 is not 6n.4; the nearest allowed depths are 10 and 16"),
        ("wide_resnet", {"width": 0}, "width: 0 is too small"),
        ("wrn16x8", {"width": 10}, "wrn16x8 has width 8; for another take wide_resnet with width 10"),
        ("wrn40x2", {"dropout": 1}, r"dropout: 1 is not a fraction in \[0, 1\)"),
        ("wrn40-2", {}, 'unknown model "wrn40-2".*did you mean "wrn40x2"'),
        ("wrn28x0", {}, 'unknown model "wrn28x0"'),
        ("resnet18", {"stem": "small"}, 'stem: "small" is not allowed: one of auto, cifar, imagenet'),
        ("vgg16_bn", {"head": "linear"}, 'head: "linear" is not allowed'),
    ],
)
def test_what_cannot_be_is_an_error_that_says_what_can(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.choose(name, options)


# --- CIFAR and ImageNet forms


@pytest.mark.parametrize(
    ("shape", "stem", "kernel", "after"),
    [
        (COLOUR, "auto", 3, (32, 32)),
        (GREY, "auto", 3, (28, 28)),
        ((3, 64, 64), "auto", 3, (64, 64)),
        ((3, 65, 65), "auto", 7, (17, 17)),
        ((1, 224, 224), "auto", 7, (56, 56)),
        (COLOUR, "imagenet", 7, (8, 8)),
        ((3, 96, 96), "cifar", 3, (96, 96)),
    ],
)
def test_the_stem_goes_by_the_height_of_the_images(
    shape: Shape, stem: str, kernel: int, after: tuple[int, int]
) -> None:
    model = outline("resnet18", shape, stem=stem)
    before = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
    assert model.conv1.kernel_size == (kernel, kernel)
    assert before(torch.zeros(2, *shape, device="meta")).shape == (2, 64, *after)


@pytest.mark.parametrize("name", RESNETS)
def test_every_resnet_has_a_cifar_form(name: str) -> None:
    small, large = outline(name, GREY), outline(name, LARGE)
    assert count(large) - count(small) == 64 * (3 * 49 - 1 * 9)
    assert small.state_dict().keys() == large.state_dict().keys()
    assert small(torch.zeros(2, *GREY, device="meta")).shape == (2, 10)


def test_a_large_resnet_is_torchvisions_own() -> None:
    torch.manual_seed(0)
    ours = build("resnet18", LARGE).state_dict()
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=10).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", VGGS)
def test_the_cifar_form_of_a_vgg_has_the_convolutions_of_the_large_one(name: str) -> None:
    small, large = (outline(name, shape).state_dict() for shape in (COLOUR, LARGE))
    features = {key: value.shape for key, value in large.items() if key.startswith("features")}
    assert {key: value.shape for key, value in small.items()} == {
        **features,
        "classifier.weight": (10, 512),
        "classifier.bias": (10,),
    }


def test_the_head_can_be_asked_for() -> None:
    assert len(prunable_weights(outline("vgg11", head="imagenet"), COLOUR)) == 11
    assert len(prunable_weights(outline("vgg11", (3, 96, 96), head="cifar"), (3, 96, 96))) == 9


# --- every model


@sample
def test_a_model_gives_logits_and_its_weights_are_found(name: str, shape: Shape) -> None:
    model = build(name, shape, 7)
    assert model.training
    assert model(torch.randn(4, *shape)).shape == (4, 7)
    weights = prunable_weights(model, shape)
    assert all(model.get_parameter(key) is weight for key, weight in weights.items())


@sample
def test_weights_are_a_function_of_the_seed(name: str, shape: Shape) -> None:
    made = []
    for seed in (0, 0, 1):
        torch.rand(3)
        torch.manual_seed(seed)
        made.append(build(name, shape))
    first, again, other = made
    pairs = zip(first.state_dict().items(), again.state_dict().items(), strict=True)
    assert all(key == same and torch.equal(value, repeated) for (key, value), (same, repeated) in pairs)
    weights = [prunable_weights(model, shape).values() for model in (first, other)]
    assert not any(torch.equal(*pair) for pair in zip(*weights, strict=True))


@sample
def test_the_layout_of_the_images_changes_nothing(name: str, shape: Shape) -> None:
    torch.manual_seed(0)
    model, images = build(name, shape).eval(), torch.randn(4, *shape)
    plain = model(images)
    layout = torch.channels_last
    other = model.to(memory_format=layout)(images.contiguous(memory_format=layout))
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet20", "wrn16x2", "resnet18", "vgg11_bn"])
def test_channels_last_is_kept_from_layer_to_layer(name: str) -> None:
    """A layer that changed the layout would have every layer after it, and its backward pass, convert."""
    model = build(name).to(memory_format=torch.channels_last)
    lost: list[str] = []

    def look(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        if output.dim() == 4 and not output.is_contiguous(memory_format=torch.channels_last):
            lost.append(type(layer).__name__)

    for layer in model.modules():
        layer.register_forward_hook(look)
    model(torch.randn(4, *COLOUR).contiguous(memory_format=torch.channels_last))
    assert lost == []


# --- torchvision and timm


def test_our_torchvision_names_are_those_of_the_installed_version() -> None:
    assert list(TORCHVISION) == torchvision.models.list_models(module=torchvision.models)


@pytest.mark.parametrize("name", FAMILIES)
def test_torchvision_model_gives_logits_for_the_datasets_classes(name: str) -> None:
    shape = (3, 299, 299) if name == "inception_v3" else LARGE
    logits = outline(name, shape, 7)(torch.zeros(2, *shape, device="meta"))
    assert logits.shape == (2, 7)


def test_regnet_gives_logits_for_the_datasets_classes() -> None:
    assert build("regnet_x_400mf", COLOUR, 7)(torch.zeros(2, *COLOUR)).shape == (2, 7)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_torchvision_models_want_three_channels(channels: int) -> None:
    with pytest.raises(UserError, match=f"model alexnet takes images with 3 channels, the dataset's have {channels}"):
        build("alexnet", (channels, 64, 64))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("vgg16_bn", GREY),
        ("alexnet", COLOUR),
        ("inception_v3", COLOUR),
        ("vit_b_16", (3, 30, 30)),
        ("maxvit_t", COLOUR),
    ],
)
def test_images_that_do_not_pass_through_are_refused(name: str, shape: Shape) -> None:
    said = f"model {name} does not take images of {shape[1]}x{shape[2]} pixels: "
    with pytest.raises(UserError, match=said), torch.device("meta"):
        build(name, shape)


def test_a_vision_transformer_is_made_for_the_size_of_the_images() -> None:
    assert outline("vit_b_16", COLOUR)(torch.zeros(2, *COLOUR, device="meta")).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnte18d", 'unknown timm model "resnte18d".*did you mean "resnet18d"'),
        ("timm:resnet18.a1_in1k", "names trained weights; take timm:resnet18 with init: {timm: a1_in1k}$"),
    ],
)
def test_a_name_that_timm_does_not_have(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.choose(name, {})


def test_without_timm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=re.escape("pip install 'prunesweep[timm]'")):
        models.choose("timm:resnet18", {})


def test_a_timm_model_is_timms_own_with_random_weights() -> None:
    assert count(outline("timm:resnet18", LARGE, 1000)) == 11_689_512
    assert count(outline("timm:vit_tiny_patch16_224", LARGE, 1000)) == 5_717_416


# --- one's own, and the registry


def test_the_documented_model_of_ones_own_has_its_published_size() -> None:
    assert round(count(outline("convmixer:convmixer", COLOUR)) / 1e6, 2) == 0.59


def test_the_documented_sweep_over_ones_own_model_is_valid(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs/examples", tmp_path / "examples")
    assert "valid, 4 trials" in Cli(tmp_path / "examples")("validate", "convmixer.yaml")


def test_an_installed_package_gives_its_model_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "mixers-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mixers\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[prunesweep.models]\nmixer = convmixer:convmixer\n")
    monkeypatch.syspath_prepend(tmp_path)
    chosen = models.choose("mixer", {"depth": 2})
    assert chosen.settings == {"width": 256, "depth": 2, "kernel": 5, "patch": 2}
    assert len(prunable_weights(models.build(chosen, GREY, 10), GREY)) == 1 + 2 * 2 + 1


def test_a_misspelt_model_names_the_nearest() -> None:
    with pytest.raises(UserError, match='did you mean "resnet56"'):
        models.choose("resnet_56", {})


@pytest.mark.parametrize("name", models.MODELS)
def test_options_of_an_entry_are_the_builders(name: str) -> None:
    entry = models.MODELS[name]
    parameters = inspect.signature(load(entry.target)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    factor = defaults.pop("factor", None)  # of the channels; of the weights it is `size`
    if models.SIZE in entry.later:
        defaults[models.SIZE] = factor
    general, said = models.NAMED.get(entry.target, (name, ()))
    numbers = {} if name == general else dict(zip(said, map(int, re.findall(r"\d+", name)), strict=True))
    assert {**entry.options, **entry.later} == {**defaults, **numbers}


def test_choosing_a_model_or_dataset_imports_no_torch() -> None:
    code = """if True:
        import sys
        from prunesweep.workers import data, models
        models.choose("resnet50", {}), models.choose("wrn22x4", {"dropout": 0.1}), data.choose("cifar10", {})
        print([name for name in ("torch", "torchvision", "numpy", "sklearn") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "option", "part"),
    [
        ("mobilenet_v3_small", "dropout", nn.Dropout),
        ("efficientnet_b0", "stochastic_depth", StochasticDepth),
        ("convnext_tiny", "stochastic_depth", StochasticDepth),
    ],
)
def test_what_is_left_out_while_training_can_be_chosen(name: str, option: str, part: type[nn.Module]) -> None:
    """A key of before stays where it is not chosen."""
    assert models.choose(name, {option: None}) == models.choose(name, {})
    assert models.choose(name, {}).options == ()
    with torch.device("meta"):
        chosen = models.build(models.choose(name, {option: 0.7}), (3, 224, 224), 10)
    shares = {m.p for m in chosen.modules() if isinstance(m, part)}
    assert max(shares) == pytest.approx(0.7, rel=0.1)
    with pytest.raises(UserError, match=rf"{option}: 1.5 is not a fraction in \[0, 1\)"):
        models.choose(name, {option: 1.5})
