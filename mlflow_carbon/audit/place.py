"""Where runs are audited: a store that is open, or one bucket of a snapshot; and the engine for their columns."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import duckdb

from mlflow_carbon.audit.select import AuditRequest, Progress
from mlflow_carbon.errors import OutputError, StoreError
from mlflow_carbon.evidence.snapshot import Snapshot
from mlflow_carbon.evidence.sql import Source

_AGAIN_S = 0.2
"""After Ctrl-C the statement that runs is stopped so often, until the audit has ended."""


class Place(Protocol):
    """Where some of the runs are."""

    @property
    def number(self) -> int | None:
        """Of the bucket; ``None``: all runs are here."""

    def opened(self) -> AbstractContextManager[Source]:
        """The tables, to read from."""

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Tell how far it is."""


@dataclass(frozen=True, slots=True)
class Everything:
    """All runs of a store that is open."""

    source: Source
    told: Progress
    number: int | None = None

    @contextmanager
    def opened(self) -> Iterator[Source]:
        """The store, which stays open."""
        yield self.source

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Tell whoever waits."""
        self.told(stage, done, total)


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket of a snapshot, which every machine finds at the same path."""

    folder: Path
    sealed: str
    """SHA-256 of the snapshot's ``SHA256SUMS``, as who asks has seen it."""
    number: int | None

    @contextmanager
    def opened(self) -> Iterator[Source]:
        """The snapshot with the runs of this bucket, their files checked.

        Raises:
            StoreError: it is not there, or not as it was.
        """
        if not self.folder.is_dir():
            raise StoreError(
                f"{self.folder}: is not there on every machine that has a part in the audit. Put the "
                "snapshot on storage that all of them see at the same path."
            )
        snapshot = Snapshot(self.folder, bucket=self.number)
        try:
            if snapshot.sealed != self.sealed:
                raise StoreError(f"{self.folder}: is another snapshot on one of the machines.")
            yield snapshot
        finally:
            snapshot.close()

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Nobody waits for parts of a bucket."""


@contextmanager
def columns_engine(request: AuditRequest, source: Source) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own: in memory up to the limit, then in a folder for temporary files.

    Raises:
        StoreError: neither is enough.
    """
    with tempfile.TemporaryDirectory(prefix="mlflow-carbon-") as folder:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{request.memory_mb}MB",
            "temp_directory": folder,
            "preserve_insertion_order": False,
            "threads": request.jobs or os.cpu_count() or 1,
        }
        con = duckdb.connect(config=config)
        con.execute("SET enable_progress_bar = false")  # it would go to standard output
        try:
            with _stopped_by_ctrl_c(con):
                yield con
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise StoreError(
                f"{source.shown}: {request.memory_mb} MB of memory and the room in {folder} are not "
                f"enough ({str(error).splitlines()[0]}). Give more with --memory, or more room for "
                "temporary files with TMPDIR."
            ) from None
        finally:
            con.close()


def write_parquet(
    con: duckdb.DuckDBPyConnection, query: str, file: Path, options: str = ""
) -> None:
    """The answer of a query as a Parquet file, streamed and never held in memory.

    Raises:
        OutputError: the file cannot be written.
    """
    path = str(file).replace("'", "''")
    try:
        con.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet{options})")
    except duckdb.IOException as error:
        raise OutputError(f"{file}: cannot be written: {str(error).splitlines()[0]}") from None


@contextmanager
def _stopped_by_ctrl_c(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Ctrl-C ends the statement that runs; by itself DuckDB may heed it only when the statement is over.

    Python's own handler runs between two lines of the main thread, which waits in DuckDB; but what it
    writes to the wake-up descriptor another thread can read at once.
    """
    by_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not by_default or threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, said = socket.socketpair()

    def listen() -> None:
        number = b"-"
        while number:
            with suppress(TimeoutError):
                number = heard.recv(1)
            if number and number[0] == signal.SIGINT:
                # And again: Python loses a Ctrl-C that breaks in where it cannot raise (a weak reference's end).
                con.interrupt()
                heard.settimeout(_AGAIN_S)

    listener = threading.Thread(target=listen, daemon=True)
    said.setblocking(False)
    before = signal.set_wakeup_fd(said.fileno(), warn_on_full_buffer=False)
    listener.start()
    try:
        yield
    except duckdb.InterruptException:
        raise KeyboardInterrupt from None
    finally:
        signal.set_wakeup_fd(before)
        said.close()
        listener.join()
        heard.close()
