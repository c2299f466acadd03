"""The source that a module stands on, and its hash."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from prunesweep.workers.source import source_digest, source_files


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python looks in, as it does in the one where a command is run."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return tmp_path


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        file = folder / f"{name.replace('__', '/', 1) if name.startswith('pk') else name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


def test_a_module_stands_on_what_it_imports_anywhere_in_the_project(project: Path):
    write(
        project,
        src_net="import torch, src_layers\nfrom torch import nn\ndef net():\n    from src_late import f\n",
        src_layers="import importlib\nimportlib.import_module('src_named')\n",
        src_late="from pk_a.inner import x\nimport src_net\n",
        src_named="raise RuntimeError('it is not imported')",
        src_other="",
    )
    (project / "pk_a").mkdir()
    (project / "pk_a" / "__init__.py").write_text("from . import helper\n")
    (project / "pk_a" / "inner.py").write_text("from .deep.er import y\n")
    (project / "pk_a" / "helper.py").write_text("")
    (project / "pk_a" / "unused.py").write_text("")
    (project / "pk_a" / "deep").mkdir()
    (project / "pk_a" / "deep" / "er.py").write_text("from ..helper import *\n")
    assert list(source_files("src_net")) == [
        "pk_a",
        "pk_a.deep.er",
        "pk_a.helper",
        "pk_a.inner",
        "src_late",
        "src_layers",
        "src_named",
        "src_net",
    ]
    assert not {name for name in sys.modules if name.startswith(("src_", "pk_a"))}


def test_the_hash_is_of_names_and_content_wherever_they_lie(project: Path, monkeypatch: pytest.MonkeyPatch):
    write(project, src_one="import src_two", src_two="x = 1")
    first = source_digest("src_one")
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    for name in ("src_one.py", "src_two.py"):
        (elsewhere / name).write_bytes((project / name).read_bytes())
    monkeypatch.setattr(sys, "path", [str(elsewhere), *sys.path])
    assert source_digest("src_one") == first
    (elsewhere / "src_two.py").write_text("x = 2")
    assert source_digest("src_one") != first


def test_an_installed_package_is_itself_alone(project: Path, monkeypatch: pytest.MonkeyPatch):
    library = project / "env" / "site-packages"
    (library / "pk_b").mkdir(parents=True)
    (library / "pk_b" / "__init__.py").write_text("import src_neighbour, pk_b.part")
    (library / "pk_b" / "part.py").write_text("")
    (library / "src_neighbour.py").write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path, str(library)])
    assert list(source_files("pk_b")) == ["pk_b", "pk_b.part"]
    write(project, src_user="import pk_b, json, numpy, prunesweep.workers.spec")
    assert list(source_files("src_user")) == ["src_user"], "an environment in the project's folder is not the project"


def test_what_cannot_be_parsed_or_found_stands_alone(project: Path):
    write(project, src_broken="def (", src_optional="import src_missing\nfrom . import x")
    assert list(source_files("src_broken")) == ["src_broken"]
    assert list(source_files("src_optional")) == ["src_optional"]
    assert source_files("src_nowhere.at.all") == {}
