"""The keys of `search` in a trial block."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from prunesweep.orchestrator.search.space import Space
from prunesweep.orchestrator.search.spec import ALGORITHMS, VALIDATION, Rungs
from prunesweep.orchestrator.search.target import MOST_TRIES, Target
from prunesweep.orchestrator.sweepfile.document import Loc
from prunesweep.orchestrator.sweepfile.settings import SPARSITY, explained, setting
from prunesweep.orchestrator.sweepfile.validation import Settings, strict_model

BUDGETS = re.compile(r"([0-9]{1,6})(x| epochs)")

JUDGES = ("both", "unpruned")
"""What is compared at a rung; the first is the default."""

_SHARE = r"^[0-9]{1,2}(\.[0-9]{1,6})?%$"
_SPACE = explained(
    Annotated[dict[str, Any], Field(min_length=1)],
    "a mapping from settings to ranges or lists, such as {train.lr: {log: [0.01, 0.5]}}, or from methods to such",
)
_ONE_BUDGET = Annotated[str, Field(pattern=f"^{BUDGETS.pattern}$")]
_SEARCH_BUDGET = explained(
    _ONE_BUDGET | Annotated[dict[str, _ONE_BUDGET], Field(min_length=1)],
    "trainings or epochs, such as 16x or 320 epochs, or an amount for each method, such as {gmp: 16x, imp: 14x}",
)
_BY = explained(
    Annotated[str, Field(pattern=rf"^{VALIDATION}\w{{1,100}}$")],
    "validation_loss, or a metric of the task such as validation_accuracy; what is chosen by test images can't be "
    "measured on them",
)
_ALGORITHM = explained(
    Annotated[str, Field(pattern=f"^({'|'.join(ALGORITHMS)})$")],
    f"one of {', '.join(ALGORITHMS)}; not gp, whose proposals may differ between machines: take tpe",
)
_RUNG = explained(Annotated[str, Field(pattern=_SHARE)], "a percentage of a training, such as 10%")
_FACTOR = explained(Annotated[int, Field(ge=2, le=10)], "a whole number of 2 to 10: one in so many goes on")
_JUDGE = explained(
    Annotated[str, Field(pattern=f"^({'|'.join(JUDGES)})$")],
    "both, which compares networks as they are and copies that are pruned to the sparsity asked, or unpruned",
)
_COUNT = explained(Annotated[int, Field(ge=1, le=100)], "a whole number of 1 to 100")

_RUNGS = strict_model(
    "rungs",
    {
        "from": (_RUNG, "10%", "how much of a training all candidates get"),
        "factor": (_FACTOR, 3, "by how much each rung is longer, and to how much fewer candidates"),
        "judge": (
            _JUDGE,
            JUDGES[0],
            "what is compared: the network as it is and a copy pruned to the sparsity asked, or it alone",
        ),
    },
)
_WITHIN = explained(Annotated[float, Field(gt=0, lt=0.5)], "a difference of sparsities above 0, such as 0.005")
_TRIES = explained(Annotated[int, Field(ge=2, le=MOST_TRIES)], f"a whole number of 2 to {MOST_TRIES}")
_TARGET = strict_model(
    "target",
    {
        "sparsity": (setting(SPARSITY), None, "the sparsity, or several as an axis; default: the block's"),
        "within": (_WITHIN, 0.005, "how near to it a candidate must come by itself"),
        "tries": (_TRIES, 8, "how often each point of the space is trained at most, until it does"),
    },
)
SEARCH: Settings = {
    "space": (_SPACE, ..., "settings to choose, each with a range or a list of values; or such a mapping per method"),
    "budget": (_SEARCH_BUDGET, ..., "what is spent on each method: trainings (16x) or epochs (320 epochs)"),
    "by": (_BY, None, "what the winner is best by; default: the task's primary metric on validation images"),
    "algorithm": (_ALGORITHM, "random", "how candidates are chosen"),
    "target": (_TARGET, None, "a sparsity to come to, of methods that are not told one: str, dst, cs"),
    "rungs": (_RUNGS, None, "of halving: when candidates are compared"),
    "seeds": (_COUNT, 1, "a candidate is judged by the mean over so many of the sweep's seeds"),
}
SEARCH_MODEL = strict_model("search", SEARCH)


@dataclass(frozen=True)
class Request:
    """A block's `search` for one of its methods."""

    loc: Loc
    space: Space
    budget: str
    own_budget: bool
    by: str | None
    algorithm: str
    rungs: Rungs | None
    seeds: int
    target: Target | None = None

    @property
    def settings(self) -> Space:
        """All that candidates differ in."""
        return (*self.space, self.target.steer) if self.target else self.space
