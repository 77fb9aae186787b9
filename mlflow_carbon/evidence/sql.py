"""MLflow's own database, read in columns: Arrow batches by ADBC, on a connection that cannot write.

The low-level interface of ADBC is used: its DB-API imports pandas, and polars where it is installed, which
costs 80 MB and a second.
"""

from __future__ import annotations

import signal
import struct
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import adbc_driver_manager as adbc
import pyarrow as pa

from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence.address import (
    CONNECT_TIMEOUT_S,
    in_short,
    redacted,
    scheme_of,
    sqlite_path,
)

if TYPE_CHECKING:
    import duckdb

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

    def relation(
        self, con: duckdb.DuckDBPyConnection, query: str, values: Sequence[object] = ()
    ) -> AbstractContextManager[tuple[str, Mapping[str, object]]]:
        """The answer of a query as one statement of ``con`` can select from it.

        SQL to stand behind ``FROM``, and the values the statement has to bind for it by name.

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
            self._database, self._connection = self._connect()
        self._closed = weakref.finalize(self, _let_go, self._connection, self._database)

    def _connect(self) -> tuple[adbc.AdbcDatabase, adbc.AdbcConnection]:
        if self.is_sqlite:
            import adbc_driver_sqlite as sqlite

            path = sqlite_path(self._uri).absolute()
            database = sqlite.connect(f"{path.as_uri()}?mode=ro")
            # Not in one transaction: its lock would keep trainings from writing until the audit is done.
            connection = adbc.AdbcConnection(database)
            _run(connection, f"PRAGMA busy_timeout = {int(CONNECT_TIMEOUT_S * 1000)}")
            _run(connection, "PRAGMA case_sensitive_like = true")  # as MLflow
            return database, connection
        import adbc_driver_postgresql as postgresql
        import sqlalchemy

        url = sqlalchemy.make_url(self._uri).set(drivername="postgresql")
        url = url.update_query_dict({"connect_timeout": str(int(CONNECT_TIMEOUT_S))})
        database = postgresql.connect(url.render_as_string(hide_password=False))
        connection = adbc.AdbcConnection(database)
        connection.set_autocommit(False)
        # One snapshot for the whole audit; readers do not block writers here.
        _run(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return database, connection

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
        with self._told(), adbc.AdbcStatement(self._connection) as statement:
            if self.is_sqlite:
                # The driver guesses types from the first batch; the default of 1,024 rows guesses worse.
                statement.set_options(**{"adbc.sqlite.query.batch_rows": str(_BATCH_ROWS)})
            elif values:
                # An answer to bound values is not streamed: the driver holds all of it in memory.
                query, values = _filled_in(query, self._literals(values)), ()
            statement.set_sql_query(query)
            _bind(statement, values)
            with pa.RecordBatchReader.from_stream(_begun(statement)) as batches:
                yield batches

    def _literals(self, values: Sequence[object]) -> Iterator[str]:
        """The values as PostgreSQL writes them in SQL; texts are quoted by the server itself."""
        texts = [one for one in values if isinstance(one, str)]
        quoted = iter(self._quoted(texts) if texts else ())
        for one in values:
            if isinstance(one, str):
                yield next(quoted)
            elif isinstance(one, float):
                yield f"'{one!r}'::float8"
            else:
                yield "NULL" if one is None else str(int(str(one)))

    def _quoted(self, texts: Sequence[str]) -> list[str]:
        each = ", ".join(f"quote_literal(${i}::text)" for i in range(1, len(texts) + 1))
        with adbc.AdbcStatement(self._connection) as statement:
            statement.set_sql_query(f"SELECT unnest(ARRAY[{each}]) AS literal")
            _bind(statement, texts)
            with pa.RecordBatchReader.from_stream(_begun(statement)) as batches:
                return [row["literal"] for row in batches.read_all().to_pylist()]

    @contextmanager
    def relation(
        self, con: duckdb.DuckDBPyConnection, query: str, values: Sequence[object] = ()
    ) -> Iterator[tuple[str, Mapping[str, object]]]:
        """The answer of a query as one statement of ``con`` can select from it; see ``Source``."""
        with self.batches(query, values) as batches, registered(con, batches) as name:
            yield name, {}

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (adbc.Error, pa.ArrowException, UnicodeDecodeError, BrokenStreamError) as error:
            reason = in_short(self._uri, str(error))
            raise StoreError(f"{self.shown}: cannot be read: {reason}") from None


class BrokenStreamError(Exception):
    """A stream that a statement of DuckDB selected from broke off, or held what its columns cannot hold."""


@contextmanager
def registered(con: duckdb.DuckDBPyConnection, batches: pa.RecordBatchReader) -> Iterator[str]:
    """The name by which one statement of ``con`` can select from a stream.

    Raises:
        BrokenStreamError: the stream failed while the statement ran.
    """
    import duckdb

    con.register("batches", batches)
    try:
        with _ctrl_c_kept(con.interrupt):
            yield "batches"
    except (
        duckdb.ConversionException,
        duckdb.FatalException,
        duckdb.InternalException,
        duckdb.InvalidInputException,
    ) as error:
        said = str(error).splitlines()[0].partition("failed: ")
        raise BrokenStreamError(said[2] or said[0]) from None
    finally:
        # Text that is none ends the whole connection, and Ctrl-C at the wrong moment closes it first.
        with suppress(duckdb.FatalException, duckdb.ConnectionException):
            con.unregister("batches")


def _let_go(connection: adbc.AdbcConnection, database: adbc.AdbcDatabase) -> None:
    with suppress(RuntimeError):  # Ctrl-C left a statement open; both end with it
        connection.close()
        database.close()


def _run(connection: adbc.AdbcConnection, command: str) -> None:
    with adbc.AdbcStatement(connection) as statement:
        statement.set_sql_query(command)
        statement.execute_update()


def _begun(statement: adbc.AdbcStatement) -> adbc.ArrowArrayStreamHandle:
    """The answer's stream. Ctrl-C ends the waiting for it: the driver itself does not listen."""
    stream: adbc.ArrowArrayStreamHandle

    def stop() -> None:
        with suppress(adbc.Error):  # not every driver can
            statement.cancel()

    # The driver dies with the whole process where a statement is closed while a thread is in it.
    with _ctrl_c_kept(stop), ThreadPoolExecutor(1) as aside:
        stream, _ = aside.submit(statement.execute_query).result()
    return stream


