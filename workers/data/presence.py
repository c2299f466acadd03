"""Whether a dataset's files are there at all, told in milliseconds and without torch: sweeps are checked with it.

`workers.data.function(name, "check")` reads every file instead.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from prunesweep.workers.spec import Choice

FILES = {
    "mnist": ("MNIST/raw",),
    "fashion_mnist": ("FashionMNIST/raw",),
    "cifar10": ("cifar-10-batches-py",),
    "cifar100": ("cifar-100-python",),
    "svhn": ("train_32x32.mat", "test_32x32.mat"),
    "stl10": ("stl10_binary",),
    "tiny_imagenet": ("train", "val"),
    "imagenet": ("train", "val"),
    "image_folder": (".",),
}
"""What each dataset has in the data folder; below its `path`, where it has that option."""


def absent(dataset: Choice, folder: str) -> str | None:
    """What is missing of a dataset in the data folder, and what to do; None for one that is there, or of one's own."""
    root = Path(folder).expanduser() / Path(str(dataset.settings.get("path", "."))).expanduser()
    missing = next((root / file for file in FILES.get(dataset.name, ()) if not (root / file).exists()), None)
    if missing is None:
        return None
    if dataset.name == "image_folder":
        remedy = "set its `path` to the folder with a folder for each class, and --data-dir to what that lies in"
    else:
        remedy = f"fetch it with: prunesweep data fetch {dataset.name} --data-dir {shlex.quote(str(folder))}"
    return f"dataset {dataset.name}: there is no {missing}; {remedy}"
