"""Plain training: the control of every comparison, and the network that pruning starts from."""

from __future__ import annotations

from typing import ClassVar

from prunesweep.workers.methods.base import Method


class Dense(Method):
    """Training without sparsification.

    Cost per step: none beyond the training itself.
    """

    prunes: ClassVar[bool] = False
    takes_sparsity: ClassVar[bool] = False
