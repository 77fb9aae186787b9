"""MLflow's own database, read in columns: Arrow batches by ADBC, on a connection that cannot write."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from types import ModuleType
from typing import Any, Protocol

import pyarrow as pa
import sqlalchemy

from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence.address import (
    CONNECT_TIMEOUT_S,
    redacted,
    scheme_of,
    sqlite_path,
    without_secrets,
)

_BATCH_ROWS = 65_536
_SQLITE_COLUMNS = (
    "SELECT m.name AS t, p.name AS c FROM sqlite_master m JOIN pragma_table_info(m.name) p"
    " WHERE m.type = 'table'"
)
_POSTGRESQL_COLUMNS = (
    "SELECT c.relname::text AS t, a.attname::text AS c FROM pg_class c JOIN pg_attribute a"
    " ON a.attrelid = c.oid WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped"
    " AND pg_table_is_visible(c.oid) AND c.relnamespace <> 'pg_catalog'::regnamespace"
)
"""Not ``information_schema``: there a table that may not be read would look as if it were not there."""


def can_read(uri: str) -> bool:
    """Whether the store is a database this module reads."""
    return scheme_of(uri) in ("sqlite", "postgresql")


class Source(Protocol):
    """MLflow's tables, wherever they are."""

    shown: str
    is_sqlite: bool

    def batches(
        self, query: str, values: Sequence[object] = ()
    ) -> AbstractContextManager[pa.RecordBatchReader]:
        """The answer of a query as a stream; ``?`` in the query stands for a value, in order.

        Raises:
            StoreError: the store refused, or was lost on the way.
        """

    @property
    def columns(self) -> Mapping[str, frozenset[str]]:
        """The columns of each table there is."""

    def close(self) -> None:
        """Let go of the store."""


class Database:
    """A read-only connection to the database behind an MLflow store."""

    def __init__(self, uri: str) -> None:
        """Connect; the schema is expected to be the one ``address.probe`` accepted.

        Raises:
            StoreError: the database cannot be opened.
        """
        self._uri = uri
        self.shown = redacted(uri)
        self.is_sqlite = scheme_of(uri) == "sqlite"
        with self._told():
            self._connection = self._connect()
        self._closed = weakref.finalize(self, self._connection.close)

    def _connect(self) -> Any:
        if self.is_sqlite:
            from adbc_driver_sqlite import dbapi as sqlite

            path = sqlite_path(self._uri).absolute()
            # Not in one transaction: its lock would keep trainings from writing until the audit is done.
            connection = sqlite.connect(f"{path.as_uri()}?mode=ro", autocommit=True)
            with connection.cursor() as cursor:
                cursor.execute(f"PRAGMA busy_timeout = {int(CONNECT_TIMEOUT_S * 1000)}")
                cursor.execute("PRAGMA case_sensitive_like = true")  # as MLflow
            return connection
        from adbc_driver_postgresql import dbapi as postgresql

        url = sqlalchemy.make_url(self._uri).set(drivername="postgresql")
        url = url.update_query_dict({"connect_timeout": str(int(CONNECT_TIMEOUT_S))})
        connection = postgresql.connect(url.render_as_string(hide_password=False))
        with connection.cursor() as cursor:
            # One snapshot for the whole audit; readers do not block writers here.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return connection

    def close(self) -> None:
        """Let go of the database."""
        self._closed()

    @cached_property
    def columns(self) -> Mapping[str, frozenset[str]]:
        """The columns of each table there is."""
        found: dict[str, set[str]] = {}
        with self.batches(_SQLITE_COLUMNS if self.is_sqlite else _POSTGRESQL_COLUMNS) as batches:
            for row in batches.read_all().to_pylist():
                found.setdefault(row["t"], set()).add(row["c"])
        return {table: frozenset(names) for table, names in found.items()}

    @contextmanager
    def batches(self, query: str, values: Sequence[object] = ()) -> Iterator[pa.RecordBatchReader]:
        """The answer of a query as a stream; ``?`` in the query stands for a value, in order.

        Raises:
            StoreError: the database refused, or was lost on the way.
        """
        with self._told(), self._connection.cursor() as cursor:
            if self.is_sqlite:
                # The driver guesses types from the first batch; the default of 1,024 rows guesses worse.
                cursor.adbc_statement.set_options(
                    **{"adbc.sqlite.query.batch_rows": str(_BATCH_ROWS)}
                )
            else:
                query = _numbered(query)
            cursor.execute(query, list(values) or None)
            yield cursor.fetch_record_batch()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (_driver_error(), pa.ArrowException) as error:
            reason = without_secrets(self._uri, " ".join(str(error).split()))[:300]
            raise StoreError(f"{self.shown}: cannot be read: {reason}") from None


def _driver_error() -> type[Exception]:
    import adbc_driver_manager

    module: ModuleType = adbc_driver_manager
    error: type[Exception] = module.Error
    return error


def _numbered(query: str) -> str:
    """PostgreSQL writes ``$1``, ``$2`` for ``?``. Queries of this package hold no other question mark."""
    parts = query.split("?")
    return parts[0] + "".join(f"${i}{part}" for i, part in enumerate(parts[1:], start=1))
