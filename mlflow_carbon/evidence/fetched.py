"""Runs fetched from a server, as MLflow's own tables in a temporary DuckDB file: audited like a database."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence.filters import Where
from mlflow_carbon.evidence.model import Evidence
from mlflow_carbon.evidence.query import Query, RegisteredModel, Store
from mlflow_carbon.evidence.relational import TableStore
from mlflow_carbon.evidence.snapshot import TABLES
from mlflow_carbon.evidence.sql import BrokenStreamError, registered

_BATCH_ROWS = 65_536
_MEMORY_MB = 256

_Rows = dict[str, list[tuple[Any, ...]]]
"""Table -> its new rows, in the order of ``TABLES``."""


class Fetched:
    """The tables; a ``sql.Source``. Those of the registry stay empty."""

    is_sqlite = False

    def __init__(self, shown: str, folder: Path) -> None:
        """Make them in a new file in ``folder``; ``shown`` says where the runs come from."""
        self.shown, self._folder = shown, folder
        self._datasets: dict[tuple[str, ...], str] = {}
        self._con = duckdb.connect(
            folder / "fetched.duckdb",
            config={
                "memory_limit": f"{_MEMORY_MB}MB",
                "temp_directory": str(folder / "spill"),
                "preserve_insertion_order": False,
            },
        )
        self._con.execute("SET enable_progress_bar = false")
        with self._told():
            for table, columns in TABLES.items():
                self._con.register("rows", pa.schema(list(columns.items())).empty_table())
                self._con.execute(f"CREATE TABLE {table} AS SELECT * FROM rows")
                self._con.unregister("rows")

    def close(self) -> None:
        """Let go of the file."""
        self._con.close()

    @cached_property
    def columns(self) -> Mapping[str, frozenset[str]]:
        """The columns of each table."""
        return {table: frozenset(columns) for table, columns in TABLES.items()}

    def add(self, runs: Iterable[Mapping[str, Any]]) -> None:
        """Put down runs as the REST API gives them.

        Raises:
            StoreError: there is no room for them.
        """
        rows: _Rows = {table: [] for table in TABLES}
        for run in runs:
            _put_run(rows, run)
            self._put_inputs(rows, run)
        with self._told():
            for table, found in rows.items():
                if not found:
                    continue
                values = zip(*found, strict=True)
                columns = zip(TABLES[table].items(), values, strict=True)
                self._con.register(
                    "rows", pa.table({name: pa.array(one, kind) for (name, kind), one in columns})
                )
                self._con.execute(f"INSERT INTO {table} SELECT * FROM rows")
                self._con.unregister("rows")

    def _put_inputs(self, rows: _Rows, run: Mapping[str, Any]) -> None:
        run_id = run["info"]["run_id"]
        for number, one in enumerate(run.get("inputs", {}).get("dataset_inputs", ())):
            found = one.get("dataset", {})
            dataset = tuple(
                str(found.get(key, "")) for key in ("name", "digest", "source_type", "source")
            )
            if dataset not in self._datasets:
                self._datasets[dataset] = f"dataset-{len(self._datasets)}"
                rows["datasets"].append((self._datasets[dataset], *dataset))
            key = f"{run_id}/{number}"
            rows["inputs"].append((key, "DATASET", self._datasets[dataset], "RUN", run_id))
            rows["input_tags"] += [(key, *pair) for pair in _pairs(one.get("tags"))]

    @contextmanager
    def batches(self, query: str, values: Sequence[object] = ()) -> Iterator[pa.RecordBatchReader]:
        """The answer of a query as a stream; ``?`` in the query stands for a value, in order."""
        with self._con.cursor() as cursor:
            with self._told():
                reader = cursor.sql(query, params=list(values)).to_arrow_reader(_BATCH_ROWS)
            yield reader

    @contextmanager
    def relation(
        self, con: duckdb.DuckDBPyConnection, query: str, values: Sequence[object] = ()
    ) -> Iterator[tuple[str, Mapping[str, object]]]:
        """The answer of a query as one statement of ``con`` can select from it; see ``Source``."""
        try:
            with self.batches(query, values) as batches, registered(con, batches) as name:
                yield name, {}
        except BrokenStreamError as error:
            raise self._no_room(error) from None

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            raise self._no_room(error) from None

    def _no_room(self, error: Exception) -> StoreError:
        return StoreError(
            f"{self.shown}: its runs do not fit into {self._folder} ({str(error).splitlines()[0]}). "
            "Give more room for temporary files with TMPDIR."
        )


def _put_run(rows: _Rows, run: Mapping[str, Any]) -> None:
    info, data = run["info"], run.get("data", {})
    run_id = info["run_id"]
    texts = (info.get(key, "") for key in ("run_name", "user_id", "status", "lifecycle_stage"))
    times = (_whole(info.get(key)) for key in ("start_time", "end_time"))
    rows["runs"].append((run_id, *texts, *times, int(info["experiment_id"])))
    for one in data.get("metrics", ()):
        value = float(one.get("value", 0.0))  # "NaN" and "Infinity" are texts in JSON
        nan = math.isnan(value)
        rows["latest_metrics"].append((run_id, one["key"], 0.0 if nan else value, nan))
    rows["params"] += [(run_id, *pair) for pair in _pairs(data.get("params"))]
    rows["tags"] += [(run_id, *pair) for pair in _pairs(data.get("tags"))]


def _pairs(found: Iterable[Mapping[str, str]] | None) -> Iterator[tuple[str, str]]:
    for one in found or ():
        yield one.get("key", ""), one.get("value", "")


def _whole(milliseconds: int | str | None) -> int | None:
    return None if milliseconds is None else int(milliseconds)


class FetchedStore(TableStore):
    """Runs from the tables; models, versions and series from the server itself."""

    def __init__(self, server: Store, source: Fetched, experiments: dict[str, str]) -> None:
        """``experiments``: those that were asked for."""
        super().__init__(source)
        self._server, self._experiments = server, experiments

    def experiments(self, query: Query) -> dict[str, str]:  # noqa: ARG002 (as every store)
        """Id -> name of the experiments whose runs were fetched."""
        return self._experiments

    def where(self, query: Query) -> Where:  # noqa: ARG002
        """No condition: the server has chosen."""
        return Where()

    def models(self, query: Query) -> Iterator[RegisteredModel]:
        """Each registered model that is not a prompt."""
        return self._server.models(query)

    def series(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """(Unix milliseconds, value) of every entry of a run's metric."""
        return self._server.series(run_id, metric)

    def version(self, name: str, version: str) -> Evidence:
        """One model version with its lineage."""
        return self._server.version(name, version)
