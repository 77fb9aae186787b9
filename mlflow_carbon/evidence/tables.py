"""Evidence of many runs as two DuckDB tables: ``run``, and ``used`` for what each run read.

Only the facts asked for become columns. A value that counts as missing (NaN, infinity, blank
text) is NULL. The two tables say exactly what ``facts.run_evidence`` says of the same rows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import Enum

import duckdb
import pyarrow as pa

from mlflow_carbon.evidence.facts import COMMIT_TAG, COUNTED, DECLARED, TOLD, card_of, whole_number
from mlflow_carbon.evidence.model import FactValue
from mlflow_carbon.evidence.sql import Database
from mlflow_carbon.evidence.store import MAX_OTHER_DIGESTS, UNNAMED_DATASET
from mlflow_carbon.schema import Tag

BLANK = "".join(chr(i) for i in range(sys.maxunicode) if chr(i).isspace())
"""What Python's ``str.strip`` takes off, so that both engines agree on what blank is."""

_LARGEST = 1.7976931348623157e308
_LIST_SEPARATOR = "\x1f"


class Kind(Enum):
    """How the values of a column are to be taken."""

    NUMBER = "DOUBLE"
    TEXT = "VARCHAR"
    TIME = "BIGINT"
    """Milliseconds since 1970."""
    LIST = "VARCHAR[]"
    COUNT = "COUNT"
    """Text that is a whole number where it can be read as one."""


@dataclass(frozen=True, slots=True)
class Column:
    """Where a fact stands."""

    table: str
    name: str
    kind: Kind


def python_value(kind: Kind, stored: object) -> FactValue:
    """A stored value of a column as the fact it is."""
    if kind is Kind.COUNT:
        return whole_number(str(stored))
    if kind is Kind.LIST and isinstance(stored, Sequence):
        return tuple(map(str, stored))
    if isinstance(stored, bool | int | float | str):
        return stored
    raise TypeError(f"{stored!r} is no value of a {kind.name} column")


