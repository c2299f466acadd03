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

ROOMS = (
    *("workers", "text", "provenance", "labels", "glossary", "resources", "results", "tables", "figures", "search"),
    *(
        "sweep",
        "sweepfile",
        "index",
        "forest",
        "counts",
        "plan",
        "records",
        "versions",
        "lookup",
        "export",
        "status",
        "run",
        "jobs",
    ),
    *("report", "ui", "api", "cli"),
)
"""The rooms of the orchestrator, above `workers`: each imports only from those before it."""

EMPTY_NAMES = {"found", "each", "thing", "things", "it"}
"""They name nothing: a variable is called what it holds."""

EMPTY_NAMES_LEFT = {"orchestrator": 0, "workers": 0, "tests": 116, "benchmarks": 13}


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
        "obstore",
        "safetensors",
        "sklearn",
        "timm",
        "transformers",
        "tokenizers",
        "huggingface_hub",
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


def test_ray_tune_is_imported_where_trials_are_run_and_where_its_private_parts_are():
    users = {
        f.name
        for f in files("orchestrator")
        for name in imports(f)
        if name.startswith("ray.tune") or name == "ray.tune"
    }
    users |= {f.name for f in files("orchestrator") if "from ray import tune" in f.read_text()}
    assert users == {"tune.py", "ray_internals.py"}


def private_uses(path: Path) -> Iterator[str]:
    """Private modules that a file imports, and private attributes of what is not its own."""
    own = {"self", "cls"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if not (isinstance(node.value, ast.Name) and node.value.id in own):
                yield node.attr
        elif isinstance(node, ast.Import | ast.ImportFrom):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (name for name in named if "._" in name)


def test_the_private_parts_of_ray_are_used_in_one_file():
    """Of `run` and `jobs`, the rooms that import Ray: they touch nobody's private attributes at all."""
    users = {f.name: sorted(private_uses(f)) for room in ("run", "jobs") for f in files(f"orchestrator/{room}")}
    assert users.pop("ray_internals.py"), "the check sees something"
    users = {name: used for name, used in users.items() if used}
    assert users == {"stopping.py": ["_exit"], "cluster.py": ["_exit"], "team.py": ["_exit", "_exit"]}


def test_no_other_room_imports_ray():
    users = {f.parent.name for f in files("orchestrator") for name in imports(f) if name.split(".")[0] == "ray"}
    assert users <= {"run", "jobs", "cli"}


def renames(path: Path) -> list[str]:
    """Calls that rename a file: of `Path` with one argument, and of `os`."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    methods = [c.func.attr for c in calls if isinstance(c.func, ast.Attribute) and len(c.args) == 1 and not c.keywords]
    of_os = [ast.unparse(call.func) for call in calls]
    return [name for name in methods if name in ("replace", "rename")] + [
        n for n in of_os if n.startswith(("os.rename", "os.replace"))
    ]


def test_files_are_written_beside_their_place_and_renamed_in_one_module():
    users = {f.name: renames(f) for package in ("orchestrator", "workers") for f in files(package)}
    renaming = {"appearing.py": ["rename", "replace", "replace"], "filesystems.py": ["replace"]}
    assert {name: used for name, used in users.items() if used} == renaming


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


def room(module: str) -> str:
    """`prunesweep.orchestrator.run.queue` is in `run`, `prunesweep.orchestrator.plan` in `plan`."""
    _, package, *below = module.split(".")
    return below[0] if package == "orchestrator" and below else package


def test_rooms_import_one_way():
    known = {name: path for name, path in modules().items() if name != "prunesweep.orchestrator"}
    arrows = [(name, target) for name, path in known.items() for target in imports(path) if target in known]
    assert {room(name) for name in known} == set(ROOMS)
    assert [(a, b) for a, b in arrows if ROOMS.index(room(a)) < ROOMS.index(room(b))] == []


def test_the_top_of_the_orchestrator_holds_only_what_all_rooms_share():
    shared = {"__init__", "api", "glossary", "index", "labels", "lookup", "plan", "provenance", "records", "resources"}
    shared |= {"text", "versions", "sweep"}
    shared |= {"forest", "counts"}  # parts of `plan`, which stands there
    assert {path.stem for path in (ROOT / "orchestrator").glob("*.py")} <= shared


def test_files_are_short():
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in modules().values()}
    assert not {name: count for name, count in lengths.items() if count > 300}


def bound_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name


@pytest.mark.parametrize("folder", EMPTY_NAMES_LEFT)
def test_variables_are_called_what_they_hold(folder: str):
    count = sum(name in EMPTY_NAMES for path in files(folder) for name in bound_names(path))
    assert count <= EMPTY_NAMES_LEFT[folder], "this count only falls: who gives some of them a name writes it down here"


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
    assert loaded_by(module, "torch", "ray", "pandas", "scipy", "sklearn") == "[]"


@pytest.mark.parametrize("module", ["prunesweep.workers.store", "prunesweep.orchestrator.cli.main"])
def test_a_command_starts_without_what_only_some_verbs_need(module: str):
    assert loaded_by(module, "numpy", "pyarrow", "obstore", "ruamel", "prunesweep.orchestrator.sweepfile.read") == "[]"


def loaded_by(module: str, *names: str) -> str:
    code = f"import sys, {module}; print([name for name in {names} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
