"""The logistics: sweeps, stages, Ray Tune, tables. What reads results is handed on lazily: importing stays light."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.best import select_best as select_best
    from orchestrator.results import aggregate as aggregate
    from orchestrator.results import load_curves as load_curves
    from orchestrator.results import load_layers as load_layers
    from orchestrator.results import load_results as load_results

_PLACES = {
    "aggregate": "orchestrator.results",
    "load_curves": "orchestrator.results",
    "load_layers": "orchestrator.results",
    "load_results": "orchestrator.results",
    "select_best": "orchestrator.best",
}

__all__ = ["aggregate", "load_curves", "load_layers", "load_results", "select_best"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
