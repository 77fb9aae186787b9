"""Real registries for the gate's tests: SQLite stores, and ``mlflow server`` processes that enforce."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.gate import policy_files


@dataclass(frozen=True)
class Server:
    """A running ``mlflow server`` with a gate; its policy file can be changed while it runs."""

    url: str
    folder: Path
    policy: Path
    log: Path

    def client(self) -> MlflowClient:
        return MlflowClient(self.url, self.url)


@dataclass(frozen=True)
class Seeded:
    """A registered version with the run it came from."""

    name: str
    version: str
    run_id: str


def seed(client: MlflowClient, name: str, *, passes: bool = True) -> Seeded:
    """Register a version whose evidence passes the test policy, or lacks the review."""
    experiment = client.get_experiment_by_name("gate")
    experiment_id = experiment.experiment_id if experiment else client.create_experiment("gate")
    run = client.create_run(experiment_id, tags={"owner": "ana@example.org"})
    client.set_terminated(run.info.run_id)
    known = {model.name for model in client.search_registered_models(f"name = '{name}'")}
    if name not in known:
        client.create_registered_model(name)
    version = client.create_model_version(name, f"runs:/{run.info.run_id}/model", run.info.run_id)
    if passes:
        client.set_model_version_tag(name, version.version, "review", "passed")
    return Seeded(name, str(version.version), run.info.run_id)


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def running_server(
    folder: Path, *options: str, prefix: str = "", **environment: str
) -> Iterator[Server]:
    """``mlflow server`` as people start it, on a SQLite store, with the test policy as its gate."""
    policy, log, port = policy_files.write(folder), folder / "server.log", free_port()
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    environ |= {
        "MLFLOW_CARBON_GATE_POLICY": str(policy),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "XDG_STATE_HOME": str(folder / "state"),
        **environment,
    }
    command = [
        str(Path(sys.executable).with_name("mlflow")),
        "server",
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        *options,
    ]
    with log.open("w") as written:
        process = subprocess.Popen(command, env=environ, stdout=written, stderr=written, cwd=folder)
    url = f"http://127.0.0.1:{port}{prefix}"
    try:
        deadline = time.monotonic() + 120
        while not _answers(f"http://127.0.0.1:{port}{prefix}/health"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield Server(url, folder, policy, log)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The plain server (uvicorn)."""
    with running_server(tmp_path_factory.mktemp("server"), "--workers", "1") as running:
        yield running


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file: migrating one costs seconds."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def open_store(empty_database: Path, tmp_path: Path) -> Callable[[], str]:
    """A store URI of the test's own."""

    def copied() -> str:
        path = tmp_path / "mlflow.db"
        path.write_bytes(empty_database.read_bytes())
        return f"sqlite:///{path}"

    return copied
