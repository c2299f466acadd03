"""How the templates of the report and of the live page are filled in: everything that others wrote is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from itertools import groupby
from typing import Any

from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader, StrictUndefined

from prunesweep.orchestrator.figures.kinds import KINDS
from prunesweep.orchestrator.report import settings
from prunesweep.orchestrator.report.answer import for_readers
from prunesweep.orchestrator.tables.wording import words
from prunesweep.orchestrator.text import counted, duration, for_html, size

OWN = "prunesweep.orchestrator.report"

MOST_COLUMNS = 6
"""So many fit on paper beside each other; the other columns of a comparison come below."""


def environment(*more: BaseLoader) -> Environment:
    """The report's templates, and more of them, with what they all use."""
    made = Environment(
        loader=ChoiceLoader([*more, PackageLoader(OWN, "")]),
        autoescape=True,
        finalize=_clean,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"duration": duration, "size": size, "words": words, "counted": counted}
    made.globals |= {
        "kinds": KINDS,
        "settings": settings,
        "for_readers": for_readers,
        "most_columns": MOST_COLUMNS,
        "groups": _groups,
    }
    return made


def asset(name: str, package: str = OWN) -> str:
    """The text of a style sheet or script that lies beside the modules of a package."""
    return files(package).joinpath(name).read_text()


def _clean(value: Any) -> Any:
    return for_html(value) if type(value) is str else value


def _groups(columns: Sequence[Sequence[str]]) -> list[tuple[str, int]]:
    """The upper labels of the columns, each with how many are below it."""
    return [(first, len(list(same))) for first, same in groupby(first for first, *_ in columns)]
