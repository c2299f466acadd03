"""What stages are called: in a few words, with what tells each from the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from prunesweep.workers.spec import PruneStage, Stage, label, path


def labels(stages: Mapping[str, Stage], keys: Iterable[str]) -> dict[str, str]:
    """Labels of some of the stages; where others have the same label, with the settings in which they differ."""
    alike: dict[str, list[Stage]] = {}
    for stage in stages.values():
        alike.setdefault(label(stage), []).append(stage)
    wanted = {key: label(stages[key]) for key in keys}
    varying = {text: _varying(alike[text]) for text in set(wanted.values())}
    return {key: ", ".join([text, *_told(stages[key], varying[text])]) for key, text in wanted.items()}


def _told(stage: Stage, names: Sequence[str]) -> list[str]:
    settings = _settings(stage) if names else {}
    return [f"{name} {_short(settings[name])}" for name in names if name in settings]


def _varying(stages: list[Stage]) -> list[str]:
    found = [_settings(stage) for stage in stages] if len(stages) > 1 else []
    names = dict.fromkeys(name for settings in found for name in settings)
    return [name for name in names if len({settings.get(name) for settings in found}) > 1]


def _settings(stage: Stage) -> dict[str, Any]:
    """In what stages of one label may differ, as a sweep file spells it."""
    root = stage.root
    choices = {"dataset": root.dataset, "model": root.model, "method": root.method}
    retrain = stage.retrain if isinstance(stage, PruneStage) else None
    return {
        **{kind: choice.name for kind, choice in choices.items()},
        **{name: value for choice in choices.values() for name, value in choice.options},
        **{f"train.{field.name}": getattr(root.train, field.name) for field in fields(root.train)},
        **({"retrain_lr": retrain.lr, "retrain_warmup": retrain.warmup} if retrain else {}),
        **({"allocation": stage.allocation} if isinstance(stage, PruneStage) else {}),
        "phase": len(path(stage)) - 1,
    }


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def counted(count: int, noun: str) -> str:
    """`1 trial`, `1,234 trials`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
