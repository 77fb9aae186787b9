"""Audits on a real Spark: what `--engine spark` says from the command line is what `--engine columns` says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from mlflow_carbon.audit.place import Bucket
from mlflow_carbon.audit.spark import on_spark
from mlflow_carbon.errors import StoreError
from tests.evidence.conftest import Seeded
from tests.evidence.conftest import sqlite_store as sqlite_store

POLICIES = ("--policy", "baseline", "--policy", "nist-ai-rmf-core", "--policy", "promotion-gate")


def command(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command line, with two processors for a Spark of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mlflow_carbon.cli", *arguments],
        env={**os.environ, "PYSPARK_SUBMIT_ARGS": "--master local[2] pyspark-shell", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def audit(store: str, out: Path, engine: str, *more: str, **env: str) -> subprocess.CompletedProcess[str]:  # fmt: skip
    arguments = ("--store", store, "--engine", engine, "--out", str(out), "--format", "json")
    return command("audit", *arguments, "--as-of", "2026-11-20T12:00:00Z", *POLICIES, *more, **env)


def report(out: Path) -> dict[str, Any]:
    """The report, without what names the store and the command line."""
    made: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    del made["command"], made["selection"]["store"]
    return made


@pytest.fixture(scope="module")
def snapshots(sqlite_store: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("snapshots")
    for name, buckets in (("whole", "1"), ("divided", "3")):
        made = command("export", "evidence", str(folder / name), "--store", sqlite_store.uri, "--buckets", buckets)  # fmt: skip
        assert made.returncode == 0, made.stderr
    return folder


def test_the_report_is_the_one_of_the_columns_engine(
    sqlite_store: Seeded, snapshots: Path, tmp_path: Path
) -> None:
    runs = [
        audit(sqlite_store.uri, tmp_path / "store", "columns"),
        audit(str(snapshots / "whole"), tmp_path / "whole", "columns"),
        audit(str(snapshots / "divided"), tmp_path / "spark", "spark", "--all-findings", str(tmp_path / "all")),
    ]  # fmt: skip
    assert [one.returncode for one in runs] == [1, 1, 1], runs[2].stderr
    assert report(tmp_path / "spark") == report(tmp_path / "whole") == report(tmp_path / "store")
    listed = {
        (one["rule"], one["subject"]["key"], one["state"])
        for one in report(tmp_path / "spark")["findings"]
        if one["subject"]["kind"] in ("run", "dataset_input")
    }
    rows = pq.read_table(tmp_path / "all").to_pylist()
    assert {(one["rule_id"], one["subject_key"], one["state"]) for one in rows} == listed


def test_a_selection_means_the_same_on_spark(snapshots: Path, tmp_path: Path) -> None:
    chosen = ("--experiment", "credit", "--filter", "metrics.auc > 0.5")
    columns = audit(str(snapshots / "whole"), tmp_path / "columns", "columns", *chosen)
    spark = audit(str(snapshots / "divided"), tmp_path / "spark", "spark", *chosen)
    assert (columns.returncode, spark.returncode) == (1, 1), spark.stderr
    assert report(tmp_path / "spark") == report(tmp_path / "columns")


def test_a_bucket_that_was_changed_ends_the_audit_without_a_report(
    sqlite_store: Seeded, tmp_path: Path
) -> None:
    folder, out = tmp_path / "taken", tmp_path / "out"
    command("export", "evidence", str(folder), "--store", sqlite_store.uri, "--buckets", "2")
    file = min((folder / "runs").glob("bucket-*"))
    file.write_bytes(file.read_bytes() + b"x")
    done = audit(str(folder), out, "spark", "--all-findings", str(tmp_path / "all"))
    assert done.returncode == 4, done.stderr
    assert f"{file.name}: was changed after the snapshot was made" in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["taken"]


def test_without_java_it_is_told_what_to_do(snapshots: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = audit(str(snapshots / "divided"), out, "spark", JAVA_HOME=str(tmp_path / "none"))
    assert done.returncode == 4, done.stderr
    assert "It needs Java 17 or 21" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


def _dies(_place: object, _given: object) -> None:
    os._exit(3)


def _stumbles(_place: object, _given: object) -> None:
    raise ZeroDivisionError("on the executor")


@pytest.mark.parametrize(
    ("task", "told"),
    [(_dies, "exited unexpectedly"), (_stumbles, "ZeroDivisionError: on the executor")],
)
def test_an_executor_that_fails_is_told_and_a_session_of_the_user_stays(
    spark: SparkSession, task: Any, told: str
) -> None:
    place = Bucket(Path("/nowhere"), "", 0)
    with on_spark() as run, pytest.raises(StoreError, match=f"Spark gave up: .*{told}.*Nothing was audited"):  # fmt: skip
        run(partial(task), [(place, None)])
    assert spark.range(3).count() == 3
