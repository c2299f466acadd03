"""The rules of the house: which package may import what, and what stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prunesweep.workers.methods import METHODS

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


def packages_of(path: Path) -> set[str]:
    """The packages that a file imports; of ours the two rooms at the top."""
    names = (name.split(".") for name in imports(path))
    return {".".join(name[:2]) if name[0] == "prunesweep" else name[0] for name in names}


def test_workers_import_neither_ray_nor_the_orchestrator():
    forbidden = {"ray", "prunesweep", "prunesweep.orchestrator"}
    offenders = [(path.name, packages_of(path) & forbidden) for path in files("workers")]
    assert [offender for offender in offenders if offender[1]] == []


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
        "prunesweep.workers",
        *sys.stdlib_module_names,
    }
    offenders = [(path.name, name) for path in files("workers") for name in packages_of(path) - allowed]
    assert offenders == []


def test_the_folders_are_imported_by_the_project_s_name_only():
    """`import workers` would find any other project's folder of that name."""
    everywhere = [
        path for folder in ("workers", "orchestrator", "tests", "benchmarks", "docs") for path in files(folder)
    ]
    offenders = [path.name for path in everywhere if packages_of(path) & {"workers", "orchestrator"}]
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


def modules() -> dict[str, Path]:
    """Every module by its full name."""
    paths = [path for package in ("workers", "orchestrator") for path in files(package)]
    named = {path: ".".join(("prunesweep", *path.relative_to(ROOT).with_suffix("").parts)) for path in paths}
    return {name.removesuffix(".__init__"): path for path, name in named.items()}


def test_no_import_cycles():
    known = modules()
    graph = {name: {i for i in module_level_imports(f) if i in known and i != name} for name, f in known.items()}
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
        "prunesweep.workers.spec",
        "prunesweep.workers.store",
        "prunesweep.workers.methods",
        *(f"prunesweep.workers.methods.{name}" for name in METHODS),
        "prunesweep.workers.models",
        "prunesweep.workers.data",
        "prunesweep.orchestrator.sweepfile.read",
        "prunesweep.orchestrator.plan",
        "prunesweep.orchestrator.cli.main",
    ],
)
def test_planning_loads_neither_torch_nor_ray(module: str):
    code = (
        f"import sys, {module}; print([m for m in ('torch', 'ray', 'pandas', 'scipy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
