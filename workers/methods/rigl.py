"""The rigged lottery: dynamic sparse training by gradients."""

from __future__ import annotations

from collections.abc import Sequence

from prunesweep.workers.accounting import updating
from prunesweep.workers.lazy import torch
from prunesweep.workers.methods.dynamic import Dynamic, DynamicPruner
from prunesweep.workers.swap import gradients


class RigL(Dynamic):
    """The rigged lottery (Evci et al. 2020, section 3): sparse throughout, grown where gradients are large.

    Starts as `static`. At iteration t = dT, 2 dT, ... below T_end = 0.75 T, in the place of the optimizer's step, each
    layer with z weights drops the d = floor(f z) smallest, f = alpha/2 (1 + cos(pi t / T_end)), and grows the d of
    those it does not keep with the largest |dL/dw|. What is dropped and grown at once keeps its value; all else starts
    at zero, without momentum.

    Values: dT 100, alpha 0.3 (Evci et al.); ITOP (Liu et al. 2021): alpha 0.5, dT 4000.
    The authors' code also updates at t = 0, stops at 0.77 T for ResNet-50, and has a constant f unless told otherwise;
    layers that do not train keep their masks here.

    Cost per step: one multiplication of the gradients with the mask; two selections in each layer an update.
    """

    needs_gradients = True

    def multiply_adds(self, dense: float, sparse: float) -> float:
        """(3 f_S dT + 2 f_S + f_D) / (dT + 1): an update's weight gradients are dense (appendix H)."""
        return updating(dense, sparse, self.update_interval)


class RigLPruner(DynamicPruner, method=RigL):
    """What RigL does."""

    def growth(self) -> Sequence[torch.Tensor]:
        """The gradients of the loss at the sparse weights, those of masked weights included."""
        return gradients(self.trained)
