"""Evidence of many runs as two DuckDB tables: ``run``, and ``used`` for what each run read.

Only the facts asked for become columns. A value that counts as missing (NaN, infinity, blank
text) is NULL. The two tables say exactly what ``facts.run_evidence`` says of the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from mlflow_carbon.evidence.columns import THERE, Column, Kind
from mlflow_carbon.evidence.facts import COMMIT_TAG, COUNTED, DECLARED, TOLD, card_of
from mlflow_carbon.evidence.filters import Where, milliseconds
from mlflow_carbon.evidence.keys import Keys, keys_there
from mlflow_carbon.evidence.rows import rows_of
from mlflow_carbon.evidence.sql import Source
from mlflow_carbon.evidence.store import (
    BEGINS_LATER,
    ENDS_LATER,
    MAX_OTHER_DIGESTS,
    STILL_RUNNING,
    UNNAMED_DATASET,
)
from mlflow_carbon.schema import Tag

_LAST_BLANK = 0x3000
"""U+3000, the highest of Unicode's blanks; looking through all of it takes a tenth of a second."""
BLANK = "".join(filter(str.isspace, map(chr, range(_LAST_BLANK + 1))))
"""What Python's ``str.strip`` takes off, so that both engines agree on what blank is."""

_LARGEST = 1.7976931348623157e308


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
    "other_digests": ("d_other_digests", Kind.LISTED),
}
_INPUT_TAGS = {**TOLD, **COUNTED, **DECLARED}
_ALWAYS = ("tag.mlflow.runName", "tag.mlflow.user", f"tag.{COMMIT_TAG}", f"tag.{Tag.EXIT}")
_LOGGED = {"metric": ("latest_metrics", Kind.NUMBER), "param": ("params", Kind.TEXT)}
_LOGGED["tag"] = ("tags", Kind.TEXT)


@dataclass(frozen=True, slots=True)
class Selected:
    """The runs to read."""

    experiments: Mapping[str, str]
    """Id -> name; no run of another one is read."""
    where: Where = field(default_factory=Where)
    """A condition on MLflow's table ``runs``."""
    later: bool = False
    """Whether those that begin after the moment stand in ``running`` too, and are not left out."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables in a DuckDB connection, and where each fact asked for stands."""

    con: duckdb.DuckDBPyConnection
    columns: Mapping[str, Column] = field(default_factory=dict)


def load(
    con: duckdb.DuckDBPyConnection,
    source: Source,
    selected: Selected,
    facts: Iterable[str],
    as_of: datetime,
) -> Tables:
    """Read the runs selected that are not deleted, with the facts named.

    Runs begun after ``as_of`` are left out (see ``Selected.later``); those that had not ended then
    stand in ``running`` only. Facts of other subjects than runs and datasets are not for these tables. ``metrics PATTERN``
    (and ``params``, ``tags``) stands for all keys the pattern matches, with a column ``THERE`` for each.

    Raises:
        NotInColumnsError: a pattern matches too many.
        StoreError: the store cannot be read.
    """
    wanted = sorted({*facts, *_ALWAYS})
    columns: dict[str, Column] = {}
    keys = {
        namespace: keys_there(source, table, namespace, wanted)
        for namespace, (table, _) in _LOGGED.items()
    }
    _load_runs(con, source, selected)
    for namespace, (_, kind) in _LOGGED.items():
        own = keys[namespace]
        for name in (one for one in wanted if one.startswith((f"{namespace}.", f"{namespace}s "))):
            columns[name] = Column("run", f"NULL::{kind.value}", kind, empty=True)
        for place, key in enumerate(own.there):
            columns[f"{namespace}.{key}"] = Column("run", f"{namespace}_{place}", kind)
            if key in own.matched:
                name = f"{THERE}{namespace}.{key}"
                columns[name] = Column("run", f"{namespace}_{place}_there", Kind.NUMBER)
        _load_logged(con, source, namespace, own)
    if not selected.later:
        con.execute("DELETE FROM run_row WHERE start_time > $as_of", {"as_of": milliseconds(as_of)})
    _set_running_apart(con, columns[f"tag.{Tag.EXIT}"].name, as_of)
    _load_used(con, source)
    _load_cards(con, source)
    _finish_used(con)
    _finish_runs(con, columns)
    return Tables(con, _known_columns(con, columns))


