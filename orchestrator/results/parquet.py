"""Finished results from folders, URLs and files, as DataFrames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from prunesweep.orchestrator.results.checks import asked_for, checked
from prunesweep.orchestrator.results.schemas import SCHEMA_VERSION, VERSION_KEY, learn
from prunesweep.orchestrator.results.sealing import unsealed_table
from prunesweep.workers.errors import UserError
from prunesweep.workers.filesystems import Local
from prunesweep.workers.location import Location, public
from prunesweep.workers.remote import remote
from prunesweep.workers.spec import TrainSpec

SWEEPS = "sweeps"
"""Under this name a frame's `attrs` say how large its sweeps are."""

Place = str | Path | Location
"""A folder, a URL or a Parquet file."""

POINTERS = (b"version https://git-lfs", b"/annex/objects/")
"""With what a file begins that Git LFS or git-annex keeps in the place of a large one."""

_TABLES = ("trials.parquet", "curves.parquet", "layers.parquet", "classes.parquet", "candidates.parquet")


def load_results(folder: Place, *more: Place, nullable: bool = False) -> pd.DataFrame:
    """A row per finished trial, as `orchestrator.results.schemas` describes it.

    Each argument is a sweep's folder (`results/quickstart`), its URL, or a `trials.parquet` itself. A trial that
    several sweeps share comes once, from the first. Raises `UserError` where there are no results.

    The frame's `attrs["sweeps"]` says of each sweep how many `trials` it has, how many are `finished`, and which
    `seeds` every setting is to have, None where they have unlike ones: with it tables tell what is missing. With
    `nullable` columns of whole numbers and of booleans are such also where values are missing, as pandas' nullable
    types; else they are floats and objects.
    """
    tables = [_read(place, "trials") for place in (folder, *more)]
    for table in tables:
        learn(table.schema)
    schema, sweeps = tables[0].schema, [sweep for table in tables for sweep in _sweeps(table)]
    frame = _joined(tables)
    if nullable:
        frame = _nullable(frame, schema)
    frame.attrs[SWEEPS] = sweeps
    return frame


def load_curves(folder: Place, *more: Place) -> pd.DataFrame:
    """A row per trial, stage and epoch, from the same places as `load_results`."""
    return _joined([_read(place, "curves") for place in (folder, *more)])


def load_layers(folder: Place, *more: Place) -> pd.DataFrame:
    """A row per trial and layer, from the same places as `load_results`."""
    return _joined([_read(place, "layers") for place in (folder, *more)])


def load_candidates(folder: Place, *more: Place) -> pd.DataFrame:
    """A row per candidate of a search and rung, as `orchestrator.results.schemas.CANDIDATES` describes it.

    Raises `UserError` where a sweep has no searches.
    """
    tables = [_read(place, "candidates") for place in (folder, *more)]
    frame: pd.DataFrame = pa.concat_tables(tables, promote_options="permissive").to_pandas()
    return frame


def load_classes(folder: Place, *more: Place) -> pd.DataFrame:
    """A row per trial and class of the test set, from the same places as `load_results`."""
    return _joined([_read(place, "classes") for place in (folder, *more)])


def _joined(tables: Sequence[pa.Table]) -> pd.DataFrame:
    """Of a trial that several tables have, the rows of the first. The tables must not be used any more."""
    whole = tables[0]
    for table in tables[1:]:
        known = pc.is_in(table["trial"], value_set=whole["trial"].combine_chunks())
        whole = pa.concat_tables([whole, table.filter(pc.invert(known))], promote_options="permissive")
    frame: pd.DataFrame = whole.to_pandas(self_destruct=True)  # column by column: they are not in memory twice
    return frame


def _nullable(frame: pd.DataFrame, schema: pa.Schema) -> pd.DataFrame:
    types: dict[str, Any] = {}
    for field in schema:
        if frame[field.name].isna().any() and (pa.types.is_integer(field.type) or pa.types.is_boolean(field.type)):
            types[field.name] = "boolean" if pa.types.is_boolean(field.type) else "Int64"
    return frame.astype(types)


def _sweeps(table: pa.Table) -> list[dict[str, Any]]:
    sweep = asked_for(table)
    if sweep is not None:
        return [{**sweep, "finished": len(table)}]
    return sweeps_of(table.select(["sweep", "trial", "seed"]).to_pandas())


def sweeps_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """How large the sweeps are, where no file says it: they have what is there, every setting with all the seeds."""
    sweeps = []
    for name, rows in frame.groupby("sweep"):
        count, seeds = rows["trial"].nunique(), sorted(int(seed) for seed in rows["seed"].dropna().unique())
        sweeps.append({"sweep": name, "trials": count, "finished": count, "seeds": seeds})
    return sweeps


def _file(place: Place, name: str) -> Location:
    location = Location(place)
    if location.is_url:
        text, mark, options = location.reveal().partition("?")
        return Location(_beside(text.rstrip("/"), name) + mark + options)
    return Location(_beside(str(Path(location).expanduser()), name))


def _beside(text: str, name: str) -> str:
    folder, _, last = text.rpartition("/")
    if last in _TABLES:
        return f"{folder or '.'}/{name}"
    return text if last.endswith(".parquet") else f"{text}/{name}"


def _read(place: Place, name: str) -> pa.Table:
    path = _file(place, f"{name}.parquet")
    try:
        data = _bytes(path)
        if data.startswith(POINTERS):
            raise UserError(f"{path} is a pointer of Git's to a table that is not here: git lfs pull, or git annex get")
        table = unsealed_table(data, name)
        version = int((table.schema.metadata or {}).get(VERSION_KEY, 0))
        if version <= SCHEMA_VERSION:
            table = checked(table, name)
    except UserError:
        raise
    except FileNotFoundError as error:
        if not path.is_url and Path(path).is_symlink():
            raise UserError(f"{path} is a link to a file that is not here; git annex get, or copy it, too") from error
        if name == "candidates":
            raise UserError(f"no searches at {path}: the sweep has none, or has not been run") from error
        raise UserError(f"no results at {path}; `prunesweep run SWEEP` makes them") from error
    except (pa.ArrowException, ValueError, OSError) as error:
        raise UserError(
            f"cannot read {path}: {public(str(error))}; if the file is damaged, `prunesweep run SWEEP` writes it again"
        ) from error
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, this prunesweep reads up to {SCHEMA_VERSION}; upgrade prunesweep"
        )
    return _with_later_settings(table) if name == "trials" else table


def _bytes(path: Location) -> bytes:
    if path.is_url:
        filesystem, inner = remote(path)
        with filesystem.open_input_stream(inner, compression=None) as stream:
            content: bytes = stream.read()
            return content
    data = Local(str(Path(path).parent)).read(str(Path(path)))
    if data is None:
        raise FileNotFoundError(path)
    return data


def _with_later_settings(table: pa.Table) -> pa.Table:
    """A table from before a training setting was there, with what all trained with then; columns of nulls are left."""
    for field in fields(TrainSpec):
        usual = field.metadata.get("left out at")
        if usual is not None and field.name not in table.schema.names:
            table = table.append_column(field.name, pa.array([usual] * len(table), pa.scalar(usual).type))
    return table
