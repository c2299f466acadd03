"""`validation: {fraction: 0.2, seed: 0}`: how the validation images of a block's datasets are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prunesweep.orchestrator.sweepfile.document import Loc, Problem, Rejected
from prunesweep.workers import data
from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import Choice

KEY = "validation"


def drawn(dataset: Choice, settings: Mapping[str, Any], around: Mapping[str, Any], loc: Loc) -> Choice:
    """The dataset with the validation images that a block at `loc` asks for, or the file `around`; raises `Rejected`.

    Whoever says anything of it gets images of each class in their share, unless told otherwise.
    """
    given = {**around.get(KEY, {}), **settings.get(KEY, {})}
    if not given:
        return dataset
    options = {f"validation_{name}": value for name, value in given.items() if name != "stratify"}
    try:
        return data.with_validation(dataset, {"stratify": given.get("stratify", True), **options})
    except UserError as error:
        place: Loc = (*loc, KEY) if KEY in settings else (KEY,)
        raise Rejected(Problem(place, str(error))) from error
