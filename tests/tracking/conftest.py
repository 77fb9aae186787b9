"""Real MLflow stores and real programs: what a user's script leaves on its run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

import mlflow_carbon
from mlflow_carbon.schema import PREFIX, PREFIX_METRIC
from tests.tracking.servers import Server


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with MLflow's schema and nothing in it: making one takes seconds, copying none."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store_uri(empty_store: Path, tmp_path: Path) -> str:
    """A SQLite store of this test's own; artifacts go below the test's folder."""
    path = tmp_path / "store.db"
    shutil.copy(empty_store, path)
    uri = f"sqlite:///{path}"
    MlflowClient(uri).create_experiment(
        "tests", artifact_location=(tmp_path / "artifacts").as_uri()
    )
    return uri


@pytest.fixture
def measuring(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """This process measures its runs, as a program with the plugin installed does."""
    monkeypatch.setenv("MLFLOW_CARBON_ENABLED", "true")
    mlflow.set_tracking_uri(store_uri)
    mlflow.set_experiment("tests")
    assert mlflow_carbon.enable(sample_period_s=0.05, region="FR")
    yield MlflowClient(store_uri)
    while mlflow.active_run():
        mlflow.end_run()
    mlflow_carbon.disable()
    mlflow.set_tracking_uri(None)


@dataclass(frozen=True)
class Finished:
    """A program that ran to its end, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> Any:
        """The JSON on the last line of the output."""
        return json.loads(self.out.strip().splitlines()[-1])


@pytest.fixture
def environment(store_uri: str, tmp_path: Path) -> dict[str, str]:
    """What a user's shell has set, with the store and nothing of ours."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")}
    home = tmp_path / "home"
    home.mkdir()
    return kept | {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "MLFLOW_TRACKING_URI": store_uri,
        "MLFLOW_EXPERIMENT_NAME": "tests",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_CARBON_REGION": "FR",
        "MLFLOW_CARBON_SAMPLE_PERIOD_S": "0.1",
        "MLFLOW_CARBON_PUBLISH_PERIOD_S": "600",  # on a busy machine a test may take a minute
    }


class Zygote:
    """A Python that has imported MLflow with the plugin installed, and forks for every program.

    Importing MLflow takes seconds and is the same each time. The fork runs the script as
    ``__main__`` and ends as any interpreter does: exit handlers, uncaught exceptions, signals.
    """

    SOURCE = """
import json, os, runpy, sys
import mlflow
import alembic.command, git, mlflow.data.pandas_dataset, mlflow.store.artifact.local_artifact_repo
import mlflow.store.tracking.rest_store, mlflow.store.tracking.sqlalchemy_store
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        break
    status = os.waitpid(child, 0)[1]
    print(os.waitstatus_to_exitcode(status), flush=True)
else:
    sys.exit(0)
for number, path in ((0, os.devnull), (1, job["out"]), (2, job["err"])):
    os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
os.chdir(job["cwd"])
os.environ.clear()
os.environ.update(job["env"])
sys.argv = [job["script"]]
runpy.run_path(job["script"], run_name="__main__")
"""

    def __init__(self) -> None:
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")}
        env["MLFLOW_DISABLE_TELEMETRY"] = "true"
        return subprocess.Popen(
            [sys.executable, "-c", self.SOURCE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
            start_new_session=True,
        )

    def run(self, script: Path, cwd: Path, env: dict[str, str]) -> Finished:
        out, err = script.with_suffix(".out"), script.with_suffix(".err")
        out.write_text("")
        err.write_text("")
        job = {"script": str(script), "cwd": str(cwd), "env": env, "out": str(out), "err": str(err)}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        try:
            code = int(self._process.stdout.readline())
        except BaseException:  # a program that hangs fails its own test, not those after it
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process = self._start()
            raise
        return Finished(code, out.read_text(), err.read_text())

    def close(self) -> None:
        self._process.communicate(timeout=120)


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Started once for all programs of the tests."""
    started = Zygote()
    yield started
    started.close()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The working directory of the programs, empty at first."""
    path = tmp_path / "work"
    path.mkdir()
    return path


@pytest.fixture
def program(
    zygote: Zygote, environment: dict[str, str], tmp_path: Path, work: Path
) -> Callable[..., Finished]:
    """Run a script that knows nothing of mlflow-carbon; keywords are environment variables."""
    script = tmp_path / "script.py"

    def run(source: str, **changes: str) -> Finished:
        script.write_text(textwrap.dedent(source))
        return zygote.run(script, work, environment | changes)

    return run


@pytest.fixture
def interpreter(environment: dict[str, str], tmp_path: Path, work: Path) -> Callable[..., Finished]:
    """The same with an interpreter of its own, from ``import mlflow`` on: slow, so seldom."""
    script = tmp_path / "script.py"

    def run(source: str, **changes: str) -> Finished:
        script.write_text(textwrap.dedent(source))
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=work,
            env=environment | changes,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Server]:
    """One server for all tests that need no special one."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder / "mlflow.db")
    started = Server(folder, f"sqlite:///{folder / 'mlflow.db'}")
    MlflowClient(started.uri).create_experiment("tests")
    yield started
    started.stop()


@pytest.fixture(scope="session")
def guarded_server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Server]:
    """The same behind basic-auth; the password of ``admin`` is correct-horse-battery."""
    folder = tmp_path_factory.mktemp("guarded")
    shutil.copy(empty_store, folder / "mlflow.db")
    (folder / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = sqlite:///{folder / 'users.db'}\n"
        "admin_username = admin\nadmin_password = correct-horse-battery\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    started = Server(
        folder,
        f"sqlite:///{folder / 'mlflow.db'}",
        "--app-name",
        "basic-auth",
        MLFLOW_AUTH_CONFIG_PATH=str(folder / "auth.ini"),
        MLFLOW_FLASK_SERVER_SECRET_KEY="for the tests only",
    )
    yield started
    started.stop()


def ours(run: Run) -> dict[str, float]:
    """The metrics we wrote."""
    return {k: v for k, v in run.data.metrics.items() if k.startswith(PREFIX_METRIC)}


def our_tags(run: Run) -> dict[str, str]:
    """The tags we wrote."""
    return {k: v for k, v in run.data.tags.items() if k.startswith(PREFIX)}


def burn(seconds: float) -> None:
    """Use the processor for so long, so that there is energy to account for."""
    import time

    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
