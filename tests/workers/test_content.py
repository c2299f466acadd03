"""The hash of files' content, and what is remembered of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prunesweep.workers.data import content
from prunesweep.workers.data.content import content_digest
from prunesweep.workers.data.scan import FINGERPRINTS


@pytest.fixture
def files(tmp_path: Path) -> list[tuple[str, str]]:
    names = [f"{index}.jpg" for index in range(4)]
    for name in names:
        (tmp_path / name).write_text(f"picture {name}")
    return [(name, str(tmp_path / name)) for name in names]


def test_it_is_of_names_and_bytes(files: list[tuple[str, str]], tmp_path: Path):
    first = content_digest(files, tmp_path, "a")
    assert content_digest(files, tmp_path / "elsewhere", "a") == first
    assert content_digest([("other.jpg", files[0][1]), *files[1:]], tmp_path, "a") != first
    assert content_digest(files[1:], tmp_path, "a") != first
    Path(files[0][1]).write_text("another picture")
    assert content_digest(files, tmp_path, "a") != first


def test_the_second_look_opens_no_file_that_is_as_it_was(files: list[tuple[str, str]], tmp_path: Path):
    """Seen by what is written down: a wrong hash there is believed until the file changes."""
    first = content_digest(files, tmp_path, "a")
    memory = tmp_path / FINGERPRINTS / "a"
    kept = memory.read_bytes()
    known = kept.split(b"\0")[2]
    memory.write_bytes(kept.replace(known, b"0" * 32))
    assert content_digest(files, tmp_path, "a") != first
    Path(files[0][1]).touch()
    assert content_digest(files, tmp_path, "a") == first


def test_a_file_of_the_same_size_and_time_is_read_again(files: list[tuple[str, str]], tmp_path: Path):
    file = Path(files[0][1])
    first, before = content_digest(files, tmp_path, "a"), file.stat()
    file.write_text(file.read_text()[::-1])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert content_digest(files, tmp_path, "a") != first


def test_damage_of_what_is_remembered_costs_only_time(files: list[tuple[str, str]], tmp_path: Path):
    first = content_digest(files, tmp_path, "a")
    for damage in (b"", b"nonsense", b"a\0b\0c\0"):
        (tmp_path / FINGERPRINTS / "a").write_bytes(damage)
        assert content_digest(files, tmp_path, "a") == first


def test_where_nothing_can_be_kept_the_users_cache_serves(
    files: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / FINGERPRINTS).write_text("a file in its place")
    assert content_digest(files, tmp_path, "a") == content_digest(files, tmp_path / "writable", "a")
    assert (tmp_path / "cache" / "prunesweep" / "a").is_file()


def test_a_file_that_is_gone_is_an_error(files: list[tuple[str, str]], tmp_path: Path):
    Path(files[2][1]).unlink()
    with pytest.raises(FileNotFoundError):
        content_digest(files, tmp_path, "a")
    assert content.file_digests(files[:2], tmp_path, "b") == content.file_digests(files[:2], tmp_path, "b")
