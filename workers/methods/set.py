"""Sparse evolutionary training."""

from __future__ import annotations

from collections.abc import Sequence

from prunesweep.workers.lazy import torch
from prunesweep.workers.methods.dynamic import Dynamic, DynamicPruner
from prunesweep.workers.seeding import derive


class SET(Dynamic):
    """Sparse evolutionary training (Mocanu et al. 2018), in the form in which Evci et al. 2020 compare with it.

    As `rigl`, but for what grows: d weights of those that a layer does not keep, drawn uniformly by the trial's seed.

    Values: dT 100, alpha 0.3 (Evci et al.); ITOP (Liu et al. 2021): alpha 0.5, dT 1500.
    The original drops the smallest positive and the largest negative weights after every epoch; the code of Evci et al.
    takes the optimizer's step before an update, here an update takes its place, as in RigL.

    Cost per step: one multiplication of the gradients with the mask; two selections in each layer an update.
    """

    needs_gradients = True


class SETPruner(DynamicPruner, method=SET):
    """What SET does."""

    def growth(self) -> Sequence[torch.Tensor]:
        """Uniform draws, which are a function of seed and iteration."""
        generator = torch.Generator().manual_seed(derive(self.seed, "growth", self.iteration))
        draws = (torch.rand(weight.shape, generator=generator) for weight in self.trained)
        return [torch.empty_like(w.detach()).copy_(draw) for w, draw in zip(self.trained, draws, strict=True)]
