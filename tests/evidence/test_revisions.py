"""Databases as older versions of MLflow made them are read from their tables, and left as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy
from alembic import command
from mlflow.store.db.utils import _get_alembic_config, _get_latest_schema_revision
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase

from mlflow_carbon.evidence.query import Query
from mlflow_carbon.evidence.relational import TableStore
from mlflow_carbon.evidence.revisions import READABLE
from mlflow_carbon.evidence.store import open_store

RUN = "a" * 32
ROWS = (
    "INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'old', 'active')",
    f"INSERT INTO runs (run_uuid, name, status, start_time, end_time, lifecycle_stage, experiment_id)"
    f" VALUES ('{RUN}', 'first', 'FINISHED', 1000, 2000, 'active', 7)",
    f"INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)"
    f" VALUES ('auc', 0.9, 0, 0, 0, '{RUN}')",
    "INSERT INTO registered_models (name, description) VALUES ('credit', 'scores')",
    "INSERT INTO model_versions (name, version, current_stage, source, run_id)"
    f" VALUES ('credit', 1, 'None', 'runs:/{RUN}/model', '{RUN}')",
)


@pytest.mark.parametrize(
    "revision",
    ["5b0e9adcef9c", "0584bdc529eb", "400f98739977", "c8d9e0f1a2b3", "1b5f0d9ad7c1"],
    ids=["2.14", "before 3.0", "3.0", "before workspaces", "workspaces"],
)
def test_a_database_of_an_older_mlflow_is_read_as_it_is(tmp_path: Path, revision: str) -> None:
    uri = f"sqlite:///{tmp_path / 'old.db'}"
    engine = sqlalchemy.create_engine(uri)
    InitialBase.metadata.create_all(engine)
    command.upgrade(_get_alembic_config(uri), revision)
    with engine.begin() as connection:
        for row in ROWS:
            connection.execute(sqlalchemy.text(row))
    engine.dispose()
    before = (tmp_path / "old.db").read_bytes()
    store = open_store(uri)
    assert isinstance(store, TableStore)
    (run,) = store.runs(Query())
    assert run.facts["metric.auc"].value == 0.9
    assert run.facts["run.experiment"].value == "old"
    (model,) = store.models(Query())
    assert model.versions == {"1": RUN}
    assert store.version("credit", "1").facts["lineage.runs"].value == 1
    store.close()
    assert (tmp_path / "old.db").read_bytes() == before


def test_the_schema_of_the_mlflow_installed_is_known() -> None:
    assert _get_latest_schema_revision() in READABLE
