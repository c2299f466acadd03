"""What somebody means who writes a key that a sweep file does not have: another word for it, or another place."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from prunesweep.orchestrator.sweepfile.settings import SPARSITY, train_settings

SYNONYMS = {
    "accumulate_grad_batches": "accumulate",
    "arch": "model",
    "architecture": "model",
    "batchsize": "batch_size",
    "bs": "batch_size",
    "cutmix_alpha": "cutmix",
    "data": "dataset",
    "grad_clip": "clip_norm",
    "grad_accum_steps": "accumulate",
    "gradient_accumulation_steps": "accumulate",
    "learning_rate": "lr",
    "lr_scheduler": "schedule",
    "max_epochs": "epochs",
    "mixup_alpha": "mixup",
    "ema_decay": "ema",
    "epsilon": "eps",
    "model_ema": "ema",
    "frozen": "freeze",
    "network": "model",
    "no_decay": "decay_norm_and_bias",
    "num_epochs": "epochs",
    "num_seeds": "seeds",
    "optim": "optimizer",
    "optimiser": "optimizer",
    "prune_ratio": "sparsity",
    "pruning_ratio": "sparsity",
    "ra_magnitude": "randaugment",
    "rand_augment": "randaugment",
    "random_erase": "random_erasing",
    "ratio": "sparsity",
    "repeated_aug": "repeated_augmentation",
    "reprob": "random_erasing",
    "scheduler": "schedule",
    "target_sparsity": "sparsity",
    "trivial_augment": "trivialaugment",
    "val": "validation",
    "wd": "weight_decay",
}
"""Words of other programs for keys of a sweep file."""

BETAS = "write beta1 and beta2, each with its own value or axis"


def hint(key: str, keys: Collection[str]) -> str | None:
    """What to write instead of an unknown key where only `keys` are allowed; None where nothing is known of it."""
    name = SYNONYMS.get(key.lower().replace("-", "_"), key)
    if key.lower() == "betas" and "beta1" in keys:
        return BETAS
    if name in keys:
        return f'write "{name}"'
    if name in [setting.name for setting in train_settings()] and "train" in keys:
        return f"it belongs into train: {{{name}: ...}}"
    if "trials" in keys and name in (SPARSITY.name, "method", "exclude", "zip"):
        return "it belongs into a block of trials"
    if "trials" not in keys and name in ("seeds", "resources", "name"):
        return "it belongs to the top of the file"
    return None


def of_another_program(top: Mapping[str, Any]) -> str | None:
    """A sentence for a sweep file of W&B or SEML, with its own axes as they are written here; None for any other."""
    parameters = top.get("parameters")
    if "trials" in top:
        return None
    if isinstance(parameters, dict) and {"method", "program", "metric", "command"} & top.keys():
        return _translated("Weights & Biases", list(_axes(parameters, "values")))
    if "seml" in top or {"fixed", "grid"} <= top.keys():
        grid = top.get("grid")
        return _translated("SEML", list(_axes(grid if isinstance(grid, dict) else {}, "options")))
    return None


def _axes(parameters: Mapping[str, Any], key: str) -> Iterator[str]:
    for name, parameter in parameters.items():
        if isinstance(parameter, dict) and isinstance(parameter.get(key), list):
            yield f"{name}: [{', '.join(str(value) for value in parameter[key][:4])}]"


def _translated(program: str, axes: list[str]) -> str:
    example = f"; for its axes write {{{', '.join(axes[:3])}}}" if axes else ""
    return (
        f"this is a sweep file of {program}. Here a sweep has dataset, model and trials, and a list is an axis: "
        f"trials: [{{method: imp, sparsity: [0.8, 0.9], retrain_epochs: 2}}]{example}. `prunesweep init` writes a "
        "file to begin with"
    )
