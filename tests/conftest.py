"""What every test starts from: no settings from outside, no state outside its own folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# MLflow reports use over the network unless told not to; tests make no network calls.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No MLflow or mlflow-carbon setting leaks in; the spool goes below the test's folder.

    Measuring is off unless a test turns it on, so that seeding a store does not measure.
    """
    for name in list(os.environ):
        if name.startswith(
            ("MLFLOW_CARBON_", "MLFLOW_TRACKING", "MLFLOW_REGISTRY", "MLFLOW_RUN_ID")
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_CARBON_ENABLED", "false")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