@contextmanager
def _ctrl_c_kept(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C breaks in at the end of the block and nowhere inside; ``stop`` ends what the block waits for."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = False

    def keep(*_: object) -> None:
        nonlocal pressed
        pressed = True
        stop()

    signal.signal(signal.SIGINT, keep)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            raise KeyboardInterrupt


def _bind(statement: adbc.AdbcStatement, values: Sequence[object]) -> None:
    if values:
        statement.prepare()
        schema, array = _bound(values).__arrow_c_array__()
        statement.bind(array, schema)


def _bound(values: Sequence[object]) -> pa.RecordBatch:
    names = [str(place) for place in range(len(values))]
    return pa.RecordBatch.from_arrays(list(map(_one, values)), names=names)


def _one(value: object) -> pa.Array:
    """An array of one text or number, from its bytes: ``pa.array`` would import pandas."""
    if isinstance(value, str):
        content = value.encode()
        ends = pa.py_buffer(struct.pack("=ii", 0, len(content)))
        return pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(content)])
    if value is None:
        return pa.nulls(1, pa.string())
    kind, form = (pa.float64(), "=d") if isinstance(value, float) else (pa.int64(), "=q")
    return pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(struct.pack(form, value))])


def _filled_in(query: str, literals: Iterable[str]) -> str:
    """The query with a literal for each ``?``. Queries of this package hold no other question mark."""
    first, *parts = query.split("?")
    return first + "".join(map("".join, zip(literals, parts, strict=True)))
