"""prunesweep as others install it: from a wheel, a source distribution or a clone, among modules of any name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from prunesweep import load_results
from tests.head import Head, JobsCli
from tests.orchestrator.conftest import Cli

ROOT = Path(__file__).parent.parent
FOLDERS = ("prunesweep", "orchestrator", "workers")
DEPENDENCIES = [place for place in sys.path if Path(place).name == "site-packages"]

PROJECT = {
    "workers/__init__.py": "HIDDEN = 8\n",
    "orchestrator.py": "LAYERS = 1\n",
    "tests/__init__.py": "",
    "tests/test_mine.py": "from mine import net\n",
    "mine.py": """\
import math

from orchestrator import LAYERS
from torch import nn
from workers import HIDDEN


def net(shape, classes):
    assert LAYERS == 1
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))
""",
    "sweep.yaml": """\
name: mine
dataset: digits
model: mine:net
train: {epochs: 1}
trials: [{method: imp, sparsity: 0.5, retrain_epochs: 1}]
""",
}
"""Somebody's project, whose own modules are called as our folders are; its network needs them."""


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """What the command printed on stdout; it must succeed."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path, target: Path) -> Path:
    """The wheel or sdist of a folder, made by the backend that pyproject.toml names."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    run(sys.executable, "-c", code, folder=source)
    (made,) = target.iterdir()
    return made


def contents(wheel: Path) -> dict[str, int]:
    """Names and checksums."""
    return {member.filename: member.CRC for member in zipfile.ZipFile(wheel).infolist()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the Dockerfile copies to build a wheel, with links as they are."""
    folder: Path = tmp_path_factory.mktemp("source")
    names = re.findall(r"^COPY ([^-].*) \S+$", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    for name in {name for line in names for name in line.split()} - {"sweeps", "docker/entrypoint.sh"}:
        if (ROOT / name).is_dir():
            without = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=without)
        else:
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


def environment(folder: Path, *packages: str | Path) -> Path:
    """The `bin` of a new environment with the packages alone, which sees what this one has installed."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text("\n".join(DEPENDENCIES))
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", "--no-build-isolation", *packages, folder=folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("environment"), wheel)


def project(folder: Path) -> Path:
    for name, text in PROJECT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_wheel_holds_every_module_and_every_file_that_they_read(wheel: Path):
    here = {f"prunesweep/{path.relative_to(ROOT)}" for name in FOLDERS[1:] for path in (ROOT / name).rglob("*.*")}
    here = {name for name in here if "__pycache__" not in name and not (ROOT / name).is_dir()}
    held = {name for name in contents(wheel) if ".dist-info/" not in name}
    assert held == here | {"prunesweep/__init__.py", "prunesweep/py.typed"}
    assert {Path(name).suffix for name in held} == {".py", ".typed", ".csv", ".html", ".css", ".js", ".yaml"}


def test_a_source_distribution_builds_the_same_wheel(source: Path, wheel: Path, tmp_path: Path):
    for name in ("sdist", "again"):
        (tmp_path / name).mkdir()
    sdist = build("sdist", source, tmp_path / "sdist")
    with tarfile.open(sdist) as packed:
        packed.extractall(tmp_path, filter="data")
    again = build("wheel", tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "again")
    assert contents(again) == contents(wheel)


def test_an_installed_prunesweep_runs_among_modules_of_the_same_names(installed: Path, tmp_path: Path):
    """Even where these are first on the path; the project's network needs its own."""
    cli = Cli(project(tmp_path), installed / "prunesweep", PYTHONPATH=str(tmp_path))
    assert "1 of 1 trial done" in cli("run", "sweep.yaml")
    where = run(installed / "python", "-c", "import prunesweep; print(prunesweep.__file__)", folder=tmp_path)
    assert Path(where).is_relative_to(installed.parent)
    assert load_results(tmp_path / "results/mine").reached_sparsity.tolist() == pytest.approx([0.5], abs=1e-3)


@pytest.mark.slow
def test_a_job_of_an_installed_prunesweep_runs_among_modules_of_the_same_names(installed: Path, tmp_path: Path):
    with Head(programs=installed) as head:
        laptop: JobsCli = head.cli(project(tmp_path))
        assert "1 of 1 trial done" in laptop.submit("sweep.yaml", "--follow")


@pytest.mark.slow
def test_a_job_runs_the_code_of_the_clone_that_it_is_submitted_from(installed: Path, source: Path, tmp_path: Path):
    """The snapshot holds the package with what its links lead to, and shadows what the nodes have installed."""
    clone = tmp_path / "clone"
    shutil.copytree(source, clone, symlinks=True)
    (clone / "workers/data/__init__.py").open("a").write('\nprint("of the clone")\n')
    shutil.copy(ROOT / "sweeps/quickstart.yaml", clone)
    with Head(programs=installed) as head:
        laptop = head.cli(clone)
        laptop.write(PROJECT["sweep.yaml"].replace("mine:net", "lenet300"))
        printed = laptop.submit("sweep.yaml", "--follow")
    assert "1 of 1 trial done" in printed
    assert "of the clone" in printed


@pytest.mark.slow
def test_mypy_sees_the_types_of_an_editable_install_in_another_project(source: Path, tmp_path: Path):
    clone = tmp_path / "clone"
    shutil.copytree(source, clone, symlinks=True)
    programs = environment(tmp_path / "environment", "--editable", clone)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.py").write_text("from prunesweep import load_results\n\nreveal_type(load_results('results/mine'))\n")
    check = [sys.executable, "-m", "mypy", "--strict", "--python-executable", programs / "python"]
    assert 'Revealed type is "pandas.' in run(*check, "mine.py", folder=other)


def test_a_clone_without_links_says_how_to_get_them(source: Path, tmp_path: Path):
    """As on Windows, where git writes a link's target into a file unless it is told otherwise."""
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    shutil.copytree(source, origin, symlinks=True)
    run("git", "init", "--quiet", folder=origin)
    run("git", "add", "--all", folder=origin)
    run("git", *author, "commit", "--quiet", "--message", "all", folder=origin)
    run("git", "clone", "--quiet", "--config", "core.symlinks=false", origin, clone, folder=tmp_path)
    ask = [sys.executable, "-c", "import prunesweep.workers.spec as spec; print(spec.__file__)"]
    refused = subprocess.run(ask, cwd=clone, capture_output=True, text=True, check=False)
    said = refused.stderr.splitlines()[-1]
    assert said.startswith("ImportError: prunesweep/orchestrator and prunesweep/workers are no folders here")
    for command in re.findall(r"`(git .*?)`", said):
        run(*command.split(), folder=clone)
    assert Path(run(*ask, folder=clone).strip()) == clone / "prunesweep/workers/spec.py"
