"""Whether a store is as it was: a mark that any write to it changes, without reading its rows."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path

from mlflow_carbon.evidence.address import sqlite_path
from mlflow_carbon.evidence.filters import milliseconds
from mlflow_carbon.evidence.relational import TableStore
from mlflow_carbon.evidence.rows import rows_of
from mlflow_carbon.evidence.snapshot import SUMS, is_snapshot

_SQLITE_HEADER = 100
"""Holds the counter of changes (https://www.sqlite.org/fileformat2.html#file_change_counter)."""
_POSTGRESQL = (
    "SELECT pg_current_snapshot()::text AS seen, pg_postmaster_start_time()::text AS started,"
    " (SELECT oid::text FROM pg_database WHERE datname = current_database()) AS place"
)
"""Every transaction that writes moves the snapshot on; a server started anew counts as changed."""


def mark(store: TableStore, uri: str) -> str:
    """Equal marks: nothing was written between. Different ones: something may have been.

    Taken before the store is read, so that what is written meanwhile is seen next time. It guards
    against writes, not against forgers: a seal does that.

    Raises:
        StoreError: the store cannot be read.
    """
    if is_snapshot(uri):
        return _digest(Path(uri, SUMS).read_text(encoding="utf-8"))
    if store.source.is_sqlite:
        path = sqlite_path(uri).absolute()
        return _digest([_file(path), _file(path.with_name(f"{path.name}-wal"))])
    return _digest(rows_of(store.source, _POSTGRESQL))


def later_than(store: TableStore, as_of: datetime) -> bool:
    """Whether anything in the store is later than the moment, and so will count only in a later audit.

    Raises:
        StoreError: the store cannot be read.
    """
    at = milliseconds(as_of)
    rows = rows_of(
        store.source,
        "SELECT 1 AS n WHERE EXISTS (SELECT 1 FROM runs WHERE start_time > ? OR end_time > ?)"
        " OR EXISTS (SELECT 1 FROM model_versions WHERE creation_time > ?)",
        [at, at, at],
    )
    return bool(rows)


def _file(path: Path) -> list[object]:
    """Size, time and header of a file; a write-ahead log has its salts there, new at each restart."""
    if not path.exists():
        return []
    found = path.stat()
    with path.open("rb") as file:
        header = file.read(_SQLITE_HEADER).hex()
    return [found.st_ino, found.st_size, found.st_mtime_ns, header]


def _digest(seen: object) -> str:
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()
