"""torch and NumPy, loaded when they are first used: what is imported to check sweep files names them at its top.

    from prunesweep.workers.lazy import torch

Annotations may name `torch.Tensor` (they are not evaluated, by `from __future__ import annotations`); base classes and
decorators at the top level of a file may not.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch as torch

    __all__ = ["np", "torch"]


class LazyModule(ModuleType):
    """A module by name, imported at the first look at one of its attributes; each is looked up once."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # who inspects modules must not load it
            raise AttributeError(name)
        value = getattr(import_module(self.__name__), name)
        setattr(self, name, value)
        return value


if not TYPE_CHECKING:
    np, torch = LazyModule("numpy"), LazyModule("torch")
