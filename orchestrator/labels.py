"""Names of stages for people: a few words, and the settings that tell one stage from others of the same words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from prunesweep.workers.models.folder_config import shown
from prunesweep.workers.parts import whole_of
from prunesweep.workers.spec import EvaluationStage, PruneStage, Stage, label, path


def labels(stages: Mapping[str, Stage], keys: Iterable[str]) -> dict[str, str]:
    """A label for each of the keys. Where other stages have the same label, it names the settings that differ."""
    by_label: dict[str, list[Stage]] = {}
    for stage in stages.values():
        by_label.setdefault(label(stage), []).append(stage)
    short = {key: label(stages[key]) for key in keys}
    varying = {text: _varying_settings(by_label[text]) for text in set(short.values())}
    return {key: ", ".join([text, *_spelled(stages[key], varying[text])]) for key, text in short.items()}


def _spelled(stage: Stage, names: Sequence[str]) -> list[str]:
    settings = _settings(stage) if names else {}
    return [f"{name} {_short(settings[name])}" for name in names if name in settings]


def _varying_settings(stages: list[Stage]) -> list[str]:
    """The settings that do not have the same value in all of the stages."""
    of_stages = [_settings(stage) for stage in stages] if len(stages) > 1 else []
    names = dict.fromkeys(name for settings in of_stages for name in settings)
    return [name for name in names if len({settings.get(name) for settings in of_stages}) > 1]


def _settings(stage: Stage) -> dict[str, Any]:
    """The settings in which stages of one label may differ, as a sweep file spells them."""
    root, stage = stage.root, whole_of(stage)
    choices = {"dataset": root.dataset, "model": root.model, "method": root.method}
    retrain = stage.retrain if isinstance(stage, PruneStage) else None
    return {
        **{kind: choice.name for kind, choice in choices.items()},
        **{name: value for choice in choices.values() for name, value in shown(choice).items()},
        **{f"train.{field.name}": getattr(root.train, field.name) for field in fields(root.train)},
        **({"retrain_lr": retrain.lr, "retrain_warmup": retrain.warmup} if retrain else {}),
        **({"allocation": stage.allocation} if isinstance(stage, PruneStage) else {}),
        "prune_only": ", ".join(stage.prune.only),
        "prune_except": ", ".join(stage.prune.exempt),
        "phase": len(path(stage)) - 1,
        **({"test_sets": ", ".join(stage.test_sets)} if isinstance(stage, EvaluationStage) else {}),
    }


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
