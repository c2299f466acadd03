"""Large sweeps over neural-network pruning methods: which way of making a network sparse is best?

These names are the public interface, described in docs/python.md; everything else is private. They are loaded when they
are first used, so that importing prunesweep loads neither torch nor Ray.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunesweep.orchestrator.results.aggregation import aggregate as aggregate
    from prunesweep.orchestrator.results.best_settings import select_best as select_best
    from prunesweep.orchestrator.results.compare import compare as compare
    from prunesweep.orchestrator.results.compare import pareto as pareto
    from prunesweep.orchestrator.results.parquet import load_curves as load_curves
    from prunesweep.orchestrator.results.parquet import load_layers as load_layers
    from prunesweep.orchestrator.results.parquet import load_results as load_results
    from prunesweep.orchestrator.results.published import load_published as load_published

_PLACES = {
    "aggregate": "orchestrator.results.aggregation",
    "compare": "orchestrator.results.compare",
    "load_curves": "orchestrator.results.parquet",
    "load_layers": "orchestrator.results.parquet",
    "load_published": "orchestrator.results.published",
    "load_results": "orchestrator.results.parquet",
    "pareto": "orchestrator.results.compare",
    "select_best": "orchestrator.results.best_settings",
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


if not (Path(__file__).parent / "workers").is_dir():
    raise ImportError(
        "prunesweep/orchestrator and prunesweep/workers are no folders here: they are links to the folders beside "
        "prunesweep, and git, or what unpacked them, wrote files. In a clone (on Windows in developer mode) run "
        "`git config core.symlinks true` and `git checkout -- prunesweep`, then install again"
    )


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
