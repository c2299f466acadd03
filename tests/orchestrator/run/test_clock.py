"""A clock that is set back while a sweep runs, for all of its processes: times come out odd, and nothing else does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from prunesweep import load_results
from prunesweep.workers.store import Store
from tests.family import Family
from tests.orchestrator.conftest import Cli

SHIM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long offset(void) {
  char text[32];
  int file = syscall(SYS_openat, AT_FDCWD, getenv("CLOCK_OFFSET"), O_RDONLY, 0);
  long read = file < 0 ? 0 : syscall(SYS_read, file, text, 31);
  if (file >= 0) syscall(SYS_close, file);
  text[read > 0 ? read : 0] = 0;
  return atol(text);
}
int clock_gettime(clockid_t id, struct timespec *at) {
  int code = syscall(SYS_clock_gettime, id, at);
  if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) at->tv_sec += offset();
  return code;
}
time_t time(time_t *out) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  if (out) *out = at.tv_sec;
  return at.tv_sec;
}
int gettimeofday(struct timeval *at, void *zone) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}
"""
"""A clock that is as many seconds off as a file says, for a process and all that it starts."""

DAY = 86_400


@pytest.fixture
def offset(tmp_path: Path, cli: Cli) -> Path:
    """The file; a clock can't be set forward so, since the system's own timers go by the real one."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    (tmp_path / "shim.c").write_text(SHIM)
    library, file = tmp_path / "shim.so", tmp_path / "offset"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "shim.c"], check=True)
    file.write_text("0")
    cli.environment |= {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(file)}
    return file


@pytest.mark.slow
def test_a_clock_that_is_set_back_twice(cli: Cli, offset: Path):
    family = Family()
    cli.environment[family.name] = family.value
    process = cli.start("run", cli.sweep(2))
    cli.wait_for(lambda: cli.results() >= 2, process, 500)
    offset.write_text(f"{-DAY}")
    cli.wait_for(lambda: cli.results() >= 5, process, 500)
    process.kill()
    process.communicate()
    assert not family.end(grace=30), "by the clock Ray's workers would look for their raylet in a day"
    offset.write_text(f"{-2 * DAY}")
    answer = cli.ask("run", "sweep.yaml", seconds=900)
    assert answer.code == 0, answer.out + answer.err
    assert "14 of 14 trials done" in answer.out
    frame = load_results(cli.folder / "results/small")
    assert len(frame) == 14
    assert (frame["train_seconds"] > 0).all()
    store = Store(cli.folder / "results")
    days = {attempt.started_at[:10] for key in store.names("stages") for attempt in store.attempts(key)}
    assert len(days) >= 3, "the clock was set back"
    assert "14 done" in cli("status", "small")
