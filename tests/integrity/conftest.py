"""A store with runs recorded as a user's program records them, for the tests of seals and signatures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas

import mlflow_carbon


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sealed")
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    client.create_experiment("sealed", artifact_location=(folder / "artifacts").as_uri())
    return folder / "mlflow.db"


@pytest.fixture
def uri(store_path: Path) -> str:
    return f"sqlite:///{store_path}"


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return MlflowClient(uri)


@pytest.fixture
def record(uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Record a run as a user's program does, with the plugin on."""
    monkeypatch.setenv("MLFLOW_CARBON_ENABLED", "true")
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("sealed")
    assert mlflow_carbon.enable(sample_period_s=0.05, region="FR")

    def recorded(run_id: str | None = None) -> str:
        with mlflow.start_run(run_id=run_id, run_name="train") as run:
            if run_id is None:
                mlflow.log_input(
                    from_pandas(pd.DataFrame({"a": [1, 2, 3]}), name="rows"), context="training"
                )
                mlflow.log_params({"depth": 3, "rate": 0.1})
            mlflow.log_metric("accuracy", 0.91)
            mlflow.log_metric("loss", float("nan"))
            mlflow.set_tag("team", "risk")
            mlflow.set_tag("mlflow_carbon.phase", "training")
        return str(run.info.run_id)

    yield recorded
    mlflow_carbon.disable()
    mlflow.set_tracking_uri(None)


@pytest.fixture
def run_id(record: Callable[[], str]) -> str:
    return record()