def _known_columns(
    con: duckdb.DuckDBPyConnection, logged: Mapping[str, Column]
) -> dict[str, Column]:
    """Every column, with those apart in which there is nothing: they need not be looked through again."""
    columns = dict(logged)
    columns.update({f"run.{key}": Column("run", *place) for key, place in _RUN.items()})
    columns.update({f"dataset.{key}": Column("used", *place) for key, place in _USED.items()})
    for table in ("run", "used"):
        facts = [fact for fact, column in columns.items() if column.table == table]
        counts = ", ".join(f"count({columns[fact].name})" for fact in facts)
        (found,) = con.execute(f"SELECT {counts} FROM {table}").fetchall()
        for fact, count in zip(facts, found, strict=True):
            if not count:
                kind = columns[fact].kind
                sql_type = {Kind.COUNT: "VARCHAR", Kind.LISTED: "BIGINT"}.get(kind, kind.value)
                columns[fact] = Column(table, f"NULL::{sql_type}", kind, empty=True)
    return columns


def _holes(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _filled(column: str) -> str:
    """SQL: the text is not blank. ``trim`` with all that counts as blank is slow, and seldom needed."""
    return f"(({column} >= '!' AND {column} < chr(127)) OR trim({column}, $blank) <> '')"


def _known(column: str) -> str:
    """SQL: the text, or NULL where it is blank."""
    return f"CASE WHEN {_filled(column)} THEN {column} END"


_FEW = 100
"""Experiments that are named in a query; of more of them, all runs are read and most are kept."""


def _load_runs(con: duckdb.DuckDBPyConnection, source: Source, selected: Selected) -> None:
    ids = [*map(int, selected.experiments)]
    con.execute(
        "CREATE TABLE names AS SELECT unnest($ids::BIGINT[]) AS experiment_id,"
        " unnest($names::VARCHAR[]) AS experiment",
        {"ids": ids, "names": [*selected.experiments.values()]},
    )
    among = f" AND experiment_id IN ({_holes(ids)})" if len(ids) <= _FEW else ""
    query = (
        "SELECT run_uuid, COALESCE(name, '') AS name, COALESCE(user_id, '') AS user_id, status,"
        " start_time, end_time, experiment_id FROM runs"
        f" WHERE lifecycle_stage = 'active'{among}{selected.where.sql}"
    )
    given = [*(ids if among else ()), *selected.where.values]
    with source.relation(con, query, given) as (rows, bound):
        con.execute(
            "CREATE TABLE run_row AS SELECT row_number() OVER () AS rid, run_uuid::VARCHAR AS run_uuid,"
            " name::VARCHAR AS name, user_id::VARCHAR AS user_id, status::VARCHAR AS status,"
            " start_time::BIGINT AS start_time, end_time::BIGINT AS end_time, names.experiment"
            f" FROM {rows} JOIN names USING (experiment_id)",
            bound,
        )
    con.execute("DROP TABLE names")


def _load_logged(
    con: duckdb.DuckDBPyConnection, source: Source, namespace: str, keys: Keys
) -> None:
    """One scan of a key-value table, turned into one column for each key on the way."""
    if not keys.there:
        con.execute(f"CREATE TABLE {namespace}_wide AS SELECT rid FROM run_row WHERE false")
        return
    table, kind = _LOGGED[namespace]
    cases = " ".join(f"WHEN ? THEN {i}" for i in range(len(keys.there)))
    # "+key" keeps SQLite from jumping through the index for every row; a scan is 10 times faster.
    key = "+key" if source.is_sqlite else "key"
    metrics = namespace == "metric"
    # NaN as infinity, and not as NULL: SQLite's driver guesses the type from the first values.
    number = f"CASE WHEN is_nan THEN {_LARGEST!r} ELSE value END"
    stored = number if metrics else "COALESCE(value, '')"
    query = (
        f"SELECT run_uuid, CASE key {cases} END AS k, {stored} AS value"
        f" FROM {table} WHERE {key} IN ({_holes(keys.there)})"
    )
    # An answer without rows has no types of its own: SQLite's are taken from the values.
    value = f"value::{kind.value}"
    known = f"CASE WHEN abs({value}) < {_LARGEST!r} THEN {value} END" if metrics else _known(value)
    blank = {} if metrics else {"blank": BLANK}
    wide = ", ".join(
        f"any_value(known) FILTER (k = {i}) AS {namespace}_{i}"
        + (f", any_value(1) FILTER (k = {i}) AS {namespace}_{i}_there" * (name in keys.matched))
        for i, name in enumerate(keys.there)
    )
    only = "" if keys.matched else " WHERE known IS NOT NULL"
    with source.relation(con, query, [*keys.there, *keys.there]) as (rows, bound):
        con.execute(
            f"CREATE TABLE {namespace}_wide AS SELECT rid, {wide} FROM (SELECT run_uuid, k, {known} AS known"
            f" FROM {rows}) JOIN run_row USING (run_uuid){only} GROUP BY rid",
            {**bound, **blank},
        )


def _set_running_apart(con: duckdb.DuckDBPyConnection, exit_tag: str, as_of: datetime) -> None:
    """The SQL of ``store.has_ended``: MLflow says the run is over, or our record of its process does."""
    con.execute(
        "CREATE TABLE running AS SELECT rid, run_uuid, CASE WHEN start_time > $as_of THEN $begins"
        " WHEN status IN ('RUNNING', 'SCHEDULED') THEN $running ELSE $ends END AS why"
        " FROM run_row LEFT JOIN tag_wide USING (rid)"
        " WHERE COALESCE(start_time > $as_of, false) OR COALESCE(end_time > $as_of, false)"
        f" OR (status IN ('RUNNING', 'SCHEDULED') AND {exit_tag} IS NULL)",
        {
            "as_of": milliseconds(as_of),
            "begins": BEGINS_LATER,
            "running": STILL_RUNNING,
            "ends": ENDS_LATER,
        },
    )
    con.execute("DELETE FROM run_row WHERE rid IN (SELECT rid FROM running)")


def _load_used(con: duckdb.DuckDBPyConnection, source: Source) -> None:
    """``used_row``: what each run read; ``dataset_row`` and ``input_wide``: what is known of it."""
    query = (
        "SELECT dataset_uuid, name AS d_name, digest AS d_digest, dataset_source_type AS d_source_type,"
        " dataset_source AS d_source FROM datasets"
    )
    with source.relation(con, query) as (rows, bound):
        con.execute(
            "CREATE TABLE dataset_row AS SELECT row_number() OVER () AS did, COLUMNS(*)::VARCHAR"
            f" FROM {rows}",
            bound,
        )
    kind = "+i.source_type" if source.is_sqlite else "i.source_type"  # a scan, as above
    query = (
        "SELECT i.input_uuid, i.destination_id AS run_uuid, i.source_id AS dataset_uuid FROM inputs i"
        f" WHERE {kind} = 'DATASET' AND i.destination_type = 'RUN'"
    )
    with source.relation(con, query) as (rows, bound):
        con.execute(
            "CREATE TABLE used_row AS SELECT row_number() OVER () AS uid, rid, did,"
            f" input_uuid::VARCHAR AS input_uuid FROM {rows}"
            " JOIN run_row USING (run_uuid) JOIN dataset_row USING (dataset_uuid)",
            bound,
        )
    _load_input_tags(con, source)
    con.execute("ALTER TABLE used_row DROP COLUMN input_uuid")


def _load_input_tags(con: duckdb.DuckDBPyConnection, source: Source) -> None:
    names = list(_INPUT_TAGS.values())
    found = rows_of(
        source, f"SELECT DISTINCT name FROM input_tags WHERE name IN ({_holes(names)})", names
    )
    there = [name for name in names if name in {row["name"] for row in found}]
    wide = "".join(
        f", any_value(value::VARCHAR) FILTER (k = {there.index(name)}) AS d_{key}"
        if name in there
        else f", NULL::VARCHAR AS d_{key}"
        for key, name in _INPUT_TAGS.items()
    )
    if not there:
        con.execute(f"CREATE TABLE input_wide AS SELECT uid{wide} FROM used_row WHERE false")
        return
    cases = " ".join(f"WHEN ? THEN {i}" for i in range(len(there)))
    query = (
        f"SELECT input_uuid, CASE name {cases} END AS k, value FROM input_tags"
        f" WHERE name IN ({_holes(there)})"
    )
    with source.relation(con, query, [*there, *there]) as (rows, bound):
        con.execute(
            f"CREATE TABLE input_wide AS SELECT uid{wide} FROM {rows}"
            " JOIN used_row USING (input_uuid) GROUP BY uid",
            bound,
        )


def _load_cards(con: duckdb.DuckDBPyConnection, source: Source) -> None:
    """Cards declared after a run, read by the same function as everywhere."""
    query = "SELECT run_uuid, key, COALESCE(value, '') AS value FROM tags WHERE key LIKE ?"
    with source.relation(con, query, [f"{Tag.CARD_PREFIX}%"]) as (rows, bound):
        con.execute(f"CREATE TABLE card_row AS SELECT COLUMNS(*)::VARCHAR FROM {rows}", bound)
    found = con.execute(
        "SELECT uid, d_sha256, key, value FROM used_row JOIN input_wide USING (uid)"
        " JOIN run_row USING (rid) JOIN card_row USING (run_uuid)"
        " WHERE key = $prefix || substr(d_sha256, 1, 16)",
        {"prefix": Tag.CARD_PREFIX},
    ).fetchall()
    cards = [(uid, card_of({key: value}, sha256)) for uid, sha256, key, value in found]
    columns = "".join(f", unnest(${name}::VARCHAR[]) AS card_{name}" for name in DECLARED)
    con.execute(
        f"CREATE TABLE card AS SELECT unnest($uid::BIGINT[]) AS uid{columns}",
        {
            "uid": [uid for uid, _ in cards],
            **{name: [card.get(name) for _, card in cards] for name in DECLARED},
        },
    )
    con.execute("DROP TABLE card_row")


def _finish_used(con: duckdb.DuckDBPyConnection) -> None:
    """``used``: one row for each dataset a run read, with what was declared then or afterwards."""
    sha256 = _known("d_sha256")
    con.execute(
        "CREATE TABLE digest_list AS WITH content AS ("
        " SELECT raw_name, raw_context, list_slice(list_sort(list(DISTINCT d_sha256)), 1, $most + 1) AS contents,"
        " list(DISTINCT d_sha256) AS own FROM ("
        f" SELECT d_name AS raw_name, COALESCE(d_context, '') AS raw_context, {sha256} AS d_sha256"
        " FROM used_row JOIN dataset_row USING (did) JOIN input_wide USING (uid))"
        " WHERE d_sha256 IS NOT NULL AND raw_name <> $unnamed GROUP BY ALL)"
        " SELECT row_number() OVER () AS code, *,"
        " list_slice(list_filter(contents, lambda x: x <> d_sha256), 1, $most) AS digests"
        " FROM (SELECT raw_name, raw_context, contents, unnest(own) AS d_sha256 FROM content)",
        {"unnamed": UNNAMED_DATASET, "most": MAX_OTHER_DIGESTS, "blank": BLANK},
    )
    stood = ", ".join(
        f"{_known(f'd_{key}')} AS d_{key}" for key in ("name", "digest", "source_type", "source")
    )
    tags = ", ".join(f"{_known(f'd_{key}')} AS d_{key}" for key in (*TOLD, *COUNTED))
    declared = ", ".join(
        f"{_known(f'''COALESCE(nullif(d_{key}, ''), card_{key})''')} AS d_{key}" for key in DECLARED
    )
    con.execute(
        "CREATE TABLE used AS SELECT known.*, code AS d_other_digests FROM ("
        f"SELECT uid, rid, named.* EXCLUDE (did), {tags}, {declared},"
        " COALESCE(d_context, '') AS raw_context"
        " FROM used_row JOIN (SELECT did, d_name AS raw_name, d_digest AS raw_digest,"
        f" {stood} FROM dataset_row) AS named USING (did)"
        " LEFT JOIN input_wide USING (uid) LEFT JOIN card USING (uid)) AS known"
        " LEFT JOIN digest_list USING (raw_name, raw_context, d_sha256)",
        {"blank": BLANK},
    )
    for table in ("used_row", "dataset_row", "input_wide", "card"):
        con.execute(f"DROP TABLE {table}")


def _finish_runs(con: duckdb.DuckDBPyConnection, columns: Mapping[str, Column]) -> None:
    """``run``: one row for each run, with all its columns."""
    run_name, user = columns["tag.mlflow.runName"].name, columns["tag.mlflow.user"].name
    commit = columns[f"tag.{COMMIT_TAG}"].name
    con.execute(
        "CREATE TABLE run AS SELECT run_row.rid, run_uuid, status, start_time, end_time, experiment,"
        f" {_known(f'''COALESCE(nullif(name, ''), {run_name})''')} AS name,"
        f" {_known(f'''COALESCE(nullif(user_id, ''), {user})''')} AS user_id,"
        " (end_time::HUGEINT - start_time) / 1000.0::DOUBLE AS duration_s,"
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
