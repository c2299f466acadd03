"""What the settings of one training must have in common, whichever key of a sweep file they are under."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prunesweep.orchestrator.sweepfile.document import Document, Loc, where
from prunesweep.orchestrator.sweepfile.methods import loading
from prunesweep.workers import optimizer_settings, own_optimizer
from prunesweep.workers.augmentations import check_augmentations
from prunesweep.workers.errors import SpecError, UserError
from prunesweep.workers.schedules import check_dense
from prunesweep.workers.spec import TrainSpec

PATTERNED = ("freeze", "lr_scale")
"""Settings whose values are patterns of parameters, or have them."""


def check_training(train: TrainSpec, *, dense: bool = True) -> None:
    """Raise `SpecError` unless they fit together; without `dense` the schedule is not looked at."""
    own = train.optimizer_settings
    optimizer_settings.check(train.optimizer, own, train.lr, all_decay=train.decay_norm_and_bias)
    if "optimizer" in train.own:
        with _importing("train.optimizer", train.optimizer):
            own_optimizer.check(train.optimizer, own, all_decay=train.decay_norm_and_bias)
    if dense:
        with _importing("train.schedule", train.schedule):
            check_dense(train)
    check_augmentations(train)
    if train.batch_size % train.accumulate:
        fitting = [n for n in range(2, train.batch_size + 1) if train.batch_size % n == 0]
        raise SpecError(
            "train.accumulate",
            f"{train.batch_size} images do not divide into {train.accumulate} equal parts; "
            f"take one of {', '.join(map(str, fitting[:5]))}",
        )
    _check_loss(train)
    _check_average(train)


def _check_average(train: TrainSpec) -> None:
    for name in ("validate_ema", "publish_ema"):
        if train.ema is None and not getattr(train, name):
            raise SpecError(f"train.{name}", "without train.ema there is no average; give its decay, or leave it out")
    if not (train.validate_ema or train.publish_ema):
        raise SpecError(
            "train.publish_ema", "the average would be neither validated nor published; leave train.ema out"
        )


def _check_loss(train: TrainSpec) -> None:
    name, mixes = "train.target_threshold", train.mixup is not None or train.cutmix is not None
    if train.target_threshold is None:
        return
    if train.loss is None:
        raise SpecError(name, "it is for targets of loss: binary_cross_entropy; give that, or leave it out")
    if not mixes:
        why = "it would undo label smoothing" if train.label_smoothing else "all targets are 0 or 1 already"
        raise SpecError(name, f"without mixup or cutmix {why}; leave it out")


@contextmanager
def _importing(field: str, name: str) -> Iterator[None]:
    """What is wrong with one's own code is wrong with the setting that names it."""
    try:
        with loading(name):
            yield
    except SpecError:
        raise
    except UserError as error:
        raise SpecError(field, str(error)) from error


# --- places in the file


def pattern_places(document: Document) -> dict[str, str]:
    """The place of each pattern of parameters, `x.yaml:4: train.freeze`, by its setting and itself."""
    places: dict[str, str] = {}
    for loc, train in _trains(document.value):
        for name in PATTERNED:
            for inner, pattern in _patterns(train.get(name), (*loc, name)):
                line = f"{document.path}:{document.line(inner)}: " if document.path else ""
                places.setdefault(f"train.{name} {pattern}", f"{line}{where((*loc, name))}")
    return places


def _trains(value: Mapping[str, Any]) -> Iterator[tuple[Loc, Mapping[str, Any]]]:
    blocks = value.get("trials")
    holders: list[tuple[Loc, Any]] = [((), value)]
    holders += [(("trials", index), block) for index, block in enumerate(blocks if isinstance(blocks, list) else ())]
    for loc, holder in holders:
        for key in ("train", "train_from_init"):
            if isinstance(holder, Mapping) and isinstance(holder.get(key), Mapping):
                yield (*loc, key), holder[key]


def _patterns(value: Any, loc: Loc) -> Iterator[tuple[Loc, str]]:
    """Of a value or an axis, lists and mappings."""
    if isinstance(value, str):
        yield loc, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _patterns(item, (*loc, index))
    elif isinstance(value, Mapping):
        yield from (((*loc, pattern), str(pattern)) for pattern in value)
