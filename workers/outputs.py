"""What networks give back: logits, or a tuple, mapping or object that has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from prunesweep.workers.errors import UserError

AUXILIARY = {"GoogLeNetOutputs": 0.3, "InceptionOutputs": 0.4}
"""torchvision's outputs with auxiliary logits, and what their authors weight each one's loss with (Szegedy et al. 2015,
section 5; torchvision's reference training for Inception)."""

SEGMENTATION = 0.5
"""What the loss of a segmentation network's auxiliary logits counts, in torchvision's reference training."""

KEYS = ("logits", "out")
"""Names of the logits in a mapping or an object: Hugging Face's, and torchvision's where there are several outputs."""


@dataclass(frozen=True)
class Outputs:
    """Logits [B, classes], and auxiliary logits of that shape, whose losses count `weight` each in training."""

    logits: Tensor
    auxiliary: tuple[Tensor, ...] = ()
    weight: float = 0.0


def read(outputs: Any) -> Outputs:
    """The logits in what a network gave back; `UserError` when there are none."""
    if isinstance(outputs, Tensor):
        return Outputs(_flat(outputs))
    if weight := AUXILIARY.get(type(outputs).__name__):
        logits, *auxiliary = outputs
        return Outputs(_flat(logits), tuple(a for a in auxiliary if a is not None), weight)
    if isinstance(outputs, Mapping) and outputs.keys() == {"out", "aux"}:
        return Outputs(outputs["out"], (outputs["aux"],), SEGMENTATION)
    logits = _logits(outputs)
    if not isinstance(logits, Tensor):
        raise UserError(
            f"its forward pass gives a {type(outputs).__name__}; it should return the logits, a tensor [images, "
            f'classes], or a tuple with them first, or a mapping with them as "{KEYS[0]}" or "{KEYS[1]}"'
        )
    return Outputs(_flat(logits))


def _logits(outputs: Any) -> Any:
    for name in KEYS:
        if isinstance(outputs, Mapping) and name in outputs:
            return outputs[name]
        if not isinstance(outputs, Mapping) and hasattr(outputs, name):
            return getattr(outputs, name)
    if isinstance(outputs, Mapping) and len(outputs) == 1:
        return next(iter(outputs.values()))
    return outputs[0] if isinstance(outputs, tuple | list) and outputs else None


def _flat(logits: Tensor) -> Tensor:
    """A map of one pixel is a vector."""
    one_pixel = logits.dim() > 2 and logits.shape[2:].numel() == 1
    return logits.flatten(1) if one_pixel else logits
