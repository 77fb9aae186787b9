"""A copy of MLflow's tables as Parquet files, to take away: audited like the store, checked without it.

    manifest.json            what was copied, when, from where
    SHA256SUMS               of every file; ``sha256sum -c SHA256SUMS`` checks it too
    runs/part-00000.parquet  one folder for each table, in parts of at most ``PART_ROWS`` rows

A snapshot in buckets has ``runs/bucket-00000-part-00000.parquet`` and so on, see ``buckets``.
Text that is missing is empty in the copy; MLflow makes no difference between the two.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from mlflow_carbon.errors import OutputError, StoreError
from mlflow_carbon.evidence.buckets import RUN_OF, Buckets, divided, prefix
from mlflow_carbon.evidence.filters import Where
from mlflow_carbon.evidence.sql import Source
from mlflow_carbon.schema import Metric

FORMAT = "urn:mlflow-carbon:evidence-snapshot:1"
MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
PART_ROWS = 2_000_000
_BATCH_ROWS = 65_536
_SCHEMA = "mlflow"
_BUCKET = "/bucket-"

_TEXT, _WHOLE, _REAL, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()


def _texts(*names: str) -> dict[str, pa.DataType]:
    return dict.fromkeys(names, _TEXT)


_TAG = _texts("key", "value")
_WORKSPACE = _texts("workspace")
TABLES: Mapping[str, Mapping[str, pa.DataType]] = {
    "experiments": {"experiment_id": _WHOLE, **_texts("name", "lifecycle_stage", "workspace")},
    "experiment_tags": {"experiment_id": _WHOLE, **_TAG},
    "runs": {
        **_texts("run_uuid", "name", "user_id", "status", "lifecycle_stage"),
        **dict.fromkeys(("start_time", "end_time", "experiment_id"), _WHOLE),
    },
    "latest_metrics": {**_texts("run_uuid", "key"), "value": _REAL, "is_nan": _FLAG},
    "metrics": {**_texts("run_uuid", "key"), "value": _REAL, "timestamp": _WHOLE},
    "params": {**_texts("run_uuid"), **_TAG},
    "tags": {**_texts("run_uuid"), **_TAG},
    "datasets": _texts("dataset_uuid", "name", "digest", "dataset_source_type", "dataset_source"),
    "inputs": _texts(
        "input_uuid", "source_type", "source_id", "destination_type", "destination_id"
    ),
    "input_tags": _texts("input_uuid", "name", "value"),
    "logged_models": _texts("model_id", "source_run_id", "lifecycle_stage"),
    "logged_model_metrics": _texts("model_id", "run_id"),
    "registered_models": {**_texts("name", "description"), **_WORKSPACE},
    "registered_model_tags": {**_texts("name"), **_TAG, **_WORKSPACE},
    "registered_model_aliases": {**_texts("name", "alias"), "version": _WHOLE, **_WORKSPACE},
    "model_versions": {
        **_texts(
            "name", "description", "user_id", "current_stage", "source", "run_id", "workspace"
        ),
        **dict.fromkeys(("version", "creation_time"), _WHOLE),
    },
    "model_version_tags": {**_texts("name"), "version": _WHOLE, **_TAG, **_WORKSPACE},
}
"""What an audit reads of MLflow's database."""

_OF_RUN = {table: column for table, column in RUN_OF.items() if table != "input_tags"}
"""Tables of which only the rows of chosen runs are copied, and the column that names the run."""


def is_snapshot(address: str) -> bool:
    """Whether the address is a folder that holds a snapshot."""
    return "://" not in address and (Path(address) / SUMS).is_file()


