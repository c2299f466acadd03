"""The types of settings in a sweep file: a value or an axis of values, strict, with errors that say what is allowed."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Discriminator, Field, Tag, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from prunesweep.orchestrator.sweepfile.document import shown
from prunesweep.workers.allocation import Pattern
from prunesweep.workers.errors import nearest
from prunesweep.workers.methods.base import Hyperparameter
from prunesweep.workers.schedules import DENSE
from prunesweep.workers.spec import TrainSpec
from prunesweep.workers.tasks.classification import LOSSES
from prunesweep.workers.train_spec import CODE

AXIS, VALUE = "\0axis", "\0value"
"""Parts of a validation error's location that say which form a setting was taken for; no key can be spelled so."""

TRAIN: dict[str, tuple[str, dict[str, float]]] = {
    "epochs": ("epochs of training", {"ge": 1}),
    "batch_size": ("images per iteration", {"ge": 1}),
    "lr": ("peak learning rate", {"gt": 0}),
    "schedule": ("learning-rate schedule of the training", {}),
    "warmup_epochs": ("epochs of a linear ramp from 0 to the peak learning rate", {"ge": 0}),
    "step_epochs": ("schedule step: epochs between drops", {"ge": 1}),
    "milestones": ("schedule multistep: epochs at which the learning rate drops", {"ge": 0}),
    "gamma": ("factor of each drop of step and multistep, and per epoch of exponential", {"gt": 0}),
    "end_lr": ("last learning rate of linear, cosine, polynomial and one_cycle", {"ge": 0}),
    "momentum": ("momentum of SGD and RMSprop", {"ge": 0, "lt": 1}),
    "nesterov": ("Nesterov momentum of SGD", {}),
    "weight_decay": ("weight decay, on all parameters", {"ge": 0}),
    "augment": ("training augmentation", {}),
    "recalibrate": ("re-estimate batch-norm statistics after each hard prune", {}),
    "precision": ("arithmetic: with tf32 and bfloat16 weights are kept in float32", {}),
    "compile": ("torch.compile for the training, with CUDA graphs on a GPU", {}),
    "label_smoothing": ("share of each target that is spread over all classes", {"ge": 0, "lt": 1}),
    "clip_norm": ("largest norm of all gradients together", {"gt": 0}),
    "evaluation_batch_size": ("images per batch of an evaluation", {"ge": 1}),
    "mixup": ("mixup: parameter of the beta distribution of the proportions", {"gt": 0}),
    "cutmix": ("CutMix: parameter of the beta distribution of the areas", {"gt": 0}),
    "randaugment": ("RandAugment: strength of its operations", {"ge": 0, "le": 30}),
    "randaugment_operations": ("RandAugment: operations that each image goes through", {"ge": 1, "le": 14}),
    "trivialaugment": ("TrivialAugment: one operation of random strength for each image", {}),
    "random_erasing": ("probability that a random box of an image is erased", {"ge": 0, "le": 1}),
    "gaussian_noise": ("deviation of noise on training images, in deviations of the images", {"ge": 0}),
    "repeated_augmentation": ("how often each image comes in a batch, augmented anew", {"ge": 1}),
    "optimizer": ("sgd, adamw, adam, rmsprop, lamb (timm's), or one of your own, module:name", {}),
    "beta1": ("Adam and LAMB: decay of the mean of gradients from one iteration to the next", {"ge": 0, "lt": 1}),
    "beta2": ("Adam and LAMB: decay of the mean of squared gradients", {"ge": 0, "lt": 1}),
    "eps": ("Adam, LAMB and RMSprop: what is added to the root of the mean of squares", {"gt": 0}),
    "alpha": ("RMSprop: decay of the mean of squared gradients", {"ge": 0, "lt": 1}),
    "centered": ("RMSprop: divide by the deviation of gradients", {}),
    "decay_norm_and_bias": ("whether weight decay also acts on biases and normalisation", {}),
    "lr_scale": ("factors of the learning rate by patterns of parameters, such as layer4.*: 0.1", {"gt": 0}),
    "freeze": ("patterns of the parameters that do not train, such as [conv1, layer1]", {}),
    "power": ("schedule polynomial: exponent", {"gt": 0}),
    "rise": ("schedule one_cycle: fraction of the training in which the learning rate rises", {"gt": 0, "lt": 1}),
    "accumulate": ("parts of a batch that go through the network one after the other", {"ge": 1}),
    "ema": (
        "decay of the average of weights over iterations that becomes the finished network",
        {"gt": 0, "lt": 1},
    ),
    "validate_ema": ("validate the average after each epoch, or the weights that are trained", {}),
    "publish_ema": ("finish with the average, or with the weights that are trained", {}),
    "loss": ("loss that is trained with, in the place of the task's own", {}),
    "target_threshold": ("binary_cross_entropy: mixed targets above it become 1, others 0", {"gt": 0, "lt": 1}),
}
"""Help and limits of the fields of `TrainSpec`."""

OWN = Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
"""The name of something of one's own."""

NAMES: dict[str, Any] = {
    "schedule": Literal.__getitem__(tuple(DENSE)) | OWN,
    "precision": Literal["float32", "tf32", "bfloat16", "float64"],
    "lr_scale": dict[str, float] | None,
    "loss": Union.__getitem__((Literal.__getitem__(LOSSES), None)),
}
"""The fields of `TrainSpec` that are one of a few names, or that a file has as a mapping."""

SPARSITY = Hyperparameter("sparsity", float, MISSING, "fraction of prunable weights that end as 0", {"ge": 0, "lt": 1})


