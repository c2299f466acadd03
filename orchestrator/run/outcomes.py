"""What each trial of a sweep asks for, and why those have failed that have: a frame for the tables of results."""

from __future__ import annotations

import pandas as pd

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.run.rows import settings_of
from prunesweep.orchestrator.status.status import failures
from prunesweep.workers.store import Store

FAILED = "failed"


def outcomes(plan: Plan, store: Store) -> pd.DataFrame:
    """A row per trial with the columns of its settings, and `failed`: the cause, None where it has not failed.

    A trial that waits for a failed stage has failed with that stage's cause.
    """
    causes = {failure.stage: failure.cause for failure in failures(plan, store)}
    frame = pd.DataFrame(settings_of(plan))
    last = [plan.last[trial.key] for trial in plan.sweep.trials]
    return frame.assign(**{FAILED: pd.Series([causes.get(plan.blocked.get(key, key)) for key in last], dtype=object)})