def write_snapshot(
    source: Source,
    chosen: Where | None,
    folder: Path,
    made_at: datetime,
    about: Mapping[str, Any],
    buckets: int = 1,
) -> str:
    """Copy the tables into a new folder, all or nothing; answers with the digest of ``SHA256SUMS``.

    ``chosen``: only the runs (deleted ones too) that meet it. ``about`` goes into the manifest.
    ``buckets``: divide the runs into as many, each of which can be audited by itself.

    Raises:
        OutputError: the folder is there already, or cannot be written.
        StoreError: the store cannot be read to its end.
    """
    if folder.exists():
        raise OutputError(f"{folder}: is there already. A snapshot is written into a new folder.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}).") from None
    try:
        with divided(source, buckets) if buckets > 1 else nullcontext() as into:
            rows = {
                table: _copy(source, table, chosen, partial, into)
                for table in TABLES
                if table in source.columns
            }
        manifest = {
            "format": FORMAT,
            "made_at": made_at.isoformat(),
            "store": source.shown,
            **about,
            "buckets": buckets,
            "rows": rows,
        }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        files = sorted(file for file in partial.rglob("*") if file.is_file())
        sums = "".join(f"{_sha256(one)}  {one.relative_to(partial).as_posix()}\n" for one in files)
        (partial / SUMS).write_text(sums, encoding="utf-8")
        partial.chmod(0o755)
        partial.rename(folder)
    except OSError as error:
        raise OutputError(
            f"{folder}: the snapshot could not be written ({error.strerror or error}). "
            "No part of it was kept."
        ) from None
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise OutputError(
            f"{folder}: the snapshot could not be written ({str(error).splitlines()[0]}). No part of it was kept."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _sha256(folder / SUMS)


def _copy(
    source: Source, table: str, chosen: Where | None, folder: Path, into: Buckets | None
) -> int:
    """Stream one table into its parts; answers with the number of rows."""
    schema = pa.schema(
        [(name, kind) for name, kind in TABLES[table].items() if name in source.columns[table]]
    )
    # SQLite's driver takes a column's type from its first rows, where a text may be missing.
    columns = ", ".join(
        f"COALESCE({name}, '') AS {name}" if kind == _TEXT else name
        for name, kind in zip(schema.names, schema.types, strict=True)
    )
    query, values = f"SELECT {columns} FROM {table} WHERE 1 = 1", list[object]()
    if table == "metrics":  # of all that was logged on the way, only what reports draw
        query, values = f"{query} AND key = ?", [Metric.POWER_W]
    if chosen is not None and chosen.sql and table in _OF_RUN:
        query += f" AND {_OF_RUN[table]} IN (SELECT run_uuid FROM runs WHERE 1 = 1{chosen.sql})"
        values += chosen.values
    (folder / table).mkdir()
    total = 0

    def cast() -> Iterator[pa.Table]:
        nonlocal total
        for batch in batches:
            total += batch.num_rows
            yield pa.Table.from_batches([batch]).cast(schema)

    with _Parts(folder / table, schema) as parts, source.batches(query, values) as batches:
        if into is not None and table in RUN_OF:
            rows = (batch for part in cast() for batch in part.to_batches())
            into.write(table, pa.RecordBatchReader.from_batches(schema, rows), folder / table)
        else:
            for part in cast():
                parts.add(part)
    return total


class _Parts:
    """The files of one table; there is always one, if only for its columns."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder, self._schema = folder, schema
        self._rows = self._number = 0
        self._writer = self._next()

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, table: pa.Table) -> None:
        if self._rows >= PART_ROWS:
            self._writer.close()
            self._writer, self._rows = self._next(), 0
        self._writer.write_table(table)
        self._rows += table.num_rows

    def _next(self) -> Any:
        path = self._folder / f"part-{self._number:05d}.parquet"
        self._number += 1
        import pyarrow.parquet as pq  # not to read

        return pq.ParquetWriter(path, self._schema, compression="zstd")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Snapshot:
    """A snapshot whose every file is as it was written; a ``sql.Source``."""

    is_sqlite = False

    def __init__(self, folder: Path, *, bucket: int | None = None, apart: bool = False) -> None:
        """Check every digest, then open it.

        ``bucket``: with the runs of this one only. ``apart``: the caller opens each bucket too, which
        then checks the files of its own.

        Raises:
            StoreError: a file is missing, was changed or was added; names it.
        """
        self._folder = folder
        self.sealed = _sha256(folder / SUMS)
        """SHA-256 of ``SHA256SUMS``, and so of the whole snapshot."""
        sums = _sums(folder)
        files = [
            name
            for name in sums
            if bucket is None or _BUCKET not in name or f"/{prefix(bucket)}" in name
        ]
        _check(folder, sums, [name for name in files if not apart or _BUCKET not in name])
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest.get("format") != FORMAT:
            raise StoreError(f"{folder}: is of format {manifest.get('format')!r}, not {FORMAT!r}.")
        self.buckets = int(manifest.get("buckets", 1))
        self.shown = (
            f"snapshot {folder} (SHA256SUMS {self.sealed[:16]}...) of {manifest.get('store')}"
        )
        self._scratch = tempfile.TemporaryDirectory(prefix="mlflow-carbon-")
        self._con = duckdb.connect(config={"temp_directory": self._scratch.name})
        self._con.execute("SET enable_progress_bar = false")
        self._parts = {
            table: parts
            for table in TABLES
            if (parts := [str(folder / name) for name in files if name.startswith(f"{table}/")])
        }
        try:
            self._show_in(self._con, "main")
        except duckdb.Error as error:
            _let_go(self._con, self._scratch)
            _check(folder, sums, files)  # those of buckets too: a changed one is named
            raise self._unreadable(error) from None
        self._closed = weakref.finalize(self, _let_go, self._con, self._scratch)

    def close(self) -> None:
        """Let go of the files."""
        self._closed()

    @cached_property
    def columns(self) -> Mapping[str, frozenset[str]]:
        """The columns of each table there is."""
        found: dict[str, set[str]] = {}
        for table, column in self._con.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
        ).fetchall():
            found.setdefault(table, set()).add(column)
        return {table: frozenset(names) for table, names in found.items()}

    @contextmanager
    def batches(self, query: str, values: Sequence[object] = ()) -> Iterator[pa.RecordBatchReader]:
        """The answer of a query as a stream; ``?`` in the query stands for a value, in order.

        Raises:
            StoreError: the snapshot cannot be read.
        """
        try:
            with self._con.cursor() as cursor:
                found = cursor.sql(query, params=list(values))
                yield found.to_arrow_reader(_BATCH_ROWS)
        except duckdb.Error as error:
            raise self._unreadable(error) from None

    @contextmanager
    def relation(
        self, con: duckdb.DuckDBPyConnection, query: str, values: Sequence[object] = ()
    ) -> Iterator[tuple[str, Mapping[str, object]]]:
        """The query itself: the engine reads the files, and of those only what the statement needs.

        Raises:
            StoreError: the snapshot cannot be read.
        """
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}")
        self._show_in(con, _SCHEMA)
        con.execute(f"SET search_path = 'main,{_SCHEMA}'")  # behind the connection's own tables
        first, *parts = query.split("?")  # queries of this package hold no other question mark
        text = first + "".join(f"$given{i}{part}" for i, part in enumerate(parts))
        try:
            yield f"({text}) AS batches", {f"given{i}": value for i, value in enumerate(values)}
        except duckdb.IOException as error:
            if str(self._folder) not in str(error):
                raise
            raise self._unreadable(error) from None

    def _show_in(self, con: duckdb.DuckDBPyConnection, schema: str) -> None:
        """MLflow's tables as views."""
        for table, parts in self._parts.items():
            listed = ", ".join("'" + part.replace("'", "''") + "'" for part in parts)
            con.execute(
                f"CREATE VIEW IF NOT EXISTS {schema}.{table} AS SELECT * FROM read_parquet([{listed}])"
            )

    def _unreadable(self, error: duckdb.Error) -> StoreError:
        return StoreError(f"{self._folder}: cannot be read: {str(error).splitlines()[0]}")


def _let_go(con: duckdb.DuckDBPyConnection, scratch: tempfile.TemporaryDirectory[str]) -> None:
    con.close()
    scratch.cleanup()


def _sums(folder: Path) -> dict[str, str]:
    """File -> digest, as ``SHA256SUMS`` has it; these files are there, and no others."""
    wanted: dict[str, str] = {}
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        wanted[name] = digest
    there = {
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.is_file() and file != folder / SUMS
    }
    for name in sorted(there ^ wanted.keys()):
        what = "is not there any more" if name in wanted else "was added after the snapshot"
        raise StoreError(f"{folder / name}: {what}. Nothing was audited.")
    return dict(sorted(wanted.items()))


def _check(folder: Path, sums: Mapping[str, str], names: Iterable[str]) -> None:
    for name in names:
        if _sha256(folder / name) != sums[name]:
            raise StoreError(
                f"{folder / name}: was changed after the snapshot was made. Nothing was audited."
            )
