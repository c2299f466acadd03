"""What is in a folder of images: counts, sizes, modes, the same picture twice, and pictures that show nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import torch
from PIL import Image

from prunesweep.workers.data.base import SplitName
from prunesweep.workers.data.content import file_digests
from prunesweep.workers.data.folder import Splits, find_splits
from prunesweep.workers.data.images import read
from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import Choice

LEAST_DEVIATION = 1.0
"""Levels of 256. Where a channel of the training images varies less, normalising it makes numbers without bounds."""


@dataclass
class Inspection:
    """What was found in the files of a dataset; `sizes` are (width, height).

    `classes` has the counts of each split by class, `crossing` groups of equal files that are in several splits, and
    `flat` the files of a single value. `deviation` is that of each channel over the training images, in levels of 256.
    """

    splits: Splits
    classes: dict[str, dict[SplitName, int]]
    modes: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    several_frames: int = 0
    flat: list[str] = field(default_factory=list)
    crossing: list[list[str]] = field(default_factory=list)
    deviation: list[float] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """All files that are read."""
        return [path for files in self.splits.parts.values() for path in files.paths()]

    def warnings(self) -> Iterator[str]:
        """What its user should know before training, a sentence each."""
        if self.crossing:
            shown = " = ".join(self.crossing[0][:3])
            yield f"pictures that are in more than one split: {len(self.crossing)}, such as {shown}"
        if self.flat:
            yield f"pictures of a single value: {len(self.flat)}, such as {self.flat[0]}"
        if min(self.deviation) < LEAST_DEVIATION:
            yield "a channel of the training images hardly varies: its deviation is below 1 of 256 levels"
        if self.several_frames:
            yield f"files with several images, of which the first is read: {self.several_frames}"
        if self.splits.moved:
            yield f"images put into a split, or kept out of it, for the sake of small classes: {self.splits.moved}"


def inspect(choice: Choice, data_folder: str) -> Inspection:
    """Read every file of a folder of images; raises `UserError` with the first that cannot be read."""
    settings = choice.settings
    root = Path(data_folder) / Path(str(settings["path"])).expanduser()
    splits = find_splits(choice.name, root, str(settings.get("layout", "auto")))
    inspection = Inspection(splits, _counts(splits))
    _read_all(choice.name, inspection)
    inspection.crossing = _crossing(splits, root, data_folder)
    return inspection


def _counts(splits: Splits) -> dict[str, dict[SplitName, int]]:
    counts = {
        split: torch.bincount(files.targets, minlength=len(splits.classes)).tolist()
        for split, files in splits.parts.items()
    }
    return {name: {split: counts[split][i] for split in counts} for i, name in enumerate(splits.classes)}


def _read_all(name: str, inspection: Inspection) -> None:
    faults: list[str] = []
    sums = torch.zeros(3, 3, dtype=torch.float64)  # number, sum and sum of squares, by channel
    for split, files in inspection.splits.parts.items():
        for path in files.paths():
            try:
                pixels = read(path).flatten(1).double()
            except UserError as error:
                faults.append(str(error))
                continue
            _note(path, pixels, inspection)
            if split == "train":
                sums += torch.stack([torch.full((3,), pixels.shape[1]), pixels.sum(1), pixels.square().sum(1)])
    if faults:
        total = len(inspection.paths)
        more = f"; {len(faults) - 1} more of the {total} files are damaged" if len(faults) > 1 else ""
        raise UserError(f"{name}: {faults[0]}{more}")
    mean, square = sums[1] / sums[0], sums[2] / sums[0]
    inspection.deviation = (square - mean.square()).clamp(min=0).sqrt().tolist()


def _note(path: str, pixels: torch.Tensor, inspection: Inspection) -> None:
    with Image.open(path) as opened:
        inspection.modes[opened.mode] += 1
        inspection.sizes[opened.size] += 1
        inspection.several_frames += getattr(opened, "n_frames", 1) > 1
    if pixels.amin() == pixels.amax():
        inspection.flat.append(path)


def _crossing(splits: Splits, root: Path, data_folder: str) -> list[list[str]]:
    """Groups of files with the same bytes that are in more than one split, by their path from `root`."""
    placed = [(split, path) for split, files in splits.parts.items() for path in files.paths()]
    files = [(path, path) for _, path in placed]
    name = f"check-{sha256(str(root.absolute()).encode(errors='surrogateescape')).hexdigest()[:16]}"
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for (split, path), digest in zip(placed, file_digests(files, Path(data_folder), name), strict=True):
        groups[digest].append((split, path.removeprefix(f"{root}/")))
    return [[path for _, path in group] for group in groups.values() if len({split for split, _ in group}) > 1]
