"""The logistics: sweeps, stages, Ray Tune, tables. What reads results is handed on lazily: importing stays light."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.best import select_best as select_best
    from orchestrator.comparing import compare as compare
    from orchestrator.comparing import pareto as pareto
    from orchestrator.loading import load_curves as load_curves
    from orchestrator.loading import load_layers as load_layers
    from orchestrator.loading import load_results as load_results
    from orchestrator.published import load_published as load_published
    from orchestrator.results import aggregate as aggregate

_PLACES = {
    "aggregate": "orchestrator.results",
    "compare": "orchestrator.comparing",
    "load_curves": "orchestrator.loading",
    "load_layers": "orchestrator.loading",
    "load_published": "orchestrator.published",
    "load_results": "orchestrator.loading",
    "pareto": "orchestrator.comparing",
    "select_best": "orchestrator.best",
}

__all__ = [
    "aggregate",
    "compare",
    "load_curves",
    "load_layers",
    "load_published",
    "load_results",
    "pareto",
    "select_best",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
