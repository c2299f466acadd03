"""The models. Adding one is a file beside this one and a line here; this file stays free of torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from prunesweep.workers import registry, signature
from prunesweep.workers.errors import UserError
from prunesweep.workers.lazy import torch
from prunesweep.workers.models.folder_config import TRANSFORMERS, configured
from prunesweep.workers.models.options import check_cifar_resnet, check_form, check_share, check_size, check_wide_resnet
from prunesweep.workers.models.scaling import multiplied, parted, scaled_by
from prunesweep.workers.models.torchvision_names import (
    DROPOUT,
    NARROWABLE,
    RESNETS,
    STOCHASTIC_DEPTH,
    TORCHVISION,
    VGGS,
)
from prunesweep.workers.registry import Entry
from prunesweep.workers.spec import Choice, Value

if TYPE_CHECKING:
    from torch import nn

CIFAR_RESNET = "prunesweep.workers.models.resnet:CifarResNet"
WIDE_RESNET = "prunesweep.workers.models.wide_resnet:WideResNet"
FROM_FOLDER = "prunesweep.workers.models.transformers_models:build"
TIMM = "prunesweep.workers.models.timm_models"
NARROWABLE_NAMES = (
    "it takes lenet300, lenet5, cifar_resnet (resnet20, ...) and wide_resnet (wrn22x2, ...); torchvision's ResNets, "
    "VGGs, MobileNets, MNASNets, DenseNets, ViTs and ConvNeXts; timm's ResNets, ConvNeXts, ViTs and DeiTs; and "
    "networks of one's own with an option that scales them"
)
"""The networks that can be made narrower, for people."""

SIZE = "size"
"""The option of networks that can be made narrower: the share of the full network's weights that they have."""

NARROWS: Mapping[str, Value] = {SIZE: 1.0}


def _wide(depth: int, width: int) -> Entry:
    return Entry(WIDE_RESNET, {"depth": depth, "width": width, "dropout": 0.0}, later=NARROWS)


def _left_out(name: str) -> dict[str, Value]:
    """The options of a torchvision model that say how much it leaves out while training, None its own share, and how
    narrow it is.
    """
    shares = {"dropout": DROPOUT, "stochastic_depth": STOCHASTIC_DEPTH}
    left_out: dict[str, Value] = {option: None for option, names in shares.items() if name in names}
    return {**left_out, **(NARROWS if name in NARROWABLE else {})}


MODELS: dict[str, Entry] = {
    "transformer": Entry(
        "prunesweep.workers.models.transformer:Transformer", {"width": 64, "depth": 2, "heads": 4, "dropout": 0.0}
    ),
    "lenet300": Entry("prunesweep.workers.models.lenet:lenet300", later=NARROWS),
    "lenet5": Entry("prunesweep.workers.models.lenet:lenet5", later=NARROWS),
    "cifar_resnet": Entry(CIFAR_RESNET, {"depth": 20, "width": 16}, later=NARROWS),
    # resnet8, resnet14, ... resnet110, but not resnet50: that name, like resnet18, 34, 101 and 152, is torchvision's,
    # on small images too. A CIFAR ResNet of that depth is `cifar_resnet` with `depth: 50`.
    **{
        f"resnet{n}": Entry(CIFAR_RESNET, {"depth": n, "width": 16}, later=NARROWS) for n in range(8, 111, 6) if n != 50
    },
    "wide_resnet": _wide(28, 10),
    # Those of the paper's tables, to complete and to suggest; `known` reads the others.
    **{f"wrn{d}x{k}": _wide(d, k) for d, k in ((16, 4), (16, 8), (22, 8), (28, 10), (40, 1), (40, 2), (40, 4))},
    **{name: Entry(f"prunesweep.workers.models.vision:{name}", {"stem": "auto"}, later=NARROWS) for name in RESNETS},
    **{name: Entry(f"prunesweep.workers.models.vision:{name}", {"head": "auto"}, later=NARROWS) for name in VGGS},
    **{
        name: Entry(f"prunesweep.workers.models.vision:{name}", later=_left_out(name))
        for name in TORCHVISION
        if name not in RESNETS + VGGS
    },
    **{
        name: Entry(f"prunesweep.workers.models.segmentation:{name}", {"aux_loss": False})
        for name in ("fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101")
    },
    "deeplabv3_mobilenet_v3_large": Entry(
        "prunesweep.workers.models.segmentation:deeplabv3_mobilenet_v3_large", {"aux_loss": False}
    ),
    "lraspp_mobilenet_v3_large": Entry("prunesweep.workers.models.segmentation:lraspp_mobilenet_v3_large"),
}

NAMED = {CIFAR_RESNET: ("cifar_resnet", ("depth",)), WIDE_RESNET: ("wide_resnet", ("depth", "width"))}
"""The name under which a network has any size, and the options that its other names say."""


def choose(name: str, options: Mapping[str, Any]) -> Choice:
    """A model by name with its options complete; raises `UserError` on what it does not have."""
    entries = known(name)
    choice = registry.choose("model", entries, name, options)
    if name in entries:
        _check(name, entries[name], choice.settings)
    return choice


