"""Runs divided into buckets, so that a snapshot can be audited part by part: trees of runs stay whole.

A run is in the bucket of the top of its tree, and every row about it in the same one. Rows about no
run (of models, of runs that are gone) are in bucket 0.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from mlflow_carbon.evidence.facts import PARENT_TAG
from mlflow_carbon.evidence.sql import Source, registered

RUN_OF: Mapping[str, str] = {
    "runs": "run_uuid",
    "latest_metrics": "run_uuid",
    "metrics": "run_uuid",
    "params": "run_uuid",
    "tags": "run_uuid",
    "inputs": "destination_id",
    "input_tags": "input_uuid",
}
"""The tables that are divided, and the column by which a row finds its bucket."""


def prefix(bucket: int) -> str:
    """How the names of a bucket's files begin."""
    return f"bucket-{bucket:05d}-"


@dataclass(frozen=True, slots=True)
class Buckets:
    """Where each run belongs: table ``place`` (``id`` of a run or an input, ``bucket``)."""

    con: duckdb.DuckDBPyConnection

    def write(self, table: str, rows: pa.RecordBatchReader, folder: Path) -> None:
        """Write rows of a divided table: files of each bucket, and one without rows, for its columns."""
        with registered(self.con, rows) as arriving:
            self.con.execute(
                f"COPY (SELECT {arriving}.*, COALESCE(bucket, 0) AS bucket FROM {arriving} LEFT JOIN place"
                f" ON place.id = {arriving}.{RUN_OF[table]}) TO {_quoted(folder)} (FORMAT parquet,"
                " COMPRESSION zstd, PARTITION_BY (bucket), FILENAME_PATTERN 'part-{i}', OVERWRITE_OR_IGNORE)"
            )
        for inner in sorted(folder.glob("bucket=*")):
            bucket = int(inner.name.partition("=")[2])
            for number, file in enumerate(sorted(inner.iterdir())):
                file.rename(folder / f"{prefix(bucket)}part-{number:05d}.parquet")
            inner.rmdir()


@contextmanager
def divided(source: Source, count: int) -> Iterator[Buckets]:
    """The place of every run of a store in one of ``count`` buckets.

    Raises:
        StoreError: the store cannot be read.
    """
    with (
        tempfile.TemporaryDirectory(prefix="mlflow-carbon-") as scratch,
        duckdb.connect(
            config={"temp_directory": scratch, "preserve_insertion_order": False}
        ) as con,
    ):
        con.execute("SET enable_progress_bar = false")
        _read(con, source, "run", "SELECT run_uuid AS id, run_uuid AS other FROM runs")
        _read(con, source, "child", "SELECT run_uuid AS id, COALESCE(value, '') AS other FROM tags WHERE key = ?", PARENT_TAG)  # fmt: skip
        _read(con, source, "input", "SELECT input_uuid AS id, destination_id AS other FROM inputs")
        _climb(con)
        con.execute(
            "CREATE TABLE place AS SELECT run.id, (hash(COALESCE(top.id, up.head, run.id)) % $count)::INTEGER"
            " AS bucket FROM run LEFT JOIN up ON up.id = run.id"
            " LEFT JOIN (SELECT id AS head, low AS id FROM up) AS top ON top.head = up.head",
            {"count": count},
        )
        con.execute(
            "INSERT INTO place SELECT input.id, bucket FROM input JOIN place ON place.id = input.other"
        )
        yield Buckets(con)


def _read(
    con: duckdb.DuckDBPyConnection, source: Source, name: str, query: str, *values: object
) -> None:
    with source.batches(query, values) as batches, registered(con, batches) as rows:
        con.execute(
            f"CREATE TABLE {name} AS SELECT id::VARCHAR AS id, other::VARCHAR AS other FROM {rows}"
        )


def _climb(con: duckdb.DuckDBPyConnection) -> None:
    """The table ``up``: for each run with a parent, the top ``head`` of its tree.

    Each round doubles the steps made. A circle of parents (tags are free text) has no top: after as
    many steps as there are runs, ``head`` is somewhere on it and ``low``, the least id met on the way
    from there, is the same for the whole circle.
    """
    con.execute(
        "CREATE TABLE up AS SELECT child.id, min(parent.id) AS head, least(child.id, min(parent.id)) AS low"
        " FROM child JOIN run AS parent ON parent.id = child.other GROUP BY child.id"
    )
    steps = 1
    while True:
        (found,) = con.execute(
            "SELECT count(*), count(*) FILTER (head IN (SELECT id FROM up)) FROM up"
        ).fetchall()
        below, moving = found
        if not moving or steps > below:
            return
        con.execute(
            "CREATE OR REPLACE TABLE up AS SELECT up.id, COALESCE(further.head, up.head) AS head,"
            " least(up.low, COALESCE(further.low, up.low)) AS low"
            " FROM up LEFT JOIN up AS further ON further.id = up.head"
        )
        steps *= 2


def _quoted(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"
