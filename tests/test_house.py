"""The rules of the house: which package may import what, and what stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.methods import METHODS

ROOT = Path(__file__).parent.parent


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def test_workers_import_neither_ray_nor_the_orchestrator():
    offenders = [
        (f.name, name) for f in files("workers") for name in imports(f) if name.split(".")[0] in {"ray", "orchestrator"}
    ]
    assert offenders == []


def test_workers_need_only_the_packages_that_they_promise():
    allowed = {
        "torch",
        "torchvision",
        "torchcodec",
        "PIL",
        "numpy",
        "pyarrow",
        "fsspec",
        "safetensors",
        "sklearn",
        "timm",
        "workers",
        *sys.stdlib_module_names,
    }
    offenders = [(f.name, name) for f in files("workers") for name in imports(f) if name.split(".")[0] not in allowed]
    assert offenders == []


def test_ray_tune_is_imported_in_one_file():
    users = {
        f.name
        for f in files("orchestrator")
        for name in imports(f)
        if name.startswith("ray.tune") or name == "ray.tune"
    }
    users |= {f.name for f in files("orchestrator") if "from ray import tune" in f.read_text()}
    assert users == {"tune.py"}


def test_no_import_cycles():
    modules = {
        ".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f
        for p in ("workers", "orchestrator")
        for f in files(p)
    }
    graph = {name: {i for i in module_level_imports(f) if i in modules and i != name} for name, f in modules.items()}
    done: set[str] = set()
    while ready := {name for name, needs in graph.items() if name not in done and needs <= done}:
        done |= ready
    assert set(graph) - done == set()


def module_level_imports(path: Path) -> Iterator[str]:
    """Imports that run when the module is loaded: not those in functions, nor under TYPE_CHECKING."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from inner
            if not all((ROOT / (name.replace(".", "/") + ".py")).exists() for name in inner):
                yield node.module


@pytest.mark.parametrize(
    "module",
    [
        "workers.spec",
        "workers.store",
        "workers.methods",
        *(f"workers.methods.{name}" for name in METHODS),
        "workers.models",
        "workers.data",
        "orchestrator.sweep",
        "orchestrator.plan",
        "orchestrator.cli",
    ],
)
def test_planning_loads_neither_torch_nor_ray(module: str):
    code = (
        f"import sys, {module}; print([m for m in ('torch', 'ray', 'pandas', 'scipy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
