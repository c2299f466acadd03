"""The logistics: sweeps, stages, Ray Tune, tables. What reads results is handed on lazily: importing stays light."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.best import select_best as select_best
    from orchestrator.results import load_results as load_results

__all__ = ["load_results", "select_best"]

_PLACES = {"load_results": "orchestrator.results", "select_best": "orchestrator.best"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
