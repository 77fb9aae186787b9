"""An audit in columns says what the audit run by run says, of every store it can read."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from mlflow_carbon.audit.run import run_audit
from mlflow_carbon.audit.select import AuditRequest
from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence.keys import MAX_KEYS
from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.evidence.sql import Database
from mlflow_carbon.evidence.store import Query
from mlflow_carbon.policy.load import load_pack
from mlflow_carbon.policy.model import Compare, ForEach
from tests.audit.test_assess import AT, LATER, pack, rule
from tests.evidence.conftest import Seeded, seed

PACKS = tuple(load_pack(name) for name in ("baseline", "nist-ai-rmf-core", "promotion-gate"))


def audit(uri: str, engine: str, query: Query | None = None) -> Audit:
    request = AuditRequest(store=uri, packs=PACKS, query=query or Query(), engine=engine)
    made = run_audit(request, LATER)
    rows = tuple(sorted(made.energy.rows, key=lambda row: row.run_id))
    return replace(made, energy=replace(made.energy, rows=rows))


def assert_same(uri: str, query: Query | None = None) -> None:
    plain, columns = audit(uri, "plain", query), audit(uri, "columns", query)
    assert columns.rules == plain.rules
    assert columns.findings == plain.findings
    assert columns.energy == plain.energy
    assert columns.datasets == plain.datasets
    assert columns == plain


def test_a_sqlite_store_is_audited_the_same_by_both_engines(sqlite_store: Seeded) -> None:
    assert_same(sqlite_store.uri)
    assert_same(sqlite_store.uri, Query(experiments=("credit",)))
    assert_same(sqlite_store.uri, Query(experiments=("credit",), models=("credit",)))


def test_a_postgresql_store_is_audited_the_same_by_both_engines(postgres_uri: str) -> None:
    SqlAlchemyStore(postgres_uri, "/tmp/none")
    seed(postgres_uri)
    assert_same(postgres_uri)


def test_deleted_runs_and_experiments_are_left_out_by_both(
    sqlite_copy: Path, sqlite_store: Seeded
) -> None:
    uri = f"sqlite:///{sqlite_copy}"
    client = MlflowClient(uri, uri)
    other = client.create_experiment("gone")
    client.create_run(other)
    client.delete_experiment(other)
    client.delete_run(sqlite_store.evaluation)
    assert_same(uri)


def test_failed_runs_inside_failed_runs_are_told_once_by_both(
    sqlite_copy: Path, sqlite_store: Seeded
) -> None:
    uri = f"sqlite:///{sqlite_copy}"
    client = MlflowClient(uri, uri)
    experiment = client.get_run(sqlite_store.failed).info.experiment_id
    nested = {"mlflow.parentRunId": sqlite_store.failed, "mlflow_carbon.exit": "exception"}
    inner = client.create_run(experiment, start_time=1_021_000, tags=nested).info.run_id
    client.log_metric(inner, "carbon/energy_kwh", 0.25)
    client.set_terminated(inner, end_time=1_022_000)
    assert audit(uri, "plain").energy.failed_runs_j > 0
    assert_same(uri)


def test_both_tell_what_measuring_cost(sqlite_copy: Path, sqlite_store: Seeded) -> None:
    uri = f"sqlite:///{sqlite_copy}"
    client = MlflowClient(uri, uri)
    client.log_metric(sqlite_store.parent, "carbon/measuring_cpu_s", 0.25)
    client.log_metric(sqlite_store.evaluation, "carbon/measuring_cpu_s", float("nan"))
    cost = audit(uri, "plain").energy.measuring
    assert cost is not None
    assert (cost.cpu_s, cost.runs) == (0.25, 1)
    assert_same(uri)


def test_when_not_all_findings_are_listed_the_rest_is_counted(sqlite_store: Seeded) -> None:
    plain = audit(sqlite_store.uri, "plain")
    request = AuditRequest(store=sqlite_store.uri, packs=PACKS, engine="columns", listed_findings=7)
    columns = run_audit(request, LATER)
    assert columns.rules == plain.rules
    assert columns.findings_left_out > 0
    assert len(columns.findings) + columns.findings_left_out == len(plain.findings)
    worst = [finding for finding in columns.findings if finding.subject.kind in (SubjectKind.RUN, SubjectKind.DATASET_INPUT)]  # fmt: skip
    assert len(worst) == 7
    assert set(columns.findings) <= set(plain.findings)


def test_a_rule_over_metrics_by_pattern_is_answered_the_same_by_both(
    sqlite_copy: Path, sqlite_store: Seeded
) -> None:
    uri = f"sqlite:///{sqlite_copy}"
    leaf = Compare(fact="each.value", operator="at_most", operand=0.5, at=AT)
    each = ForEach("metrics", leaf, AT, pattern="^(auc|odd)$")
    packs = (pack(rule("M", each, SubjectKind.RUN)),)

    def told(engine: str) -> Audit:
        return run_audit(AuditRequest(store=uri, packs=packs, engine=engine), LATER)

    columns, plain = told("columns"), told("plain")
    assert columns.findings == plain.findings
    assert len({finding.state for finding in columns.findings}) > 1
    many = [Metric(f"auc{i}", 1.0, 1, 0) for i in range(MAX_KEYS + 1)]
    MlflowClient(uri, uri).log_batch(sqlite_store.parent, metrics=many)
    packs = (pack(rule("M", replace(each, pattern="^auc"), SubjectKind.RUN)),)
    with pytest.raises(StoreError, match=r"'\^auc': 202 keys, more than 200\. Leave --engine out"):
        told("columns")
    assert told("auto").findings == told("plain").findings


def test_columns_are_refused_where_they_cannot_be_read(sqlite_store: Seeded) -> None:
    request = AuditRequest(
        store=sqlite_store.uri, packs=PACKS, query=Query(models=("credit",)), engine="columns"
    )
    with pytest.raises(StoreError, match="without --model alone"):
        run_audit(request, LATER)


def test_the_connection_cannot_write(sqlite_store: Seeded, postgres_uri: str) -> None:
    SqlAlchemyStore(postgres_uri, "/tmp/none")
    for uri in (sqlite_store.uri, postgres_uri):
        source = Database(uri)
        try:
            with (
                pytest.raises(StoreError, match=r"read.?only"),
                source.batches("DELETE FROM runs") as gone,
            ):
                gone.read_all()
        finally:
            source.close()


def test_a_database_that_breaks_off_midway_is_told_and_nothing_is_audited(
    sqlite_copy: Path,
) -> None:
    size = sqlite_copy.stat().st_size
    with sqlite3.connect(sqlite_copy) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'latest_metrics'").fetchone()[0]  # fmt: skip
        page_size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    with sqlite_copy.open("r+b") as file:
        file.seek((page - 1) * page_size)
        file.write(os.urandom(page_size))
    assert sqlite_copy.stat().st_size == size
    request = AuditRequest(store=f"sqlite:///{sqlite_copy}", packs=PACKS, engine="columns")
    with pytest.raises(StoreError, match="malformed"):
        run_audit(request, LATER)
