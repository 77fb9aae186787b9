"""Where a store is: what is refused before MLflow touches it, and what is never printed."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence.address import probe, redacted
from mlflow_carbon.evidence.store import open_store


def test_a_missing_sqlite_file_is_refused_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such database file"):
        open_store(f"sqlite:///{tmp_path / 'missing.db'}")
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_refused_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such folder"):
        open_store(str(tmp_path / "mlruns"))
    assert not list(tmp_path.iterdir())


def test_an_empty_database_is_refused_and_not_migrated(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    sqlite3.connect(path).close()
    with pytest.raises(StoreError, match="holds no MLflow tables"):
        open_store(f"sqlite:///{path}")
    assert path.stat().st_size == 0


def test_an_older_schema_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('451aebb31d03')")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"schema 451aebb31d03.*left alone"):
        open_store(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("these are notes, not a database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        open_store(f"sqlite:///{path}")


def test_a_truncated_database_is_refused(tmp_path: Path, sqlite_copy: Path) -> None:
    sqlite_copy.write_bytes(sqlite_copy.read_bytes()[:8192])
    with pytest.raises(StoreError, match=str(sqlite_copy)):
        open_store(f"sqlite:///{sqlite_copy}")


def test_a_locked_database_is_told_as_such(sqlite_copy: Path) -> None:
    holder = sqlite3.connect(sqlite_copy, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StoreError, match="locked"):
            open_store(f"sqlite:///{sqlite_copy}")
    finally:
        holder.close()


def test_a_database_left_in_the_middle_of_a_write_is_told_and_not_mended_by_us(
    tmp_path: Path,
) -> None:
    path, copy = tmp_path / "busy.db", tmp_path / "left.db"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.executescript("CREATE TABLE alembic_version (version_num TEXT); PRAGMA cache_size = 1")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999)"
        " INSERT INTO alembic_version SELECT hex(randomblob(900)) FROM n"
    )
    shutil.copy(path, copy)
    shutil.copy(f"{path}-journal", f"{copy}-journal")
    writer.close()
    before = copy.read_bytes()
    with pytest.raises(StoreError, match="interrupted while it wrote"):
        probe(f"sqlite:///{copy}")
    assert copy.read_bytes() == before


def test_a_write_ahead_log_where_nothing_may_be_written_is_told_as_such() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "theirs")
        folder.mkdir()
        with sqlite3.connect(folder / "mlflow.db", isolation_level=None) as writer:
            writer.execute("PRAGMA journal_mode = WAL")
            writer.execute("CREATE TABLE alembic_version (version_num TEXT)")
        writer.close()
        Path(place).chmod(0o755)
        (folder / "mlflow.db").chmod(0o444)
        folder.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # nothing is forbidden to root
        try:
            with pytest.raises(StoreError, match=r"write-ahead log.*audit the copy"):
                probe(f"sqlite:///{folder / 'mlflow.db'}")
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)


def test_half_a_password_is_not_taken_for_a_host_and_printed() -> None:
    for password in ("pa@hunter2", "pa@hunter2/more"):
        with pytest.raises(StoreError, match="written as %XX") as refused:
            probe(f"postgresql://someone:{password}@127.0.0.1/mlflow")
        assert "hunter2" not in str(refused.value)


def test_an_unknown_scheme_is_told_as_such() -> None:
    with pytest.raises(StoreError, match=r"carrier-pigeon://loft.*unsupported"):
        open_store("carrier-pigeon://loft")


def test_a_server_that_is_down_is_told_with_host_and_port() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(StoreError, match=f"no MLflow server answers at 127.0.0.1 port {port}"):
        open_store(f"http://someone:hunter2@127.0.0.1:{port}")


def test_a_wrong_password_is_refused_and_never_printed(postgres_uri: str) -> None:
    host = postgres_uri.partition("host=")[2]
    with pytest.raises(StoreError) as refused:
        open_store(f"postgresql://nobody:hunter2@/nowhere?host={host}")
    assert "hunter2" not in str(refused.value)
    assert "nowhere" in str(refused.value)


def test_a_database_without_mlflow_tables_is_refused(postgres_uri: str) -> None:
    with pytest.raises(StoreError, match="holds no MLflow tables"):
        probe(postgres_uri)


def test_a_missing_driver_is_named() -> None:
    with pytest.raises(StoreError, match="driver"):
        probe("mysql+nosuchdriver://u:hunter2@localhost/db")


@given(
    password=st.text(min_size=4, max_size=30).filter(
        lambda text: text not in "postgresql://user:***@host/db"
    ),
    place=st.sampled_from(
        ["postgresql://user:{}@host/db", "http://u:{}@h:1", "mysql+x://u:{}@/d?a=b"]
    ),
)
def test_no_password_survives_redaction(password: str, place: str) -> None:
    shown = redacted(place.format(password))
    assert shown == place.format("***")
