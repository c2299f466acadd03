"""Odd local filesystems, and odd things on them, for real: no hard links, a second user, folders for files."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prunesweep.workers.appearing import locked
from prunesweep.workers.claims import Claim, Claimed, Holding
from prunesweep.workers.encoding import encode
from prunesweep.workers.files import MARK
from prunesweep.workers.store import RESULT, State, Store
from tests.cases import last_stage, trial

ROOT = Path(__file__).parents[2]
STAGE = last_stage(trial("dense"))
NO_LINKS = """
#include <errno.h>
#include <stdlib.h>
static int refused(void) { errno = atoi(getenv("LINK_ERRNO")); return -1; }
int link(const char *from, const char *to) { return refused(); }
int linkat(int a, const char *from, int b, const char *to, int flags) { return refused(); }
"""


LOST_ANSWERS = """
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>
int linkat(int a, const char *from, int b, const char *to, int flags) {
  if (syscall(SYS_linkat, a, from, b, to, flags) == 0) errno = EEXIST;
  return -1;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
"""


def shim(code: str, folder: Path) -> dict[str, str]:
    """The environment of a process that calls these functions instead of the system's."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    (folder / "shim.c").write_text(code)
    library = folder / "shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, folder / "shim.c"], check=True)
    return {**os.environ, "LD_PRELOAD": str(library)}


@pytest.fixture(scope="module")
def without_links(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process for which no file system has hard links, as exFAT, SMB and gcsfuse have none."""
    return {**shim(NO_LINKS, tmp_path_factory.mktemp("shim")), "LINK_ERRNO": str(errno.EPERM)}


def python(code: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


TAKE = """
import os, sys, time
from pathlib import Path
from prunesweep.workers.claims import Claim, Claimed, Holding
from prunesweep.workers.store import Store
try:
    os.link(sys.argv[1], sys.argv[1] + "-link")
    raise SystemExit("there are hard links")
except PermissionError:
    pass
store, end = Store(sys.argv[1]), Path(sys.argv[2])
try:
    with Holding(store, "0" * 20, Claim.mine(sys.argv[3], sys.argv[3])):
        print("mine")
        while not end.exists():
            time.sleep(0.01)
except Claimed:
    print("another's")
"""


def test_of_many_one_gets_a_claim_without_hard_links(without_links: dict[str, str], tmp_path: Path):
    end = tmp_path / "end"
    store = Store(tmp_path / "store")
    store.require_writable()
    takers = [python(TAKE, str(store.location), str(end), f"{n}", env=without_links) for n in range(4)]
    deadline = time.monotonic() + 60
    while sum(taker.poll() is not None for taker in takers) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    end.touch()
    answers = sorted(taker.communicate(timeout=120) for taker in takers)
    assert answers == [("another's\n", "")] * 3 + [("mine\n", "")]
    assert store.names("stages", "0" * 20) == []


CREATE = """
import sys
from prunesweep.workers.store import Store
store = Store(sys.argv[1])
print([store.write(data, "result.json", replace=False) for data in (b"first", b"second")])
"""


def test_who_was_first_knows_it_though_the_answer_was_lost(tmp_path: Path):
    """As on NFS: the server has made the link, its answer is lost, and asked again it says that there is one."""
    creator = python(CREATE, str(tmp_path / "store"), env=shim(LOST_ANSWERS, tmp_path))
    assert creator.communicate(timeout=120) == ("[True, False]\n", "")
    assert (tmp_path / "store" / "result.json").read_bytes() == b"first"


def test_a_stage_runs_without_hard_links(without_links: dict[str, str], tmp_path: Path):
    (tmp_path / "spec.json").write_text(json.dumps(encode(STAGE)))
    command = [sys.executable, "-m", "prunesweep.workers.run", tmp_path / "spec.json", "--store", tmp_path / "store"]
    environment = {**without_links, "LINK_ERRNO": str(errno.EXDEV)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=120)
    store = Store(tmp_path / "store")
    assert store.done([STAGE.key]) == {STAGE.key}
    assert store.names("stages", STAGE.key) == ["attempts", "curve.parquet", "network.safetensors", RESULT, "spec.json"]


def test_a_lock_that_a_killed_process_left_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("prunesweep.workers.appearing.LOCK_SECONDS", 0.1)
    target = tmp_path / "result.json"
    (tmp_path / ".result.json.lock.tmp").touch()
    with locked(target):
        assert (tmp_path / ".result.json.lock.tmp").exists()
    assert list(tmp_path.iterdir()) == []


# --- what stands where a file or folder should be


def in_the_way(place: Path, what: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    match what:
        case "folder":
            place.mkdir()
            (place / "content").write_text("somebody's")
        case "file":
            place.write_text("somebody's")
        case "dead link":
            place.symlink_to("nowhere")


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize(
    ("way", "what"),
    [
        *(("stages/key/result.json", what) for what in ("folder", "dead link")),
        *((place, what) for place in ("stages", "stages/key") for what in ("file", "dead link")),
    ],
)
def test_what_stands_in_the_way_of_a_file_is_set_aside_by_name(way: str, what: str, replace: bool, tmp_path, caplog):
    store = Store(tmp_path / "store")
    store.require_writable()
    for number in 1, 2:
        shutil.rmtree(tmp_path / "store" / "stages", ignore_errors=True)
        Path(tmp_path / "store" / way).unlink(missing_ok=True)
        in_the_way(tmp_path / "store" / way, what)
        assert store.read("stages", "key", RESULT) is None
        assert store.names("stages", "key") == ([RESULT] if way.endswith(RESULT) else [])
        assert store.write(b"new", "stages", "key", RESULT, replace=replace)
        assert store.read("stages", "key", RESULT) == b"new"
        last = way.rpartition("/")[2]
        kept = [path.name for path in (tmp_path / "store").rglob(f"{last}.damaged-*")]
        if replace and what == "dead link" and way.endswith(RESULT):
            assert kept == [], "a link leads nowhere, and is written over"
        else:
            expected = number if way == "stages" else 1
            assert sorted(kept) == [f"{last}.damaged-{n}" for n in range(1, expected + 1)]
            assert f"it is set aside as {last}.damaged-{expected}" in caplog.text


def test_a_mark_that_is_a_folder_is_made_a_file(tmp_path: Path):
    in_the_way(tmp_path / MARK, "folder")
    Store(tmp_path).require_writable()
    assert (tmp_path / MARK).read_bytes() == b""
    assert (tmp_path / f"{MARK}.damaged-1" / "content").read_text() == "somebody's"


def test_a_stage_whose_result_is_a_folder_is_not_done(tmp_path: Path):
    store = Store(tmp_path)
    in_the_way(tmp_path / "stages" / STAGE.key / RESULT, "folder")
    assert store.states([STAGE.key]) == {STAGE.key: State.DAMAGED}
    assert store.result(STAGE.key) is None
    store.publish(STAGE, {}, {"metrics": {}})
    assert store.states([STAGE.key]) == {STAGE.key: State.DONE}


# --- many people


def test_where_the_group_may_write_it_may_write_all_that_is_made(tmp_path: Path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    before = os.umask(0o077)
    try:
        for folder in shared, tmp_path / "own":
            Store(folder).publish(STAGE, {"network.safetensors": b"n"}, {"metrics": {}})
    finally:
        os.umask(before)
    modes = {path.relative_to(shared).as_posix(): oct(path.stat().st_mode) for path in shared.rglob("*")}
    stage = f"stages/{STAGE.key}"
    assert modes == {
        "stages": "0o42770",
        stage: "0o42770",
        f"{stage}/network.safetensors": "0o100660",
        f"{stage}/{RESULT}": "0o100660",
    }
    assert stat.S_IMODE((tmp_path / "own" / stage / RESULT).stat().st_mode) == 0o600


GROUP = 54321
USERS = 54322, 54323


def _as_user(number: int, location: str, code, answers) -> None:
    os.setgroups([])
    os.setgid(GROUP)
    os.setuid(number)
    os.umask(0o022)
    try:
        answers.put(code(Store(location)))
    except Claimed as error:
        answers.put(str(error))


def as_user(number: int, store: Store, code) -> object:
    """What another Unix user gets, for real."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=_as_user, args=(number, store.location.reveal(), code, answers))
    process.start()
    answer = answers.get(timeout=60)
    process.join()
    return answer


def publish(store: Store) -> str:
    attempt = store.new_attempt(STAGE.key)
    with Holding(store, STAGE.key, Claim.mine(attempt.name, f"run of {os.getuid()}")):
        store.begin(STAGE, attempt)
        store.write_checkpoint(STAGE.key, b"c")
        store.publish(STAGE, {"network.safetensors": b"n"}, {"metrics": {}})
    return "published"


def begin_and_die(store: Store) -> str:
    attempt = store.begin(STAGE)
    store.write_checkpoint(STAGE.key, b"c")
    Holding(store, STAGE.key, Claim.mine(attempt.name, f"run of {os.getuid()}")).__enter__()
    return "begun"


@pytest.fixture
def shared() -> Iterator[Store]:
    """A folder of a group of two users, where neither is root."""
    if os.getuid() != 0:
        pytest.skip("only root can become other users")
    with tempfile.TemporaryDirectory() as top:  # pytest's own folder is its user's alone
        Path(top).chmod(0o755)
        folder = Path(top, "store")
        folder.mkdir()
        os.chown(folder, USERS[0], GROUP)
        folder.chmod(0o2775)
        yield Store(folder)


def test_two_users_work_on_one_store(shared: Store):
    """One begins a stage and dies; the other takes it over, though its umask would keep the first out."""
    assert as_user(USERS[0], shared, begin_and_die) == "begun"
    assert as_user(USERS[1], shared, publish) == "published"
    assert [attempt.user for attempt in shared.attempts(STAGE.key)] == [str(user) for user in USERS]
    assert shared.done([STAGE.key]) == {STAGE.key}
    left = {path.name: path.stat() for path in Path(shared.path("stages", STAGE.key)).iterdir()}
    assert left.keys() == {"attempts", "network.safetensors", RESULT, "spec.json"}
    assert {about.st_gid for about in left.values()} == {GROUP}


def test_another_users_stage_is_recognised_and_left_alone(shared: Store):
    with Holding(shared, STAGE.key, Claim.mine("0001-root", "a run")):
        answer = as_user(USERS[0], shared, publish)
        assert answer == f"{STAGE.key} is being computed by process {os.getpid()} of root, in run a run"
    assert as_user(USERS[0], shared, publish) == "published"


def test_what_is_without_end_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Reading would wait for ever, or fill the memory: pipes, devices and sockets, JSON larger than any of ours."""
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    (tmp_path / "circle").symlink_to("circle")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")  # a long path would be refused
    with (tmp_path / "large.json").open("wb") as large:
        large.truncate(2**40)
    assert [store.read(name) for name in ("pipe", "zeros", "circle", "socket")] == [None] * 4
    assert store.read("large.json") == b""
