"""What the tables of results say of trials that failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from prunesweep.orchestrator.results.query import Query
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location
from prunesweep.workers.store import Store

if TYPE_CHECKING:
    from pandas import DataFrame


def asked_where_failed(places: Sequence[Location], frame: DataFrame, query: Query, store: Location) -> DataFrame | None:
    """All trials that were asked for, as `orchestrator.run.outcomes` has them, of the store's sweeps that lack some.

    None where all have finished: then no record is read. Of results outside the store nothing is known.
    """
    import pandas as pd

    from prunesweep.orchestrator.results import filtering
    from prunesweep.orchestrator.results.parquet import SWEEPS

    lacking = {sweep["sweep"] for sweep in frame.attrs.get(SWEEPS, ()) if sweep["finished"] < sweep["trials"]}
    asked = list(_asked(lacking, places, Store(store)))
    if not asked:
        return None
    with suppress(UserError):  # a condition on what was measured, or on a value that only finished trials have
        return filtering.where(pd.concat(asked).drop_duplicates("trial"), query.where, keep_dense=True)
    return None


def _asked(names: set[str], places: Sequence[Location], store: Store) -> Iterator[DataFrame]:
    from prunesweep.orchestrator.plan import make_plan
    from prunesweep.orchestrator.records import require
    from prunesweep.orchestrator.run.outcomes import outcomes

    for name in sorted(names):
        if store.url(name) in places:
            yield outcomes(make_plan(require(name, store), store), store)