def read(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a model, with what is in its folder in the place of the folder; raises `UserError`."""
    return configured(options) if name == TRANSFORMERS else dict(options)


def build(choice: Choice, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The model with random weights, for images of `shape` (channels, height, width)."""
    entry = registry.find("model", known(choice.name), choice.name)
    factory = registry.load(entry.target)
    if not registry.is_foreign(entry):
        return _built(partial(factory, shape, classes), choice.settings, narrows=SIZE in entry.later)
    model = signature.call(choice.name, factory, shape, classes, made_with(choice, shape, classes))
    if not isinstance(model, torch.nn.Module):
        raise UserError(
            f"model {choice.name} made {'nothing' if model is None else f'a {type(model).__name__}'}, not a "
            "torch.nn.Module; does its function end with `return`?"
        )
    return model


def made_with(choice: Choice, shape: tuple[int, int, int], classes: int) -> Mapping[str, Value]:
    """The options with which the plain network is made, by `choose` and `build` or one's own function."""
    if not is_own(choice):
        return choice.settings
    factory = registry.load(registry.find("model", known(choice.name), choice.name).target)
    return _own_options(partial(signature.call, choice.name, factory, shape, classes), choice.settings)


def is_own(choice: Choice) -> bool:
    """Whether it is a network of another package, or of one's own."""
    return choice.name not in known(choice.name)


def narrower(choice: Choice, size: float, scales: Sequence[str] = ()) -> Choice | None:
    """The network with this share of its weights; None for one that cannot be made narrower.

    One's own is where its options `scales` are named, which are multiplied by one factor.
    """
    if is_own(choice):
        return scaled_by(choice, size, scales) if scales else None
    if SIZE not in known(choice.name)[choice.name].later or not _narrows(choice.name):
        return None
    return choose(choice.name, {**choice.settings, SIZE: size})


def full(choice: Choice) -> Choice:
    """The network that this one is a narrower one of, which may be itself."""
    own = parted(choice.settings)[0] if is_own(choice) else {o: v for o, v in choice.options if o != SIZE}
    return Choice.of(choice.name, own, choice.fingerprint)


def _narrows(name: str) -> bool:
    """Of timm's networks only some do."""
    narrows: bool = not name.startswith("timm:") or registry.load(f"{TIMM}:can_narrow")(name.removeprefix("timm:"))
    return narrows


def _own_options(make: Callable[[Mapping[str, Value]], Any], settings: Mapping[str, Value]) -> Mapping[str, Value]:
    """What one's own network is made with: of a narrower one with the options multiplied that its channels go by."""
    own, size, scales = parted(settings)
    if not scales:
        return own
    from prunesweep.workers.models.narrow import factor_of

    return multiplied(own, scales, factor_of(lambda factor: make(multiplied(own, scales, factor)), size))


def _built(make: Callable[..., nn.Module], settings: dict[str, Value], *, narrows: bool) -> nn.Module:
    size = settings.pop(SIZE, 1.0) if narrows else 1.0
    assert isinstance(size, float), "the registry has seen to it"
    if size == 1.0:
        return make(**settings)
    from prunesweep.workers.models.narrow import factor_of

    return make(factor=factor_of(lambda factor: make(factor=factor, **settings), size), **settings)


def known(name: str) -> Mapping[str, Entry]:
    """The registry, and in it this name when it is one of many of a kind: `wrn22x4`, `timm:NAME`, `transformers`."""
    if size := re.fullmatch(r"wrn([1-9]\d*)x([1-9]\d*)", name):
        return {**MODELS, name: _wide(int(size[1]), int(size[2]))}
    if name.startswith("timm:"):
        later: dict[str, Value] = {"dropout": None, "stochastic_depth": None, **NARROWS}
        target = f"{TIMM}:{name.removeprefix('timm:')}"
        return {**MODELS, name: Entry(target, later=later)}
    if name == TRANSFORMERS:
        return {**MODELS, name: Entry(FROM_FOLDER, {"config": ""})}
    return MODELS


def _check(name: str, entry: Entry, given: Mapping[str, Any]) -> None:
    """Raise `UserError` when options of the right type have values that cannot be."""
    _check_name(name, entry, given)
    given = dict(given)
    if SIZE in given and SIZE in entry.later:
        check_size(size := given.pop(SIZE))
        if size != 1.0 and not _narrows(name):
            raise UserError(f"size: {name} cannot be made narrower; {NARROWABLE_NAMES}")
    if entry.target == CIFAR_RESNET:
        check_cifar_resnet(**given)
    elif entry.target == WIDE_RESNET:
        check_wide_resnet(**given)
    elif name.startswith("timm:"):
        registry.load(entry.target)  # asks timm for the name now, which the nodes would else do one by one
    elif given.get("config") and entry.target == FROM_FOLDER:
        registry.load("prunesweep.workers.models.transformers_models:require_makeable")(given["config"])
    for share in {"dropout", "stochastic_depth"} & given.keys() if entry.target != WIDE_RESNET else ():
        check_share(share, given[share])
    for part in {"stem", "head"} & given.keys():
        check_form(part, given[part])


def _check_name(name: str, entry: Entry, given: Mapping[str, Any]) -> None:
    """A network whose name says its size has no other."""
    general, options = NAMED.get(entry.target, (name, ()))
    for option in options:
        value, said = given[option], entry.options[option]
        if name != general and value != said:
            raise UserError(f"{option}: {name} has {option} {said}; for another take {general} with {option} {value}")
