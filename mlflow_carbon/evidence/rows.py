"""Whole runs read by id straight from MLflow's database, as MLflow's own entities."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunTag,
)

from mlflow_carbon.evidence.sql import Database

_CHUNK = 200
"""Ids in one query: far below the number of values any database takes."""


def read_runs(source: Database, run_ids: Sequence[str]) -> Iterator[Any]:
    """The runs with all that was logged to them, in the order of the ids; unknown ids are left out.

    Raises:
        StoreError: the database cannot be read.
    """
    for start in range(0, len(run_ids), _CHUNK):
        yield from _read_chunk(source, run_ids[start : start + _CHUNK])


def _read_chunk(source: Database, run_ids: Sequence[str]) -> Iterator[Any]:
    among = f"IN ({', '.join('?' * len(run_ids))})"

    def rows(query: str) -> list[dict[str, Any]]:
        with source.batches(query.replace("AMONG", among), run_ids) as batches:
            found: list[dict[str, Any]] = batches.read_all().to_pylist()
            return found

    metrics, params, tags = (defaultdict(list) for _ in range(3))
    for row in rows(
        "SELECT run_uuid, key, value, timestamp, step, is_nan FROM latest_metrics WHERE run_uuid AMONG"
    ):
        value = float("nan") if row["is_nan"] else row["value"]
        metrics[row["run_uuid"]].append(Metric(row["key"], value, row["timestamp"], row["step"]))
    for row in rows("SELECT run_uuid, key, value FROM params WHERE run_uuid AMONG"):
        params[row["run_uuid"]].append(Param(row["key"], row["value"]))
    for row in rows(
        "SELECT run_uuid, key, COALESCE(value, '') AS value FROM tags WHERE run_uuid AMONG"
    ):
        tags[row["run_uuid"]].append(RunTag(row["key"], row["value"]))
    inputs = _inputs(rows)
    infos = {
        row["run_uuid"]: row
        for row in rows(
            "SELECT run_uuid, COALESCE(name, '') AS name, COALESCE(user_id, '') AS user_id, status,"
            " start_time, end_time, lifecycle_stage, experiment_id FROM runs WHERE run_uuid AMONG"
        )
    }
    for run_id in run_ids:
        if run_id in infos:
            data = RunData(metrics[run_id], params[run_id], tags[run_id])
            yield Run(_info(infos[run_id], data.tags), data, RunInputs(inputs[run_id]))


def _info(row: dict[str, Any], tags: dict[str, str]) -> Any:
    return RunInfo(
        run_id=row["run_uuid"],
        experiment_id=str(row["experiment_id"]),
        user_id=row["user_id"],
        status=row["status"],
        start_time=row["start_time"],
        end_time=row["end_time"],
        lifecycle_stage=row["lifecycle_stage"],
        run_name=row["name"] or tags.get("mlflow.runName"),
    )


def _inputs(rows: Any) -> dict[str, list[Any]]:
    joined = "inputs i JOIN datasets d ON d.dataset_uuid = i.source_id"
    chosen = "i.source_type = 'DATASET' AND i.destination_type = 'RUN' AND i.destination_id AMONG"
    tags: dict[str, list[Any]] = defaultdict(list)
    for row in rows(
        f"SELECT t.input_uuid, t.name, t.value FROM {joined}"
        f" JOIN input_tags t ON t.input_uuid = i.input_uuid WHERE {chosen}"
    ):
        tags[row["input_uuid"]].append(InputTag(row["name"], row["value"]))
    inputs: dict[str, list[Any]] = defaultdict(list)
    for row in rows(
        "SELECT i.input_uuid, i.destination_id AS run_uuid, d.name, d.digest, d.dataset_source_type,"
        f" d.dataset_source FROM {joined} WHERE {chosen} ORDER BY d.name, d.digest"
    ):
        dataset = Dataset(
            row["name"], row["digest"], row["dataset_source_type"], row["dataset_source"]
        )
        inputs[row["run_uuid"]].append(DatasetInput(dataset, tags[row["input_uuid"]]))
    return inputs
