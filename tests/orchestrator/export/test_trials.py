"""Names of exported files."""

from __future__ import annotations

from pathlib import Path

from prunesweep.orchestrator.export.trials import name_of


def row(model: str) -> dict[str, object]:
    settings = {"dataset": "digits", "model": model, "method": "imp", "retrain_schedule": "LRW", "target_sparsity": 0.9}
    return {**settings, "seed": 3, "trial": "0123456789abcdef0123"}


def test_a_name_says_what_was_trained():
    assert name_of(row("mine:resnet")) == "digits-mine_resnet-imp-LRW-0.9-seed3-0123456789abcdef0123"


def test_however_long_a_models_name_a_file_can_have_it(tmp_path: Path):
    for model in ("package." * 40 + "models:resnet", "\u00fc" * 300):
        name = name_of(row(model))
        (tmp_path / f"{name}.safetensors").touch()
        assert name.endswith("-imp-LRW-0.9-seed3-0123456789abcdef0123")
    assert "models_resnet-imp" in name_of(row("package." * 40 + "models:resnet"))