_RUN = {
    "id": ("run_uuid", Kind.TEXT),
    "name": ("name", Kind.TEXT),
    "status": ("status", Kind.TEXT),
    "user": ("user_id", Kind.TEXT),
    "experiment": ("experiment", Kind.TEXT),
    "start_time": ("start_time", Kind.TIME),
    "end_time": ("end_time", Kind.TIME),
    "duration_s": ("duration_s", Kind.NUMBER),
    "datasets": ("datasets", Kind.NUMBER),
    "dataset_contexts": ("dataset_contexts", Kind.LIST),
    "source_commit": ("source_commit", Kind.TEXT),
}
_USED = {
    **{key: (f"d_{key}", Kind.TEXT) for key in ("name", "digest", "source_type", "source")},
    **{key: (f"d_{key}", Kind.TEXT) for key in (*TOLD, *DECLARED)},
    **{key: (f"d_{key}", Kind.COUNT) for key in COUNTED},
    "other_digests": ("d_other_digests", Kind.LIST),
}
_INPUT_TAGS = {**TOLD, **COUNTED, **DECLARED}
_ALWAYS = ("tag.mlflow.runName", "tag.mlflow.user", f"tag.{COMMIT_TAG}", f"tag.{Tag.EXIT}")
_LOGGED = {"metric": ("latest_metrics", Kind.NUMBER), "param": ("params", Kind.TEXT)}
_LOGGED["tag"] = ("tags", Kind.TEXT)


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables in a DuckDB connection, and where each fact asked for stands."""

    con: duckdb.DuckDBPyConnection
    columns: Mapping[str, Column] = field(default_factory=dict)


def load(
    con: duckdb.DuckDBPyConnection,
    source: Database,
    experiments: Mapping[str, str],
    facts: Iterable[str],
    as_of: datetime,
) -> Tables:
    """Read the runs of the experiments (id -> name) that are not deleted, with the facts named.

    Runs begun after ``as_of`` are left out; those that had not ended then stand in ``running``
    only. Facts of other subjects than runs and datasets are not for these tables.

    Raises:
        StoreError: the database cannot be read.
    """
    wanted = sorted({*facts, *_ALWAYS})
    columns: dict[str, Column] = {}
    _load_runs(con, source, experiments)
    for namespace, (table, kind) in _LOGGED.items():
        keys = [name.partition(".")[2] for name in wanted if name.startswith(f"{namespace}.")]
        for i, key in enumerate(keys):
            columns[f"{namespace}.{key}"] = Column("run", f"{namespace}_{i}", kind)
        _load_logged(con, source, table, namespace, keys)
    _set_running_apart(con, columns[f"tag.{Tag.EXIT}"].name, as_of)
    _load_used(con, source)
    _load_cards(con, source)
    _finish_used(con)
    _finish_runs(con, columns)
    columns.update({f"run.{key}": Column("run", *place) for key, place in _RUN.items()})
    columns.update({f"dataset.{key}": Column("used", *place) for key, place in _USED.items()})
    return Tables(con, columns)


def _holes(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _known(column: str) -> str:
    """SQL: the text, or NULL where it is blank."""
    return f"CASE WHEN trim({column}, $blank) = '' THEN NULL ELSE {column} END"


def _load_runs(
    con: duckdb.DuckDBPyConnection, source: Database, experiments: Mapping[str, str]
) -> None:
    names = pa.table(
        {
            "experiment_id": pa.array(map(int, experiments), pa.int64()),
            "experiment": pa.array(experiments.values(), pa.string()),
        }
    )
    con.register("names", names)
    query = (
        "SELECT run_uuid, COALESCE(name, '') AS name, COALESCE(user_id, '') AS user_id, status,"
        " start_time, end_time, experiment_id FROM runs"
        f" WHERE lifecycle_stage = 'active' AND experiment_id IN ({_holes(list(experiments))})"
    )
    with source.batches(query, [*map(int, experiments)]) as batches:
        con.register("batches", batches)
        con.execute(
            "CREATE TABLE run_row AS SELECT row_number() OVER () AS rid, run_uuid::VARCHAR AS run_uuid,"
            " name::VARCHAR AS name, user_id::VARCHAR AS user_id, status::VARCHAR AS status,"
            " start_time::BIGINT AS start_time, end_time::BIGINT AS end_time, names.experiment"
            " FROM batches JOIN names USING (experiment_id)"
        )
    con.unregister("batches")
    con.unregister("names")


def _load_logged(
    con: duckdb.DuckDBPyConnection,
    source: Database,
    table: str,
    namespace: str,
    keys: Sequence[str],
) -> None:
    """One scan of a key-value table, then one column for each key."""
    if not keys:
        con.execute(f"CREATE TABLE {namespace}_wide AS SELECT rid FROM run_row WHERE false")
        return
    cases = " ".join(f"WHEN ? THEN {i}" for i in range(len(keys)))
    # "+key" keeps SQLite from jumping through the index for every row; a scan is 10 times faster.
    key = "+key" if source.is_sqlite else "key"
    metrics = table == "latest_metrics"
    stored = "value" if metrics else "COALESCE(value, '')"
    number = " AND NOT is_nan" if metrics else ""
    query = (
        f"SELECT run_uuid, CASE key {cases} END AS k, {stored} AS value"
        f" FROM {table} WHERE {key} IN ({_holes(keys)}){number}"
    )
    # An answer without rows has no types of its own: SQLite's are taken from the values.
    value = "value::DOUBLE" if metrics else "value::VARCHAR"
    good = f"abs({value}) < {_LARGEST!r}" if metrics else f"trim({value}, $blank) <> ''"
    bound = {} if metrics else {"blank": BLANK}
    with source.batches(query, [*keys, *keys]) as batches:
        con.register("batches", batches)
        con.execute(
            f"CREATE TABLE {namespace}_long AS SELECT rid, k, {value} AS value FROM batches"
            f" JOIN run_row USING (run_uuid) WHERE {good}",
            bound,
        )
    con.unregister("batches")
    wide = ", ".join(
        f"any_value(value) FILTER (k = {i}) AS {namespace}_{i}" for i in range(len(keys))
    )
    con.execute(
        f"CREATE TABLE {namespace}_wide AS SELECT rid, {wide} FROM {namespace}_long GROUP BY rid"
    )
    con.execute(f"DROP TABLE {namespace}_long")


def _set_running_apart(con: duckdb.DuckDBPyConnection, exit_tag: str, as_of: datetime) -> None:
    """The SQL of ``store.has_ended``: MLflow says the run is over, or our record of its process does."""
    con.execute("DELETE FROM run_row WHERE start_time > $as_of", {"as_of": _milliseconds(as_of)})
    con.execute(
        "CREATE TABLE running AS SELECT rid, run_uuid FROM run_row LEFT JOIN tag_wide USING (rid)"
        f" WHERE COALESCE(end_time > $as_of, false) OR (status IN ('RUNNING', 'SCHEDULED')"
        f" AND {exit_tag} IS NULL)",
        {"as_of": _milliseconds(as_of)},
    )
    con.execute("DELETE FROM run_row WHERE rid IN (SELECT rid FROM running)")


def _milliseconds(moment: datetime) -> int:
    """The last whole millisecond that is not after the moment."""
    return (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(milliseconds=1)


def _load_used(con: duckdb.DuckDBPyConnection, source: Database) -> None:
    query = (
        "SELECT i.input_uuid, i.destination_id AS run_uuid, d.name AS d_name, d.digest AS d_digest,"
        " d.dataset_source_type AS d_source_type, d.dataset_source AS d_source"
        " FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id"
        " WHERE i.source_type = 'DATASET' AND i.destination_type = 'RUN'"
    )
    with source.batches(query) as batches:
        con.register("batches", batches)
        con.execute(
            "CREATE TABLE used_row AS SELECT row_number() OVER () AS uid, rid,"
            " COLUMNS(batches.*)::VARCHAR FROM batches JOIN run_row USING (run_uuid)"
        )
    con.unregister("batches")
    names = list(_INPUT_TAGS.values())
    cases = " ".join(f"WHEN ? THEN {i}" for i in range(len(names)))
    query = (
        f"SELECT input_uuid, CASE name {cases} END AS k, value FROM input_tags"
        f" WHERE name IN ({_holes(names)})"
    )
    with source.batches(query, [*names, *names]) as batches:
        con.register("batches", batches)
        con.execute(
            "CREATE TABLE input_long AS SELECT input_uuid::VARCHAR AS input_uuid, k,"
            " value::VARCHAR AS value FROM batches"
        )
    con.unregister("batches")
    wide = ", ".join(
        f"any_value(value) FILTER (k = {i}) AS d_{key}" for i, key in enumerate(_INPUT_TAGS)
    )
    con.execute(
        f"CREATE TABLE input_wide AS SELECT input_uuid, {wide} FROM input_long GROUP BY input_uuid"
    )
    con.execute("DROP TABLE input_long")


def _load_cards(con: duckdb.DuckDBPyConnection, source: Database) -> None:
    """Cards declared after a run, read by the same function as everywhere."""
    query = "SELECT run_uuid, key, COALESCE(value, '') AS value FROM tags WHERE key LIKE ?"
    with source.batches(query, [f"{Tag.CARD_PREFIX}%"]) as batches:
        con.register("batches", batches)
        con.execute("CREATE TABLE card_row AS SELECT COLUMNS(*)::VARCHAR FROM batches")
    con.unregister("batches")
    found = con.execute(
        "SELECT uid, d_sha256, key, value FROM used_row JOIN input_wide USING (input_uuid)"
        " JOIN card_row USING (run_uuid)"
        " WHERE key = $prefix || substr(d_sha256, 1, 16)",
        {"prefix": Tag.CARD_PREFIX},
    ).fetchall()
    cards = [(uid, card_of({key: value}, sha256)) for uid, sha256, key, value in found]
    table = pa.table(
        {
            "uid": pa.array([uid for uid, _ in cards], pa.int64()),
            **{
                f"card_{name}": pa.array([card.get(name) for _, card in cards], pa.string())
                for name in DECLARED
            },
        }
    )
    con.register("cards", table)
    con.execute("CREATE TABLE card AS SELECT * FROM cards")
    con.unregister("cards")


def _finish_used(con: duckdb.DuckDBPyConnection) -> None:
    """``used``: one row for each dataset a run read, with what was declared then or afterwards."""
    tags = ", ".join(f"{_known(f'd_{key}')} AS d_{key}" for key in (*TOLD, *COUNTED))
    declared = ", ".join(
        f"{_known(f'''COALESCE(nullif(d_{key}, ''), card_{key})''')} AS d_{key}" for key in DECLARED
    )
    con.execute(
        f"CREATE TABLE used_known AS SELECT uid, rid, {_known('d_name')} AS d_name,"
        f" {_known('d_digest')} AS d_digest, {_known('d_source_type')} AS d_source_type,"
        f" {_known('d_source')} AS d_source, {tags}, {declared},"
        " d_name AS raw_name, d_digest AS raw_digest, COALESCE(d_context, '') AS raw_context"
        " FROM used_row LEFT JOIN input_wide USING (input_uuid) LEFT JOIN card USING (uid)",
        {"blank": BLANK},
    )
    con.execute(
        "CREATE TABLE used AS WITH content AS ("
        " SELECT raw_name, raw_context,"
        " list_slice(list_sort(list(DISTINCT d_sha256)), 1, $most + 1) AS contents"
        " FROM used_known WHERE d_sha256 IS NOT NULL GROUP BY ALL)"
        " SELECT used_known.*, CASE WHEN d_sha256 IS NOT NULL AND raw_name <> $unnamed THEN"
        " list_slice(list_filter(contents, lambda x: x <> d_sha256), 1, $most) END AS d_other_digests"
        " FROM used_known LEFT JOIN content USING (raw_name, raw_context)",
        {"unnamed": UNNAMED_DATASET, "most": MAX_OTHER_DIGESTS},
    )
    for table in ("used_row", "input_wide", "card", "card_row", "used_known"):
        con.execute(f"DROP TABLE {table}")


def _finish_runs(con: duckdb.DuckDBPyConnection, columns: Mapping[str, Column]) -> None:
    """``run``: one row for each run, with all its columns."""
    run_name, user = columns["tag.mlflow.runName"].name, columns["tag.mlflow.user"].name
    commit = columns[f"tag.{COMMIT_TAG}"].name
    con.execute(
        "CREATE TABLE run AS SELECT run_row.rid, run_uuid, status, start_time, end_time, experiment,"
        f" {_known(f'''COALESCE(nullif(name, ''), {run_name})''')} AS name,"
        f" {_known(f'''COALESCE(nullif(user_id, ''), {user})''')} AS user_id,"
        " (end_time - start_time) / 1000.0::DOUBLE AS duration_s,"
        f" {commit} AS source_commit, COALESCE(n, 0)::DOUBLE AS datasets,"
        " COALESCE(contexts, []) AS dataset_contexts,"
        " metric_wide.* EXCLUDE (rid), param_wide.* EXCLUDE (rid), tag_wide.* EXCLUDE (rid)"
        " FROM run_row"
        " LEFT JOIN metric_wide ON metric_wide.rid = run_row.rid"
        " LEFT JOIN param_wide ON param_wide.rid = run_row.rid"
        " LEFT JOIN tag_wide ON tag_wide.rid = run_row.rid"
        " LEFT JOIN (SELECT rid, count(*) AS n, list_sort(list(DISTINCT raw_context)"
        " FILTER (raw_context <> '')) AS contexts FROM used GROUP BY rid) AS inputs"
        " ON inputs.rid = run_row.rid",
        {"blank": BLANK},
    )
    for table in ("run_row", "metric_wide", "param_wide", "tag_wide"):
        con.execute(f"DROP TABLE {table}")
