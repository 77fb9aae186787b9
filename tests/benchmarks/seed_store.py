"""Fill an MLflow store with very many runs: schema made by MLflow, rows inserted in bulk.

    python tests/benchmarks/seed_store.py sqlite:////tmp/big.db 100000

Each run has 10 metrics, 6 params, 9 tags and 1 or 2 datasets; in every 20th run the energy is
missing, every 50th failed, every 10th is the parent of the 5 after it.
"""

from __future__ import annotations

import sys
from typing import Any

import duckdb
import sqlalchemy
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from mlflow_carbon.schema import InputTag, Metric, Tag

_CHUNK = 20_000
_START_MS = 1_767_225_600_000
"""2026-01-01."""

_METRICS = {
    Metric.ENERGY_KWH: "0.05 + (i % 97) * 0.01",
    Metric.ENERGY_KWH_LOW: "0.04 + (i % 97) * 0.009",
    Metric.ENERGY_KWH_HIGH: "0.06 + (i % 97) * 0.012",
    Metric.EMISSIONS_KG: "0.005 + (i % 97) * 0.001",
    Metric.GPU_ENERGY_KWH: "0.03 + (i % 97) * 0.008",
    Metric.CPU_ENERGY_KWH: "0.02 + (i % 97) * 0.002",
    Metric.COVERAGE: "0.85 + (i % 15) * 0.01",
    "accuracy": "0.5 + (i % 50) * 0.01",
    "loss": "1.0 / (1 + i % 31)",
    "epoch": "i % 20",
}
_TAGS = {
    "mlflow.user": "'user' || (i % 40)",
    "mlflow.source.git.commit": "md5((i // 9)::VARCHAR)",
    Tag.STATUS: "'measured'",
    Tag.TREE: "'inclusive'",
    Tag.METHOD: "CASE i % 3 WHEN 0 THEN 'counter' WHEN 1 THEN 'sampled' ELSE 'modelled' END",
    Tag.METHODS: """'{"gpu": "counter", "cpu": "modelled"}'""",
    Tag.FACTOR: "(41 + i % 5)::VARCHAR",
    Tag.FACTOR_SOURCE: "'Ember 2026'",
    Tag.REGION: "CASE WHEN i % 7 = 0 THEN 'unknown' ELSE 'FR' END",
}
_PARAMS = {f"param_{k}": f"((i * {k + 3}) % 1000)::VARCHAR" for k in range(6)}
_INPUT_TAGS = {
    InputTag.CONTEXT: "CASE role WHEN 0 THEN 'training' ELSE 'testing' END",
    InputTag.SHA256: "sha256((i % 500)::VARCHAR || role)",
    InputTag.LICENSE: "CASE i % 9 WHEN 0 THEN NULL WHEN 1 THEN 'proprietary!' ELSE 'CC-BY-4.0' END",
    InputTag.ROWS: "(1000 + i % 500)::VARCHAR",
}


def seed(uri: str, runs: int) -> None:
    """Create the schema and insert ``runs`` runs into an experiment ``big``."""
    store = SqlAlchemyStore(uri, "/tmp/unused-artifacts")
    experiment = int(store.create_experiment("big"))
    with _Writer(uri) as writer:
        for first in range(0, runs, _CHUNK):
            _chunk(writer, experiment, first, min(first + _CHUNK, runs))
            print(f"\r{min(first + _CHUNK, runs):>9} of {runs} runs", end="", file=sys.stderr)
    print(file=sys.stderr)


class _Writer:
    def __init__(self, uri: str) -> None:
        url = sqlalchemy.make_url(uri)
        if url.drivername.startswith("sqlite"):
            from adbc_driver_sqlite import dbapi as driver

            self._connection = driver.connect(str(url.database), autocommit=True)
            with self._connection.cursor() as cursor:
                # A store that breaks here is made again; a cache keeps the random keys off the disk.
                for pragma in ("synchronous = OFF", "journal_mode = OFF", "cache_size = -1000000"):
                    cursor.execute(f"PRAGMA {pragma}")
        else:
            from adbc_driver_postgresql import dbapi as driver

            address = url.set(drivername="postgresql").render_as_string(hide_password=False)
            self._connection = driver.connect(address, autocommit=True)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def add(self, table: str, query: str, values: list[Any]) -> None:
        """Append the rows of a DuckDB query to a table of the store."""
        rows = duckdb.sql(query, params=values).to_arrow_table()
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest(table, rows, mode="append")


def _chunk(writer: _Writer, experiment: int, first: int, last: int) -> None:
    base = f"(SELECT i, md5(i::VARCHAR) AS run_uuid FROM range({first}, {last}) t(i))"
    writer.add(
        "runs",
        "SELECT run_uuid, 'run-' || i AS name, 'user' AS user_id,"
        " CASE WHEN i % 50 = 0 THEN 'FAILED' ELSE 'FINISHED' END AS status,"
        f" ({_START_MS} + i * 1000 + CASE WHEN i % 10 BETWEEN 1 AND 5 THEN 100 ELSE 0 END)::BIGINT AS start_time,"
        f" ({_START_MS} + i * 1000 + 600000)::BIGINT AS end_time, 'active' AS lifecycle_stage,"
        f" {experiment}::INTEGER AS experiment_id FROM {base}",
        [],
    )
    for key, value in _METRICS.items():
        energy = " WHERE i % 20 <> 3" if key.startswith("carbon/") else ""
        writer.add(
            "latest_metrics",
            f"SELECT ? AS key, ({value})::DOUBLE AS value, {_START_MS}::BIGINT AS timestamp, 0::BIGINT AS step,"
            f" false AS is_nan, run_uuid FROM {base}{energy}",
            [key],
        )
    for table, pairs in (("params", _PARAMS), ("tags", _TAGS)):
        for key, value in pairs.items():
            writer.add(table, f"SELECT ? AS key, {value} AS value, run_uuid FROM {base}", [key])
    writer.add(
        "tags",
        "SELECT 'mlflow.parentRunId' AS key, md5((i - i % 10)::VARCHAR) AS value, run_uuid"
        f" FROM {base} WHERE i % 10 BETWEEN 1 AND 5",
        [],
    )
    used = (
        "(SELECT *, md5('d' || (i % 500) || '-' || role) AS dataset_uuid, md5('i' || i || '-' || role) AS input_uuid"
        f" FROM {base}, range(0, 2) r(role) WHERE role = 0 OR i % 2 = 0)"
    )
    if first == 0:
        writer.add(
            "datasets",
            f"SELECT DISTINCT dataset_uuid, {experiment}::INTEGER AS experiment_id,"
            " 'set' || (i % 50) AS name, left(dataset_uuid, 8) AS digest, 'local' AS dataset_source_type,"
            f" '{{}}' AS dataset_source FROM {used}",
            [],
        )
    writer.add(
        "inputs",
        "SELECT input_uuid, 'DATASET' AS source_type, dataset_uuid AS source_id, 'RUN' AS destination_type,"
        f" run_uuid AS destination_id FROM {used}",
        [],
    )
    for key, value in _INPUT_TAGS.items():
        writer.add(
            "input_tags",
            f"SELECT * FROM (SELECT input_uuid, ? AS name, {value} AS value FROM {used}) WHERE value IS NOT NULL",
            [key],
        )


if __name__ == "__main__":
    seed(sys.argv[1], int(sys.argv[2]))
