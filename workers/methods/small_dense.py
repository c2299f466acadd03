"""A narrower dense network of about as many weights: what every sparse network must beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from prunesweep.workers import models
from prunesweep.workers.accounting import Forward
from prunesweep.workers.errors import SpecError, UserError
from prunesweep.workers.methods.base import Method, hyperparameter
from prunesweep.workers.spec import Choice, Stage, TrialSpec


class SmallDense(Method):
    """Plain training of a network with fewer channels in each layer (Zhu & Gupta 2017, section 4; Evci et al. 2020).

    All layers are multiplied by one factor, and channels rounded, so that the prunable weights come as near to
    (1 - s) n as they can. How near that is `reached_sparsity` says: 1 - (its weights / those of the full network).
    All that compares it is relative to the full network: parameters, multiply-adds, ratios and training FLOPs.
    Of a network of one's own the options named by `scales` are multiplied: whole numbers are rounded, others are not.

    Values: none; the network decides which sizes there are.

    Cost per step: that of the narrower network.
    """

    prunes: ClassVar[bool] = False
    narrows: ClassVar[bool] = True
    not_from_trained = "its network has other shapes than the weights; take dense as the control"

    scales: tuple[str, ...] | None = hyperparameter(
        "options of a network of one's own that are multiplied to make it narrower, such as [width]", None, later=True
    )

    def check(self, trial: TrialSpec) -> None:
        """The network must be one that can have fewer channels, and none that has fewer already."""
        if self.scales and not models.is_own(trial.model):
            raise SpecError("scales", f"{trial.model.name} is made narrower by itself, or not at all; leave it out")
        if models.SIZE in trial.model.settings and not models.is_own(trial.model):
            raise SpecError("model", "small_dense: its sparsity says how small the network is; leave size out")
        self._model(trial)

    def stage(self, trial: TrialSpec) -> Stage:
        """A training of the narrower network."""
        return trial.root(model=self._model(trial))

    def _model(self, trial: TrialSpec) -> Choice:
        try:
            narrower = models.narrower(trial.model, round(1.0 - trial.sparsity, 12), self.scales or ())
        except UserError as error:
            raise SpecError("scales", str(error)) from error
        if narrower is None and models.is_own(trial.model):
            raise SpecError(
                "scales", f"missing: the options that the channels of {trial.model.name} go by, such as scales: [width]"
            )
        if narrower is None:
            raise SpecError("model", f"small_dense: {trial.model} cannot be made narrower; {models.NARROWABLE_NAMES}")
        return narrower

    def forward_passes(self, forward: Forward) -> Sequence[float]:
        """It has the same weights in all epochs."""
        return forward.held()
