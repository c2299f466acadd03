"""JSON's values as tensors of bytes, which a file of tensors can hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from prunesweep.workers.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

from prunesweep.workers.seal import parsed

JSON = ":json"
"""Ends the name of what is no tensor; no name of a module has a colon."""


def as_json(name: str, value: Any) -> Tensor:
    """Raises `TypeError` where it is none of JSON's values."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is a {type(value).__name__}: {error}; tensors and JSON can be stored") from error
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def from_json(tensor: Tensor) -> Any:
    """What `as_json` made the tensor of; raises `ValueError` for what is no JSON."""
    return parsed(bytes(tensor.tolist()))
