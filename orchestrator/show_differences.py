"""What `compare` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from orchestrator.question import Question
from orchestrator.show import show_rendered

if TYPE_CHECKING:
    from pandas import DataFrame

    from orchestrator.sheets import Sheet


@dataclass(frozen=True)
class Rivals:
    """What results are compared with: the settings `against`, or the numbers `published`, but for columns `across`.

    With neither it is the best of each sparsity and budget.
    """

    against: Sequence[str] = ()
    published: str | None = None
    across: Sequence[str] = ()


def differences(console: Console, folders: Sequence[str], question: Question, rivals: Rivals, format: str) -> None:
    """How far the means are from the best, from a setting, or from published ones."""
    from orchestrator import sheets

    show_rendered(console, sheets.render(_differences(folders, question, rivals), format))


def _differences(folders: Sequence[str], question: Question, rivals: Rivals) -> Sheet:
    from orchestrator import differences
    from orchestrator.conditions import setting
    from orchestrator.counterparts import read_across
    from orchestrator.published import load_published

    frame = _trials(folders, question)
    if rivals.published is None:
        against = dict(setting(frame, each) for each in rivals.against) or None
        return differences.differences(frame, question.metric, question.by, against)
    published, across = load_published(rivals.published), read_across(rivals.across)
    return differences.beside_published(frame, published, question.metric, across)


def _trials(folders: Sequence[str], question: Question) -> DataFrame:
    """Those that are asked about; with `best_by` those of the best settings."""
    from orchestrator import best, conditions, loading

    frame = conditions.where(loading.load_results(*folders), question.where)
    return best.select_best(frame, question.best_by, question.tolerance) if question.best_by else frame