@cache
def train_settings() -> tuple[Hyperparameter, ...]:
    """The fields of `TrainSpec` as a sweep file takes them; the defaults of an optimizer's settings are SGD's."""
    hints = get_type_hints(TrainSpec)
    types = {name: NAMES.get(name, of) for name, of in hints.items()}
    usual = TrainSpec()
    given = [f.name for f in fields(usual) if f.name not in CODE.values()]
    return tuple(Hyperparameter(name, types[name], getattr(usual, name), *TRAIN[name]) for name in given)


def setting(of: Hyperparameter) -> Any:
    """The type of a setting in a sweep file: a value within its limits, or a non-empty list of such values."""
    allowed = f"{describe(of.type, of.limits)} ({of.help})"
    return axis(explained(_bounded(of.type, of.limits), allowed, _names(of.type)), is_list=holds_list(of.type))


def explained(of: Any, allowed: str, names: tuple[str, ...] = ()) -> Any:
    """The type, with one error for whatever is wrong: the value, what is allowed, and what may be meant."""

    def check(value: Any, inner: Callable[[Any], Any]) -> Any:
        try:
            return inner(value)
        except ValidationError:
            closest = nearest(value, names) if isinstance(value, str) else ""
            hint = closest or next((f"; did you mean {n:g}?" for n in meant(value) if _allows(inner, n)), "")
            raise not_allowed(value, f"{allowed}{hint}") from None

    return Annotated[of, WrapValidator(check)]


def meant(value: Any) -> Iterator[float]:
    """The numbers that a wrong value may stand for: `"0.9"` without its quotes, `90` and `90%` as a fraction."""
    text = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    number = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(%?)", text)
    if number:
        yield from () if number[2] else (float(number[1]),)
        yield from (float(f"{float(number[1]) / 100:.12g}"),) if 1 < float(number[1]) <= 100 or number[2] else ()


def _allows(inner: Callable[[Any], Any], number: float) -> bool:
    for candidate in (int(number), number) if number.is_integer() else (number,):
        try:
            inner(candidate)
        except ValidationError:
            continue
        return True
    return False


def not_allowed(value: Any, allowed: str) -> PydanticCustomError:
    """A validation error that needs no translation."""
    message = f"{shown(value)} is not allowed: {allowed}"
    return PydanticCustomError("not_allowed", "{message}", {"message": message})


def axis(of: Any, *, is_list: bool = False) -> Any:
    """A value or a non-empty list of values; where a value is itself a list, an axis is a list of lists."""

    def form(value: Any) -> str:
        return AXIS if is_axis(value, is_list=is_list) else VALUE

    several = Annotated[list[of], Field(min_length=1)]
    return Annotated[Union[Annotated[of, Tag(VALUE)], Annotated[several, Tag(AXIS)]], Discriminator(form)]  # noqa: UP007


def is_axis(value: Any, *, is_list: bool) -> bool:
    """Whether a list is an axis of values rather than one value that is a list."""
    return isinstance(value, list) and (not is_list or any(isinstance(item, list) for item in value))


def describe(of: Any, limits: Mapping[str, Any]) -> str:
    """What a type allows, for people: `a number in [0, 1)`, `one of ALLR, LLR`."""
    if of is OWN:
        return "module:name"
    if get_origin(of) is Literal:
        return f"one of {', '.join(map(str, get_args(of)))}"
    if get_origin(of) is tuple:
        return f"a list of {describe(get_args(of)[0], limits).removeprefix('a ').replace('number', 'numbers', 1)}"
    if get_origin(of) is dict:
        values = describe(get_args(of)[1], limits).removeprefix("a ").replace("number", "numbers", 1)
        return f"a mapping from patterns to {values}"
    if _is_union(of):
        return " or ".join(describe(arm, limits) for arm in get_args(of) if arm is not type(None))
    if of in (int, float):
        return f"a {'whole ' if of is int else ''}number{_range(limits)}"
    return {bool: "true or false", str: "text", Pattern: "a pattern such as 2:4"}.get(of, str(of))


def _range(limits: Mapping[str, Any]) -> str:
    low, high = limits.get("gt", limits.get("ge")), limits.get("lt", limits.get("le"))
    if low is not None and high is not None:
        return f" in {'(' if 'gt' in limits else '['}{low}, {high}{')' if 'lt' in limits else ']'}"
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
    return "".join(f" {words[name]} {limit}" for name, limit in limits.items())


def _bounded(of: Any, limits: Mapping[str, Any]) -> Any:
    """The type as YAML has it, a list for a tuple, with the limits on its numbers."""
    if of in (int, float):
        return Annotated[of, Field(**limits)]
    if get_origin(of) is tuple:
        item: Any = _bounded(get_args(of)[0], limits)
        fixed = None if Ellipsis in get_args(of) else len(get_args(of))
        return Annotated[list.__class_getitem__(item), Field(min_length=fixed or 1, max_length=fixed)]
    if get_origin(of) is dict:
        value: Any = _bounded(get_args(of)[1], limits)
        return Annotated[dict.__class_getitem__((str, value)), Field(min_length=1)]
    if _is_union(of):
        arms = tuple(_bounded(arm, limits) for arm in get_args(of))
        return Union.__getitem__(arms)
    return of


def _is_union(of: Any) -> bool:
    return get_origin(of) in (Union, types.UnionType)


def holds_list(of: Any) -> bool:
    """Whether one value of this type is a list, such as milestones."""
    return get_origin(of) is tuple or (_is_union(of) and any(holds_list(arm) for arm in get_args(of)))


def _names(of: Any) -> tuple[str, ...]:
    if get_origin(of) is Literal:
        return tuple(str(name) for name in get_args(of))
    return tuple(name for arm in get_args(of) for name in _names(arm)) if _is_union(of) else ()
