"""Which trials of a sweep a run is about: those of `--only` and `--trial`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunesweep.orchestrator.plan import Plan
from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import TrialSpec


@dataclass(frozen=True)
class Choosing:
    """Trials that meet all the conditions, and whose key begins with `key`."""

    conditions: Sequence[str] = ()
    key: str | None = None

    def trials(self, plan: Plan) -> list[TrialSpec]:
        """The chosen trials of a plan, in its order; raises `UserError` when there is none."""
        chosen = [trial for trial in plan.sweep.trials if trial.key.startswith(self.key or "")]
        if not (self.key or self.conditions):
            return chosen
        if not plan.sweep.trials:
            raise UserError("no trial of the sweep is known yet: all are winners of searches, which are run first")
        if not chosen:
            count, one = len(plan.sweep.trials), plan.sweep.trials[0].key
            raise UserError(f'--trial: "{self.key}" begins no key of the {count:,} trials; one of them is {one}')
        if self.conditions:
            keys = self._meeting(plan)
            chosen = [trial for trial in chosen if trial.key in keys]
        if not chosen:
            raise UserError(f"no trial of the sweep is chosen: none meets {' and '.join(self.conditions)}")
        return chosen

    def _meeting(self, plan: Plan) -> set[str]:
        import pandas as pd

        from prunesweep.orchestrator.results.filtering import where
        from prunesweep.orchestrator.run.rows import settings_of

        trials = pd.DataFrame(settings_of(plan))
        return set(where(trials.assign(sparsity=trials["target_sparsity"]), self.conditions)["trial"])


ALL_TRIALS = Choosing()
