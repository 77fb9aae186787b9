"""An incremental audit equals a full one, whatever was done to the store since the last."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import create_engine
from sqlalchemy import text as sql

from mlflow_carbon.audit.run import run_audit
from mlflow_carbon.audit.select import AuditRequest
from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.cli._kept import incremental_audit
from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.policy.load import load_pack
from mlflow_carbon.policy.model import Compare
from mlflow_carbon.report.json import as_data
from tests.audit.test_assess import AT, LATER, pack, rule
from tests.evidence.conftest import Seeded, seed

PACKS = (load_pack("baseline"),)
TOMORROW = LATER + timedelta(days=1)
UNCHANGED = "Nothing was written to the store"


def incremental(
    uri: str, folder: Path, as_of: datetime, request: AuditRequest | None = None
) -> tuple[Audit, str]:
    """Also compares it with the full audit, as a report tells them."""
    request = request or AuditRequest(store=uri, packs=PACKS, engine="columns")
    made, told = incremental_audit(request, as_of, folder, lambda *_: None)
    assert as_data(made) == as_data(run_audit(request, as_of))
    return made, told


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement, values)
        connection.commit()


def some_run(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT run_uuid FROM latest_metrics JOIN runs USING (run_uuid) WHERE key = 'carbon/energy_kwh' AND lifecycle_stage = 'active' AND status = 'FINISHED' ORDER BY 1"
        return str(connection.execute(query).fetchone()[0])


def test_while_nothing_is_written_the_last_audit_holds(sqlite_copy: Path, tmp_path: Path) -> None:
    uri, folder = f"sqlite:///{sqlite_copy}", tmp_path / "kept"
    assert "No earlier audit" in incremental(uri, folder, LATER)[1]
    assert UNCHANGED in incremental(uri, folder, TOMORROW)[1]


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_run_edited_after_its_audit_is_found(
    sqlite_copy: Path, tmp_path: Path, mode: str
) -> None:
    change(sqlite_copy, f"PRAGMA journal_mode = {mode}")
    uri, folder, run_id = f"sqlite:///{sqlite_copy}", tmp_path / "kept", some_run(sqlite_copy)
    incremental(uri, folder, LATER)
    change(
        sqlite_copy,
        "UPDATE latest_metrics SET value = value + 1 WHERE key = 'carbon/energy_kwh' AND run_uuid = ?",
        run_id,
    )
    told = incremental(uri, folder, TOMORROW)[1]
    assert "runs new: 0, edited after they were audited: 1, gone: 0" in told
    assert f"{run_id} (edited)" in told
    change(sqlite_copy, "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = ?", run_id)
    assert f"{run_id} (gone)" in incremental(uri, folder, TOMORROW)[1]
    change(sqlite_copy, "UPDATE runs SET lifecycle_stage = 'active' WHERE run_uuid = ?", run_id)
    assert "runs new: 1, edited after they were audited: 0" in incremental(uri, folder, TOMORROW)[1]
    assert UNCHANGED in incremental(uri, folder, TOMORROW)[1]


def test_every_write_to_postgresql_is_noticed(postgres_uri: str, tmp_path: Path) -> None:
    SqlAlchemyStore(postgres_uri, "/tmp/none")
    seed(postgres_uri)
    folder, engine = tmp_path / "kept", create_engine(postgres_uri)
    incremental(postgres_uri, folder, LATER)
    # A server's own upkeep may write too; then everything is read, and no run differs.
    told = incremental(postgres_uri, folder, TOMORROW)[1]
    assert UNCHANGED in told or "runs new: 0, edited after they were audited: 0, gone: 0" in told
    with engine.begin() as connection:
        connection.execute(
            sql("UPDATE latest_metrics SET value = value + 1 WHERE key = 'carbon/energy_kwh'")
        )
    told = incremental(postgres_uri, folder, TOMORROW)[1]
    assert "runs new: 0, edited after they were audited: 0" not in told
    assert "runs new: 0, edited after they were audited: " in told
    engine.dispose()


def test_an_answer_that_depends_on_the_date_is_given_anew(
    sqlite_copy: Path, tmp_path: Path
) -> None:
    leaf = Compare(fact="run.start_time", operator="newer_than", operand=1, at=AT)
    recent = pack(rule("R-1", leaf, SubjectKind.RUN))
    uri = f"sqlite:///{sqlite_copy}"
    request = AuditRequest(store=uri, packs=(recent,), engine="columns")
    incremental(uri, tmp_path / "kept", LATER, request)
    assert UNCHANGED not in incremental(uri, tmp_path / "kept", TOMORROW, request)[1]


def test_runs_later_than_the_moment_count_when_it_has_come(
    sqlite_copy: Path, tmp_path: Path
) -> None:
    uri, folder, run_id = f"sqlite:///{sqlite_copy}", tmp_path / "kept", some_run(sqlite_copy)
    at = int((LATER + timedelta(hours=1)).timestamp() * 1000)
    change(sqlite_copy, "UPDATE runs SET start_time = ?, end_time = ? WHERE run_uuid = ?", at, at, run_id)  # fmt: skip
    first, _ = incremental(uri, folder, LATER)
    second, told = incremental(uri, folder, TOMORROW)
    assert second.selection.runs_read == first.selection.runs_read + 1
    assert "runs new: 1" in told


def test_another_question_or_a_damaged_folder_means_a_full_audit(
    sqlite_store: Seeded, tmp_path: Path
) -> None:
    uri, folder = sqlite_store.uri, tmp_path / "kept"
    incremental(uri, folder, LATER)
    other = AuditRequest(store=uri, packs=(*PACKS, load_pack("promotion-gate")), engine="columns")
    assert "No earlier audit" in incremental(uri, folder, LATER, other)[1]
    incremental(uri, folder, LATER)
    report = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps({**report, "findings": []}))
    assert "No earlier audit" in incremental(uri, folder, LATER)[1]
    (folder / "kept.json").write_text("{")
    assert "No earlier audit" in incremental(uri, folder, LATER)[1]


def test_the_plain_engine_keeps_nothing_and_says_so(sqlite_store: Seeded, tmp_path: Path) -> None:
    request = replace(AuditRequest(store=sqlite_store.uri, packs=PACKS), engine="plain")
    folder = tmp_path / "kept"
    assert "keeps nothing" in incremental(sqlite_store.uri, folder, LATER, request)[1]
    assert not folder.exists()
