"""What trials choose by name, code of one's own included, and whose versions are part of their keys. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prunesweep.workers.spec import KINDS, Choice, TrainStage, TrialSpec
from prunesweep.workers.train_spec import CODE


def chosen(of: TrialSpec | TrainStage) -> dict[str, Choice]:
    """By kind what a trial or the root of its stages chooses: `KINDS`, and an optimizer or schedule of one's own."""
    codes = {kind: Choice(name, (), getattr(of.train, CODE[kind])) for kind, name in of.train.own.items()}
    return {**{kind: getattr(of, kind) for kind in KINDS}, **codes}


def choosing(trial: TrialSpec, choices: Mapping[str, Choice]) -> TrialSpec:
    """The trial with these in the place of what it has `chosen`, which differ in fingerprints alone."""
    codes: dict[str, Any] = {CODE[kind]: choice.fingerprint for kind, choice in choices.items() if kind in CODE}
    train = replace(trial.train, **codes) if codes else trial.train
    others: dict[str, Any] = {kind: choices[kind] for kind in KINDS}
    return replace(trial, train=train, **others)
