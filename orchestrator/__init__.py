"""The logistics: sweeps, stages, Ray Tune, tables. `load_results` is handed on lazily: importing stays light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.results import load_results as load_results

__all__ = ["load_results"]


def __getattr__(name: str) -> Any:
    if name != "load_results":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from orchestrator.results import load_results

    return load_results
