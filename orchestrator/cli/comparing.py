"""What `compare` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from prunesweep.orchestrator.cli.printing import show_rendered
from prunesweep.orchestrator.results.query import Query

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


def differences(console: Console, folders: Sequence[str], query: Query, rivals: Rivals, format: str) -> None:
    """How far the means are from the best, from a setting, or from published ones."""
    from prunesweep.orchestrator.tables import sheet

    show_rendered(console, sheet.render(_differences(folders, query, rivals), format))


def _differences(folders: Sequence[str], query: Query, rivals: Rivals) -> Sheet:
    from prunesweep.orchestrator.results.counterparts import read_across
    from prunesweep.orchestrator.results.filtering import setting
    from prunesweep.orchestrator.results.published import load_published
    from prunesweep.orchestrator.tables import compare as differences

    frame = _trials(folders, query)
    if rivals.published is None:
        against = dict(setting(frame, each) for each in rivals.against) or None
        return differences.differences(frame, query.metric, query.by, against)
    published, across = load_published(rivals.published), read_across(rivals.across)
    return differences.beside_published(frame, published, query.metric, across)


def _trials(folders: Sequence[str], query: Query) -> DataFrame:
    """Those that are asked about; with `best_by` those of the best settings."""
    from prunesweep.orchestrator.results import best_settings, filtering, parquet

    frame = filtering.where(parquet.load_results(*folders), query.where)
    return best_settings.select_best(frame, query.best_by, query.tolerance) if query.best_by else frame
