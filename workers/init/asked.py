"""The trained weights that a trial asks for, as a frozen value of its key. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunesweep.workers.encoding import remark


@dataclass(frozen=True)
class Init:
    """The trained weights that a network starts from; `train` then describes the training that they come from.

    What is not known of that is `UNSAID`. With `fine_tunes` it is the training that starts from them. `weights` is
    the hash of their content (`workers.init.reading`); in what a sweep file asks for, before a plan is made of it, it
    is where they are (`workers.init.places`). With `new_head` the classifier starts from random weights. `source` names
    the weights for people.
    """

    weights: str
    new_head: bool = False
    fine_tunes: bool = False
    source: str = remark("")

    @classmethod
    def of(cls, given: Mapping[str, Any], *, new_head: bool = False, fine_tunes: bool = False) -> Init:
        """What a sweep file says: `{"path": "resnet18.pth"}`, `{"torchvision": "IMAGENET1K_V1"}` and so on."""
        said = {name: value for name, value in given.items() if name != "head"}
        return cls(json.dumps(said, sort_keys=True), new_head or "head" in given, fine_tunes)

    @property
    def given(self) -> dict[str, Any] | None:
        """That again, of weights that are not read yet; None where their hash is known."""
        return json.loads(self.weights) if self.weights.startswith("{") else None

    def __str__(self) -> str:
        head = ", new head" if self.new_head else ""
        return f"{self.source} {self.weights[:6]}{head}" if self.source else f"{self.weights[:6]}{head}"


UNSAID: Mapping[str, int | float | str] = {"epochs": 0, "lr": 0.0, "schedule": ""}
"""Of a training that nobody has described; no training has these."""
