"""Whose fault a failure is, from real errors where they can be had."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest
import torch

from prunesweep.workers import checkpoint, registry
from prunesweep.workers.causes import Cause, cause_of
from prunesweep.workers.errors import Diverged, UserError
from prunesweep.workers.files import Unavailable
from prunesweep.workers.host import Where, cap_memory
from prunesweep.workers.run import StageFailed, run_stage
from prunesweep.workers.store import Damaged, Store
from tests.cases import last_stage, trial

OURS = """\
from prunesweep.workers.methods.dense import Dense
from prunesweep.workers.methods.pruner import Pruner

class {name}(Dense):
    pass

class MinePruner(Pruner, method={name}):
    def after_step(self):
        {body}
"""


def raised(call) -> Exception:
    """What a call raises, as seen from inside it."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return caught.value.with_traceback(caught.value.__traceback__.tb_next)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (Diverged("the loss became nan"), Cause.DIVERGED),
        (UserError("no such option"), Cause.BAD_REQUEST),
        (Damaged("key", "gone"), Cause.PARENT_DAMAGED),
        (OSError(errno.ENOSPC, "No space left on device"), Cause.DISK_FULL),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), Cause.DISK_FULL),
        (Unavailable("gone"), Cause.STORE),
        (MemoryError(), Cause.HOST_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), Cause.GPU_MEMORY),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), Cause.GPU_MEMORY),
        (RuntimeError("GET was unable to find an engine to execute this computation"), Cause.GPU_MEMORY),
        (KeyError("a key"), Cause.INTERNAL),
    ],
)
def test_every_error_has_its_cause(error: Exception, cause: Cause):
    assert cause_of(error) is cause


def test_a_tensor_too_large_for_this_machine_is_out_of_host_memory():
    assert cause_of(raised(lambda: torch.ones(2**48))) is Cause.HOST_MEMORY


def test_an_error_within_the_project_or_torch_is_a_bug():
    error = raised(lambda: checkpoint.unpack_tensors(b"nonsense"))
    assert cause_of(error.with_traceback(error.__traceback__.tb_next)) is Cause.INTERNAL


@pytest.mark.parametrize("body", ["[][0]", "import torch; torch.zeros(2) @ torch.zeros(3)"])
def test_an_error_in_ones_own_method_or_in_what_it_calls_is_user_code(
    body: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text(OURS.format(name="Mine", body=body))
    sys.modules.pop("mine", None)
    made = trial("dense")
    choice = type(made.method)("mine:Mine", made.method.options)
    stage = last_stage(type(made)(made.dataset, made.model, choice, 0, 0.0, made.train))
    with pytest.raises(StageFailed) as caught:
        list(run_stage(stage, store, Where()))
    assert caught.value.cause is Cause.USER_CODE
    assert caught.value.message.endswith(f"({tmp_path / 'mine.py'}, line 9)")
    assert "mine" in registry.foreign_packages
    assert store.attempts(stage.key)[-1].cause == "user code"


def test_an_error_of_the_project_is_not_the_fault_of_who_called_it():
    def ours_within_theirs() -> None:
        checkpoint.unpack_tensors(b"nonsense")

    assert cause_of(raised(ours_within_theirs)) is Cause.INTERNAL


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_who_needs_more_of_a_gpu_than_its_share_is_out_of_memory():
    device = torch.device("cuda:0")
    cap_memory(device, 0.1)
    try:
        size = torch.cuda.get_device_properties(device).total_memory // 5
        assert cause_of(raised(lambda: torch.empty(size, dtype=torch.uint8, device=device))) is Cause.GPU_MEMORY
    finally:
        cap_memory(device, 1.0)
