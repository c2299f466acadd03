"""Patterns of parameters that match nothing are refused by `plan` and `validate`, at their line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.orchestrator.versions import versioned
from prunesweep.workers.data.content import user_cache
from prunesweep.workers.errors import UserError
from prunesweep.workers.store import Store

SWEEP = """\
dataset: {name: synthetic, shape: [1, 8, 8], classes: 4}
model: resnet8
train:
  epochs: 4
  TRAIN
trials:
  - {method: dense}
  - {method: gmp, sparsity: [0.5, 0.8], pruning_interval: 1, OWN}
"""

THERE = "there are conv1.weight, bn1.weight, bn1.bias, layer1.0"


def sweep(folder: Path, train: str, own: str = "train: {}") -> Path:
    (folder / "x.yaml").write_text(SWEEP.replace("TRAIN", train).replace("OWN", own))
    return folder / "x.yaml"


@pytest.mark.parametrize(
    ("train", "own", "said"),
    [
        (
            "freeze: [fc, layer9]",
            "train: {}",
            f'5: train.freeze: "layer9" matches no parameter of the model; {THERE}',
        ),
        ("freeze:\n    - [fc]\n    - [fc, convs]", "train: {}", '7: train.freeze: "convs" matches no parameter'),
        ("lr_scale: {f_c: 2.0}", "train: {}", 'did you mean "fc"?'),
        ("lr_scale: {fc: 2.0, '*.bias': 0.1}", "train: {}", "5: train.lr_scale: both *.bias and fc match fc.bias"),
        ("lr: 0.1", "train: {freeze: [layer7]}", '8: trials[1].train.freeze: "layer7" matches no parameter'),
    ],
)
def test_a_pattern_that_matches_nothing_is_answered_at_its_line(train: str, own: str, said: str, tmp_path: Path):
    file = sweep(tmp_path, train, own)
    with pytest.raises(UserError) as refused:
        versioned(read_sweep(file), Store(tmp_path / "store"), str(tmp_path))
    assert str(refused.value).startswith(f"{file}:")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_of_a_network_that_is_known_nothing_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nor built; what was remembered of another version of it refuses nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = sweep(tmp_path, "freeze: [fc]")
    store = Store(tmp_path / "store")
    versioned(read_sweep(file), store, str(tmp_path))
    code = f"""if True:
        import sys
        from pathlib import Path
        from prunesweep.orchestrator.cli.main import app
        from prunesweep.orchestrator.sweepfile.read import read_sweep
        from prunesweep.orchestrator.versions import versioned
        from prunesweep.workers.store import Store
        versioned(read_sweep(Path({str(file)!r})), Store({str(tmp_path / "store")!r}), "data")
        print(sorted({{"torch", "ray"}} & sys.modules.keys()))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    for place in (user_cache() / "weights").iterdir():
        if "fc.weight" in place.read_text():
            place.write_text(place.read_text().replace("fc.", "first."))
    versioned(read_sweep(file), store, str(tmp_path))
