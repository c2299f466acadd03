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
    from prunesweep.orchestrator.results.pareto import pareto as pareto
    from prunesweep.orchestrator.results.parquet import load_curves as load_curves
    from prunesweep.orchestrator.results.parquet import load_layers as load_layers
    from prunesweep.orchestrator.results.parquet import load_results as load_results
    from prunesweep.orchestrator.results.published import load_published as load_published
    from prunesweep.workers.errors import SpecError as SpecError
    from prunesweep.workers.errors import UserError as UserError
    from prunesweep.workers.flat import Flat as Flat
    from prunesweep.workers.methods.base import Method as Method
    from prunesweep.workers.methods.base import hyperparameter as hyperparameter
    from prunesweep.workers.methods.pruner import Pruner as Pruner
    from prunesweep.workers.methods.pruner import Setup as Setup
    from prunesweep.workers.selection import apply_masks as apply_masks
    from prunesweep.workers.selection import kept as kept
    from prunesweep.workers.selection import largest as largest
    from prunesweep.workers.selection import magnitude_masks as magnitude_masks
    from prunesweep.workers.swap import gradients as gradients
    from prunesweep.workers.swap import masked as masked
    from prunesweep.workers.swap import swapped as swapped

_PLACES = {
    "Flat": "workers.flat",
    "Method": "workers.methods.base",
    "Pruner": "workers.methods.pruner",
    "Setup": "workers.methods.pruner",
    "SpecError": "workers.errors",
    "UserError": "workers.errors",
    "aggregate": "orchestrator.results.aggregation",
    "apply_masks": "workers.selection",
    "compare": "orchestrator.results.compare",
    "gradients": "workers.swap",
    "hyperparameter": "workers.methods.base",
    "kept": "workers.selection",
    "largest": "workers.selection",
    "load_curves": "orchestrator.results.parquet",
    "load_layers": "orchestrator.results.parquet",
    "load_published": "orchestrator.results.published",
    "load_results": "orchestrator.results.parquet",
    "magnitude_masks": "workers.selection",
    "masked": "workers.swap",
    "pareto": "orchestrator.results.pareto",
    "select_best": "orchestrator.results.best_settings",
    "swapped": "workers.swap",
}

__all__ = [
    "Flat",
    "Method",
    "Pruner",
    "Setup",
    "SpecError",
    "UserError",
    "aggregate",
    "apply_masks",
    "compare",
    "gradients",
    "hyperparameter",
    "kept",
    "largest",
    "load_curves",
    "load_layers",
    "load_published",
    "load_results",
    "magnitude_masks",
    "masked",
    "pareto",
    "select_best",
    "swapped",
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
