"""Large sweeps over neural-network pruning methods: which way of making a network sparse is best?

These names are the public interface, described in docs/python.md; everything else is private. They are loaded when they
are first used, so that importing prunesweep loads neither torch nor Ray.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

_MODULES = {
    "Choice": "workers.spec",
    "ClassScore": "workers.tasks.base",
    "Dataset": "workers.data.base",
    "Flat": "workers.flat",
    "InMemory": "workers.data.memory",
    "Init": "workers.spec",
    "Method": "workers.methods.base",
    "Metric": "workers.tasks.base",
    "Plan": "orchestrator.plan",
    "Pruner": "workers.methods.pruner",
    "Scope": "workers.spec",
    "Setup": "workers.methods.pruner",
    "SpecError": "workers.errors",
    "Split": "workers.data.memory",
    "Steering": "workers.methods.base",
    "Sweep": "orchestrator.sweep",
    "Task": "workers.tasks.base",
    "TooManyFailures": "orchestrator.run.stopping",
    "TrainSpec": "workers.spec",
    "TrialSpec": "workers.spec",
    "UserError": "workers.errors",
    "aggregate": "orchestrator.results.aggregation",
    "apply_masks": "workers.selection",
    "build_model": "orchestrator.api",
    "channel_statistics": "workers.data.memory",
    "check": "orchestrator.api",
    "check_method": "orchestrator.api",
    "compare": "orchestrator.results.compare",
    "gradients": "workers.swap",
    "hyperparameter": "workers.methods.base",
    "kept": "workers.selection",
    "largest": "workers.selection",
    "load_candidates": "orchestrator.api",
    "load_classes": "orchestrator.api",
    "load_curves": "orchestrator.api",
    "load_layers": "orchestrator.api",
    "load_published": "orchestrator.results.published",
    "load_results": "orchestrator.api",
    "load_sweep": "orchestrator.lookup",
    "magnitude_masks": "workers.selection",
    "masked": "workers.swap",
    "pareto": "orchestrator.results.pareto",
    "plan": "orchestrator.api",
    "prunable": "workers.prunable",
    "random_masks": "workers.selection",
    "record": "workers.recording",
    "run": "orchestrator.api",
    "select_best": "orchestrator.results.best_settings",
    "split_validation": "workers.data.memory",
    "swapped": "workers.swap",
    "torch": "workers.lazy",
}

__all__ = sorted(_MODULES)

if not (Path(__file__).parent / "workers").is_dir():
    raise ImportError(
        "prunesweep/orchestrator and prunesweep/workers are no folders here: they are links to the folders beside "
        "prunesweep, and git, or what unpacked them, wrote files. In a clone (on Windows in developer mode) run "
        "`git config core.symlinks true` and `git checkout -- prunesweep`, then install again"
    )

if TYPE_CHECKING:
    from prunesweep.orchestrator.api import build_model as build_model
    from prunesweep.orchestrator.api import check as check
    from prunesweep.orchestrator.api import check_method as check_method
    from prunesweep.orchestrator.api import load_candidates as load_candidates
    from prunesweep.orchestrator.api import load_classes as load_classes
    from prunesweep.orchestrator.api import load_curves as load_curves
    from prunesweep.orchestrator.api import load_layers as load_layers
    from prunesweep.orchestrator.api import load_results as load_results
    from prunesweep.orchestrator.api import plan as plan
    from prunesweep.orchestrator.api import run as run
    from prunesweep.orchestrator.lookup import load_sweep as load_sweep
    from prunesweep.orchestrator.plan import Plan as Plan
    from prunesweep.orchestrator.results.aggregation import aggregate as aggregate
    from prunesweep.orchestrator.results.best_settings import select_best as select_best
    from prunesweep.orchestrator.results.compare import compare as compare
    from prunesweep.orchestrator.results.pareto import pareto as pareto
    from prunesweep.orchestrator.results.published import load_published as load_published
    from prunesweep.orchestrator.run.stopping import TooManyFailures as TooManyFailures
    from prunesweep.orchestrator.sweep import Sweep as Sweep
    from prunesweep.workers.data.base import Dataset as Dataset
    from prunesweep.workers.data.memory import InMemory as InMemory
    from prunesweep.workers.data.memory import Split as Split
    from prunesweep.workers.data.memory import channel_statistics as channel_statistics
    from prunesweep.workers.data.memory import split_validation as split_validation
    from prunesweep.workers.errors import SpecError as SpecError
    from prunesweep.workers.errors import UserError as UserError
    from prunesweep.workers.flat import Flat as Flat
    from prunesweep.workers.lazy import torch as torch
    from prunesweep.workers.methods.base import Method as Method
    from prunesweep.workers.methods.base import Steering as Steering
    from prunesweep.workers.methods.base import hyperparameter as hyperparameter
    from prunesweep.workers.methods.pruner import Pruner as Pruner
    from prunesweep.workers.methods.pruner import Setup as Setup
    from prunesweep.workers.prunable import prunable as prunable
    from prunesweep.workers.recording import record as record
    from prunesweep.workers.selection import apply_masks as apply_masks
    from prunesweep.workers.selection import kept as kept
    from prunesweep.workers.selection import largest as largest
    from prunesweep.workers.selection import magnitude_masks as magnitude_masks
    from prunesweep.workers.selection import random_masks as random_masks
    from prunesweep.workers.spec import Choice as Choice
    from prunesweep.workers.spec import Init as Init
    from prunesweep.workers.spec import Scope as Scope
    from prunesweep.workers.spec import TrainSpec as TrainSpec
    from prunesweep.workers.spec import TrialSpec as TrialSpec
    from prunesweep.workers.swap import gradients as gradients
    from prunesweep.workers.swap import masked as masked
    from prunesweep.workers.swap import swapped as swapped
    from prunesweep.workers.tasks.base import ClassScore as ClassScore
    from prunesweep.workers.tasks.base import Metric as Metric
    from prunesweep.workers.tasks.base import Task as Task
else:

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

    def __dir__() -> list[str]:
        return list(__all__)
