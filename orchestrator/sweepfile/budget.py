"""`budget: 5x`: all epochs of a trial's path, as a multiple of the dense training that `train` describes.

A method that is one training is trained so many times as long: epochs, warm-up and drops of the learning rate are
multiplied (Evci et al. 2020, section 4.1), and so are the lengths that the method has in epochs. A method that prunes a
trained network keeps its dense training, and the rest of the budget is its retraining.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from prunesweep.orchestrator.sweepfile.cells import Cell, Element
from prunesweep.orchestrator.sweepfile.document import Problem, Rejected
from prunesweep.orchestrator.sweepfile.methods import LEVELS, PHASE, RETRAIN, TIMES, known_method
from prunesweep.orchestrator.sweepfile.starting import FROM_INIT

EPOCHS = "train.epochs"

LENGTHS = (EPOCHS, "train.warmup_epochs", "train.step_epochs", "train.milestones")

FIXED = (RETRAIN, PHASE, LEVELS, "rewind_epoch")
"""What says otherwise how long a trial retrains."""


def within_budget(cell: Cell) -> Cell:
    """The cell with the lengths that its budget makes of them; raises `Rejected` where it makes none."""
    if TIMES not in cell:
        return cell
    if cell["init"].value is not None:
        instead = f"{RETRAIN}, or {FROM_INIT}: {{epochs: ...}} for methods that train"
        raise _rejected(cell, f"{cell[TIMES].value} of a dense training, which init takes the place of: give {instead}")
    times = _times(cell)
    return _retrained(cell, times) if RETRAIN in cell else _extended(cell, times)


def dense_epochs(cell: Cell) -> int | None:
    """How long the dense training is that the budget is a multiple of; None where it is `train.epochs`."""
    if TIMES not in cell or RETRAIN in cell or _times(cell) == 1:
        return None
    return int(cell[EPOCHS].value / _times(cell))


def _times(cell: Cell) -> Fraction:
    return Fraction(cell[TIMES].value.removesuffix("x"))


def _rejected(cell: Cell, message: str) -> Rejected:
    return Rejected(Problem(cell[TIMES].loc, message))


def _retrained(cell: Cell, times: Fraction) -> Cell:
    for name in FIXED:
        if name in cell and isinstance(cell[name].value, int | float):
            raise _rejected(cell, f"the budget says how long the trial retrains, and so does {name}; leave one out")
    epochs, rest = cell[EPOCHS].value, (times - 1) * cell[EPOCHS].value
    if rest <= 0:
        raise _rejected(
            cell,
            f"{cell[TIMES].value} leaves no epoch to retrain: the dense training of {epochs} (train.epochs) is 1x; "
            "give more, or take bimp, which trains shorter",
        )
    return {**cell, RETRAIN: Element(_whole(cell, RETRAIN, rest), cell[TIMES].loc)}


def _extended(cell: Cell, times: Fraction) -> Cell:
    if times == 0:
        raise _rejected(cell, "0x trains nothing; give a multiple above 0")
    method = known_method(cell["method"].value)
    scaled = {name: _multiplied(cell, name, times) for name in (*LENGTHS, *method.lengths)}
    gamma = cell["train.gamma"]
    if cell["train.schedule"].value == "exponential" and gamma.value is not None:
        scaled["train.gamma"] = Element(gamma.value ** float(1 / times), gamma.loc)
    return {**cell, **scaled}


def _multiplied(cell: Cell, name: str, times: Fraction) -> Element:
    value: Any = cell[name].value
    if isinstance(value, tuple):
        value = tuple(_whole(cell, name, times * length) for length in value)
    elif isinstance(value, int):
        value = _whole(cell, name, times * value)
    return Element(value, cell[name].loc)


def _whole(cell: Cell, name: str, length: Fraction) -> int:
    if length.denominator != 1:
        raise _rejected(
            cell, f"{cell[TIMES].value} makes {name} {float(length):g} epochs, which is no whole number; take another"
        )
    return int(length)
