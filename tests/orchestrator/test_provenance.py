"""The commit that results come from, with what was changed on top of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from prunesweep.orchestrator.provenance import provenance


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Of one file in Latin-1."""
    (tmp_path / "model.py").write_bytes("# Größe\n".encode("latin-1"))
    name = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "."], [*name, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_a_changed_file_marks_the_commit_whatever_its_encoding(repository: Path):
    clean = provenance(repository)
    assert clean.commit is not None
    assert "+" not in clean.commit
    marks = set()
    for text in ("# größer\n", "# größte\n"):
        (repository / "model.py").write_bytes(text.encode("latin-1"))
        changed = provenance(repository)
        assert changed.commit is not None
        head, _, mark = changed.commit.partition("+")
        assert head == clean.commit
        assert r"gr\xf6\xdf" in changed.difference
        marks.add(mark)
    assert len(marks) == 2
