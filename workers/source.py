"""The source files that a module of one's own stands on, found without importing it. No torch."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path

INSTALLED = frozenset({"site-packages", "dist-packages"})


def source_files(module: str) -> dict[str, Path]:
    """Module name -> file, of a module and of what it imports from the same project, also indirectly.

    The same project is the same package and, unless it is installed, whatever else lies in or below the folder that
    holds it. Imports anywhere in a file count, and `import_module` with a name that is written out; a name that is
    computed is not seen. Empty when there is no such module.
    """
    root = _root(module)
    files: dict[str, Path] = {}
    waiting = _with_packages(module) if root else []
    while waiting:
        name = waiting.pop()
        file = _file(name)
        if name in files or file is None or not _is_of_project(name, file, module, root):
            continue
        files[name] = file
        for imported in _imports(name, file):
            waiting += _with_packages(imported)
    return dict(sorted(files.items()))


def source_digest(module: str) -> str:
    """A hash of the source that a module stands on; it depends on names and content, not on where the files lie."""
    digest = hashlib.sha256()
    for name, file in source_files(module).items():
        digest.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def files_imported(module: str) -> list[Path]:
    """The files that importing a module runs, but for what they import: its own, and those of its packages."""
    return [file for file in map(_file, _with_packages(module)) if file is not None]


def defined_in(module: str, name: str) -> bool:
    """Whether a module, or one of the same project from which it takes the name, defines it itself.

    What it takes from elsewhere, as with `from subprocess import run`, is not its own.
    """
    files, waiting, seen = source_files(module), [(module, name)], set()
    while waiting:
        at, wanted = waiting.pop()
        if (at, wanted) in seen or at not in files or files[at].suffix not in SOURCE_SUFFIXES:
            continue
        seen.add((at, wanted))
        package = at if files[at].name == "__init__.py" else at.rpartition(".")[0]
        for node in _statements(_parsed(files[at]).body):
            if _defines(node, wanted):
                return True
            if isinstance(node, ast.ImportFrom):
                origin = next(_imported_from(node, package), "")
                waiting += [(origin, alias.name) for alias in node.names if (alias.asname or alias.name) == wanted]
    return False


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Of a module, those behind a condition, too."""
    for node in body:
        yield node
        for part in ("body", "orelse", "handlers", "finalbody") if isinstance(node, ast.If | ast.Try) else ():
            yield from _statements([inner for inner in getattr(node, part, ()) if isinstance(inner, ast.stmt)])


def _defines(node: ast.stmt, name: str) -> bool:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return node.name == name
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    made_here = isinstance(getattr(node, "value", None), ast.Call | ast.Lambda)  # no other name for something else
    return made_here and any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _parsed(file: Path) -> ast.Module:
    """Empty for a file that is no Python: importing it will say so."""
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _with_packages(module: str) -> list[str]:
    """The module and the packages that it is in: importing it runs them all."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _root(module: str) -> Path | None:
    """The folder that holds the top-level package or module."""
    places = _top_level(module.partition(".")[0])
    return places[0].parent if places else None


def _is_of_project(name: str, file: Path, module: str, root: Path | None) -> bool:
    top = name.partition(".")[0]
    if top == module.partition(".")[0]:
        return True
    if root is None or top == "prunesweep" or not file.is_relative_to(root) or INSTALLED & set(root.parts):
        return False
    library = Path(sysconfig.get_path("stdlib"))
    return not INSTALLED & set(file.relative_to(root).parts) and not file.is_relative_to(library)


def _file(name: str) -> Path | None:
    """The file that is run when a module is imported; None for a folder without `__init__.py`, or where none is."""
    places = _places(name)
    return next((place for place in places if place.is_file()), None)


def _places(name: str) -> list[Path]:
    """The file of a module, or the folders of a package with `__init__.py` first."""
    package, _, last = name.rpartition(".")
    if not package:
        return _top_level(last)
    folders = [place.parent if place.name == "__init__.py" else place for place in _places(package)]
    places: list[Path] = []
    for folder in (folder for folder in dict.fromkeys(folders) if folder.is_dir()):
        places += _in_folder(folder, last)
    return places


def _in_folder(folder: Path, name: str) -> list[Path]:
    inner = folder / name
    if (inner / "__init__.py").is_file():
        return [inner / "__init__.py"]
    files = [folder / f"{name}{suffix}" for suffix in (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES)]
    return [file for file in files if file.is_file()] or ([inner] if inner.is_dir() else [])


def _top_level(name: str) -> list[Path]:
    """Asked of Python, which imports nothing for a name without dots."""
    try:
        with looking_here():
            spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return []
    if spec is None or name in sys.builtin_module_names:
        return []
    if spec.origin and spec.has_location:
        return [Path(spec.origin).absolute()]
    return [Path(place).absolute() for place in spec.submodule_search_locations or ()]


def look_here() -> None:
    """Let Python find modules in the current folder, behind all others: those of the user's own, as with `python -m`.

    Only where such a one is imported: packages look for others that they can do without, and are not to find any here.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


@contextmanager
def looking_here() -> Iterator[None]:
    """As `look_here`, while a name is looked up."""
    before = list(sys.path)
    look_here()
    try:
        yield
    finally:
        sys.path[:] = before


def _imports(name: str, file: Path) -> Iterator[str]:
    """The modules that a file may import, and names in them that may be modules."""
    if file.suffix not in SOURCE_SUFFIXES:
        return
    tree = _parsed(file)
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _imported_from(node, package)
        elif isinstance(node, ast.Call):
            yield from _import_called(node)


def _imported_from(node: ast.ImportFrom, package: str) -> Iterator[str]:
    parts = package.split(".") if package else []
    base = parts[: len(parts) - node.level + 1] if node.level else []
    origin = ".".join([*base, *([node.module] if node.module else [])])
    if origin:
        yield origin
        yield from (f"{origin}.{alias.name}" for alias in node.names if alias.name != "*")


def _import_called(node: ast.Call) -> Iterator[str]:
    function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    first = node.args[0] if node.args else None
    if function in ("import_module", "__import__") and isinstance(first, ast.Constant) and isinstance(first.value, str):
        yield first.value.lstrip(".")
