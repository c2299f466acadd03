"""What a table of candidates says of the number that its searches choose by."""

from __future__ import annotations

import pandas as pd


def lower_is_better(rows: pd.DataFrame) -> bool:
    """Whether less of what the first row's search chooses by is better; tables of before have losses and accuracies."""
    said, by = rows["better"].iloc[0], str(rows["by"].iloc[0])
    return said == "lower" if isinstance(said, str) else by.endswith("loss")
