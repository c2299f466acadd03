"""What `compare` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from prunesweep.orchestrator.cli.printing import show_rendered
from prunesweep.orchestrator.results.question import Question

if TYPE_CHECKING:
    from pandas import DataFrame

    from prunesweep.orchestrator.tables.sheet import Sheet


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
    from prunesweep.orchestrator.tables import sheet

    show_rendered(console, sheet.render(_differences(folders, question, rivals), format))


def _differences(folders: Sequence[str], question: Question, rivals: Rivals) -> Sheet:
    from prunesweep.orchestrator.results.conditions import setting
    from prunesweep.orchestrator.results.counterparts import read_across
    from prunesweep.orchestrator.results.published import load_published
    from prunesweep.orchestrator.tables import differences

    frame = _trials(folders, question)
    if rivals.published is None:
        against = dict(setting(frame, each) for each in rivals.against) or None
        return differences.differences(frame, question.metric, question.by, against)
    published, across = load_published(rivals.published), read_across(rivals.across)
    return differences.beside_published(frame, published, question.metric, across)


def _trials(folders: Sequence[str], question: Question) -> DataFrame:
    """Those that are asked about; with `best_by` those of the best settings."""
    from prunesweep.orchestrator.results import best, conditions, loading

    frame = conditions.where(loading.load_results(*folders), question.where)
    return best.select_best(frame, question.best_by, question.tolerance) if question.best_by else frame
