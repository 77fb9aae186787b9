"""One digest for each run of what its rules and the energy account read, and which differ from earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb

from mlflow_carbon.audit.place import write_parquet
from mlflow_carbon.evidence.tables import Tables

NAMED_RUNS = 20
"""Edited and vanished runs that are named; of more of them, only the number is told."""


@dataclass(frozen=True, slots=True)
class RunChanges:
    """The runs of an audit against those of an earlier one."""

    new: int
    edited: int
    gone: int
    examples: tuple[str, ...]
    """Ids of edited and vanished runs, with which of the two, at most ``NAMED_RUNS``."""


def write_digests(tables: Tables, file: Path) -> None:
    """Parquet with ``run_id`` and ``sha256``.

    Known values only, each with its name and length, so that a fact which another run has for the
    first time changes nothing here. What other runs did with a dataset (``other_digests``) is no
    part of a run.

    Raises:
        OutputError: the file cannot be written.
    """
    run, used = (_told(tables, table) for table in ("run", "used"))
    tables.con.execute(
        "CREATE OR REPLACE TEMP VIEW inputs_told AS SELECT rid, string_agg(told, '' ORDER BY told) AS told"
        f" FROM (SELECT rid, sha256({used}) AS told FROM used) GROUP BY rid"
    )
    write_parquet(
        tables.con,
        f"SELECT run_uuid AS run_id, sha256({run} || COALESCE(inputs_told.told, '')) AS sha256"
        " FROM run LEFT JOIN inputs_told USING (rid)",
        file,
    )


def _told(tables: Tables, table: str) -> str:
    """SQL: all known facts of a row as one text."""
    parts = [
        f"{_quoted(fact)} || ':' || strlen({column.name}::VARCHAR) || ':' || {column.name}::VARCHAR"
        for fact, column in sorted(tables.columns.items())
        if column.table == table and not column.empty and fact != "dataset.other_digests"
    ]
    return f"concat_ws(' ', {', '.join(parts)})" if parts else "''"


def run_changes(earlier: Path, now: Path) -> RunChanges:
    """Compare two files of ``write_digests``."""
    files = {"then": str(earlier), "now": str(now)}
    with duckdb.connect() as con:
        con.execute(
            "CREATE TABLE change AS SELECT run_id, CASE WHEN old.sha256 IS NULL THEN 'new'"
            " WHEN fresh.sha256 IS NULL THEN 'gone' ELSE 'edited' END AS what"
            " FROM read_parquet($then) AS old FULL JOIN read_parquet($now) AS fresh USING (run_id)"
            " WHERE old.sha256 IS DISTINCT FROM fresh.sha256",
            files,
        )
        counts = dict(con.execute("SELECT what, count(*) FROM change GROUP BY 1").fetchall())
        named = con.execute(
            "SELECT run_id, what FROM change WHERE what <> 'new' ORDER BY what, run_id LIMIT $most",
            {"most": NAMED_RUNS},
        ).fetchall()
    return RunChanges(
        new=counts.get("new", 0),
        edited=counts.get("edited", 0),
        gone=counts.get("gone", 0),
        examples=tuple(f"{run_id} ({what})" for run_id, what in named),
    )


def _quoted(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"
