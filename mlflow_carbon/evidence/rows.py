"""Whole runs read by id straight from MLflow's tables, shaped as MLflow's own entities.

MLflow's classes are not used: importing them costs seconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence.address import in_short
from mlflow_carbon.evidence.facts import number
from mlflow_carbon.evidence.sql import Source

_CHUNK = 2_000
"""Ids in one query: below the number of values any database takes (SQLite: 32,766)."""


@dataclass(frozen=True, slots=True)
class Info:
    """As ``mlflow.entities.RunInfo``."""

    run_id: str
    run_name: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int | None
    end_time: int | None
    lifecycle_stage: str


@dataclass(slots=True)
class Data:
    """As ``mlflow.entities.RunData``."""

    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tag:
    """As ``mlflow.entities.InputTag``."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """As ``mlflow.entities.Dataset``."""

    name: str
    digest: str
    source_type: str
    source: str


@dataclass(frozen=True, slots=True)
class DatasetInput:
    """As ``mlflow.entities.DatasetInput``."""

    dataset: Dataset
    tags: list[Tag]


@dataclass(slots=True)
class Inputs:
    """As ``mlflow.entities.RunInputs``."""

    dataset_inputs: list[DatasetInput] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Run:
    """As ``mlflow.entities.Run``."""

    info: Info
    data: Data
    inputs: Inputs


def read_runs(source: Source, run_ids: Sequence[str]) -> Iterator[Run]:
    """The runs with all that was logged to them, in the order of the ids; unknown ids are left out.

    Raises:
        StoreError: the store cannot be read.
    """
    for start in range(0, len(run_ids), _CHUNK):
        yield from _read_chunk(source, run_ids[start : start + _CHUNK])


def rows_of(source: Source, query: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
    """A short answer as rows.

    Raises:
        StoreError: the store cannot be read.
    """
    with source.batches(query, values) as batches:
        found: list[dict[str, Any]] = batches.read_all().to_pylist()
        return found


def with_numbers(source: Source, rows: list[dict[str, Any]], *columns: str) -> list[dict[str, Any]]:
    """The same rows, in which these columns hold numbers or nothing.

    Raises:
        StoreError: SQLite, which takes anything into any column, holds something else there.
    """
    for column in columns:
        # One text among numbers makes texts of them all: the driver gives a column one type.
        if texts := [row[column] for row in rows if isinstance(row[column], str | bytes)]:
            odd = next((one for one in texts if not _reads_as_number(one)), texts[0])
            try:
                number(odd)
            except ValueError as error:
                reason = in_short(source.shown, str(error))
                raise StoreError(f"{source.shown}: cannot be read: {reason}") from None
    return rows


def _reads_as_number(text: str | bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_chunk(source: Source, run_ids: Sequence[str]) -> Iterator[Run]:
    among = f"IN ({', '.join('?' * len(run_ids))})"

    def rows(query: str) -> list[dict[str, Any]]:
        return rows_of(source, query.replace("AMONG", among), run_ids)

    data: defaultdict[str, Data] = defaultdict(Data)
    metrics = rows("SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE run_uuid AMONG")
    for row in with_numbers(source, metrics, "value"):
        value = float("nan") if row["is_nan"] else float(row["value"])
        data[row["run_uuid"]].metrics[row["key"]] = value
    for row in rows("SELECT run_uuid, key, value FROM params WHERE run_uuid AMONG"):
        data[row["run_uuid"]].params[row["key"]] = row["value"]
    for row in rows(
        "SELECT run_uuid, key, COALESCE(value, '') AS value FROM tags WHERE run_uuid AMONG"
    ):
        data[row["run_uuid"]].tags[row["key"]] = row["value"]
    inputs = _inputs(rows)
    found = rows(
        "SELECT run_uuid, COALESCE(name, '') AS name, COALESCE(user_id, '') AS user_id, status,"
        " start_time, end_time, lifecycle_stage, experiment_id FROM runs WHERE run_uuid AMONG"
    )
    infos = {row["run_uuid"]: row for row in with_numbers(source, found, "start_time", "end_time")}
    for run_id in run_ids:
        if run_id in infos:
            yield Run(_info(infos[run_id], data[run_id].tags), data[run_id], inputs[run_id])


def _info(row: dict[str, Any], tags: dict[str, str]) -> Info:
    return Info(
        run_id=row["run_uuid"],
        run_name=row["name"] or tags.get("mlflow.runName", ""),
        experiment_id=str(row["experiment_id"]),
        user_id=row["user_id"],
        status=row["status"],
        start_time=row["start_time"],
        end_time=row["end_time"],
        lifecycle_stage=row["lifecycle_stage"],
    )


def _inputs(rows: Any) -> defaultdict[str, Inputs]:
    """Run id -> the datasets the run read, with their tags."""
    tags: dict[str, list[Tag]] = {}
    found: defaultdict[str, Inputs] = defaultdict(Inputs)
    for row in rows(
        "SELECT i.input_uuid, i.destination_id, d.name, d.digest,"
        " d.dataset_source_type AS source_type, d.dataset_source AS source"
        " FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id"
        " WHERE i.source_type = 'DATASET' AND i.destination_type = 'RUN' AND i.destination_id AMONG"
    ):
        own: list[Tag] = []
        tags[row["input_uuid"]] = own
        dataset = Dataset(row["name"], row["digest"], row["source_type"], row["source"])
        found[row["destination_id"]].dataset_inputs.append(DatasetInput(dataset, own))
    for row in rows(
        "SELECT t.input_uuid, t.name, t.value FROM inputs i JOIN input_tags t"
        " ON t.input_uuid = i.input_uuid WHERE i.source_type = 'DATASET'"
        " AND i.destination_type = 'RUN' AND i.destination_id AMONG"
    ):
        if row["input_uuid"] in tags:
            tags[row["input_uuid"]].append(Tag(row["name"], row["value"]))
    return found
