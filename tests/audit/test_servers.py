"""An audit of a real MLflow server: the answers of its database, or a clear error and nothing else."""

from __future__ import annotations

import os
import runpy
import socket
import sqlite3
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from mlflow_carbon.audit.run import run_audit
from mlflow_carbon.audit.select import AuditRequest
from mlflow_carbon.cli.audit import command
from mlflow_carbon.errors import FilterError, StoreError
from mlflow_carbon.evidence.query import Query
from mlflow_carbon.evidence.store import open_store
from tests.audit.test_assess import LATER
from tests.audit.test_sources import PACKS, audited
from tests.evidence.conftest import Seeded, served

SEARCH = "/api/2.0/mlflow/runs/search"
PASSWORD = "correct-horse-battery"
Trouble = Callable[[BaseHTTPRequestHandler, int], bool]
"""Given the n-th search for runs; true: the server is not to be asked any more."""


@contextmanager
def road(server: str, trouble: Trouble) -> Iterator[str]:
    """The address of a proxy in front of a real server, where searches for runs meet trouble."""
    searches = iter(range(1, 1_000))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.startswith(SEARCH) and trouble(self, next(searches)):
                return
            asked = urllib.request.Request(server + self.path, body or None, method=self.command)
            asked.add_header("Content-Type", "application/json")
            with urllib.request.urlopen(asked, timeout=300) as answer:
                say(self, 200, answer.read(), answer.headers["Content-Type"])

        do_POST = do_GET  # noqa: N815

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads, proxy.block_on_close = True, False
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}"
    finally:
        proxy.shutdown()
        proxy.server_close()


def say(request: BaseHTTPRequestHandler, status: int, body: bytes, kind: str) -> bool:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
    return True


def hang_up(request: BaseHTTPRequestHandler) -> bool:
    request.connection.shutdown(2)
    return True


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come without a pause between them."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with runs for three pages: equal start times, two experiments, some runs deleted."""
    folder = tmp_path_factory.mktemp("many")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    script = Path(__file__).parents[1] / "benchmarks" / "seed_store.py"
    runpy.run_path(str(script))["seed"](uri, 2_100)
    other = MlflowClient(uri, uri).create_experiment("other")
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.execute("UPDATE runs SET start_time = 1767225600000 WHERE rowid % 2 = 0")
        connection.execute(f"UPDATE runs SET experiment_id = {other} WHERE rowid % 3 = 0")
        connection.execute("UPDATE runs SET lifecycle_stage = 'deleted' WHERE rowid % 100 = 0")
    connection.close()
    return uri


@pytest.fixture(scope="module")
def many_served(many: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(many, tmp_path_factory.mktemp("many-served")) as address:
        yield address


def test_more_runs_than_a_page_are_audited_as_from_the_database(
    many: str, many_served: str
) -> None:
    found = audited(many_served)
    assert found.selection.runs_read == 2_079
    assert found == audited(many, "columns")


def test_a_selection_means_the_same_to_a_server(many: str, many_served: str) -> None:
    query = Query(filter="metrics.accuracy > 0.7", experiments=("other",))
    assert audited(many_served, query=query) == audited(many, query=query)
    with pytest.raises(StoreError, match="has no runs"):
        audited(many_served, query=Query(filter="metrics.accuracy > 7"))
    with pytest.raises(FilterError, match="Expected numeric value"):
        audited(many_served, query=Query(filter="metrics.auc >> 'x'"))


def test_columns_of_a_small_server_say_what_its_pages_say(
    sqlite_store: Seeded, server: str
) -> None:
    assert audited(server, "columns") == audited(server, "plain") == audited(sqlite_store.uri)
    behind = Query(models=("credit",))
    assert audited(server, query=behind) == audited(sqlite_store.uri, query=behind)


def test_a_server_that_is_busy_or_hangs_up_for_a_while_is_asked_again(
    sqlite_store: Seeded, server: str, at_once: None
) -> None:
    def trouble(request: BaseHTTPRequestHandler, number: int) -> bool:
        statuses = {1: 429, 3: 502, 4: 503}
        if number in statuses:
            return say(request, statuses[number], b"later", "text/plain")
        return hang_up(request) if number == 2 else False

    with road(server, trouble) as address:
        assert audited(address) == audited(sqlite_store.uri)


BREAKS = {
    "a server that stops midway": (lambda request, number: number > 1 and hang_up(request), "cannot be read"),
    "a server that stays busy": (lambda request, _: say(request, 429, b"later", "text/plain"), "still answered HTTP 429 after all retries"),
    "a login page": (lambda request, _: say(request, 200, b"<!DOCTYPE html><p>Sign in", "text/html"), "a web page and not as an MLflow server"),
    "an empty page where more was promised": (lambda request, number: number > 1 and say(request, 200, b"{}", "application/json"), "Try again"),
    "an answer of another kind": (lambda request, number: number > 1 and say(request, 200, b"[]", "application/json"), "cannot be read"),
    "runs without an id": (lambda request, number: number > 1 and say(request, 200, b'{"runs": [{}]}', "application/json"), "without runs"),
    "an answer cut short": (lambda request, _: say(request, 200, b'{"runs": [', "application/json"), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("what", BREAKS)
def test_trouble_that_stays_ends_the_audit_without_a_report(
    what: str, many_served: str, tmp_path: Path, at_once: None
) -> None:
    trouble, told = BREAKS[what]
    with road(many_served, trouble) as address:
        asked = ["--store", address, "--out", str(tmp_path / "out"), "--format", "json"]
        ended = CliRunner().invoke(command, asked)
    assert isinstance(ended.exception, StoreError), ended.output
    assert told in str(ended.exception)
    assert ended.exception.exit_code == 4
    assert not (tmp_path / "out").exists()


def test_a_slow_server_is_waited_for_until_the_deadline_and_not_longer(server: str) -> None:
    for_ever = threading.Event()
    with road(server, lambda *_: for_ever.wait()) as address:
        request = AuditRequest(store=address, packs=PACKS, deadline_s=3.0)
        with pytest.raises(StoreError, match=r"not answered everything in 3 s.*--deadline"):
            run_audit(request, LATER)
        for_ever.set()


@pytest.mark.parametrize("engine", ["auto", "plain"])
def test_the_deadline_holds_for_a_server_that_never_says_a_word(engine: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"http://127.0.0.1:{mute.getsockname()[1]}"
        request = AuditRequest(store=address, packs=PACKS, engine=engine, deadline_s=2.0)
        begin = time.monotonic()
        with pytest.raises(StoreError, match=r"not answered everything in 2 s.*--deadline"):
            run_audit(request, LATER)
        assert time.monotonic() - begin < 20


def test_the_deadline_holds_between_the_pages_of_the_plain_engine(many_served: str) -> None:
    def trouble(_request: BaseHTTPRequestHandler, _number: int) -> bool:
        time.sleep(2)
        return False

    with road(many_served, trouble) as address:
        request = AuditRequest(store=address, packs=PACKS, engine="plain", deadline_s=2.0)
        with pytest.raises(StoreError, match=r"not answered everything in 2 s.*--deadline"):
            run_audit(request, LATER)


def test_behind_basic_auth_the_answers_are_the_same_and_no_password_is_told(
    sqlite_store: Seeded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ini = tmp_path / "auth.ini"
    ini.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{tmp_path / 'users.db'}\n"
        f"admin_username = admin\nadmin_password = {PASSWORD}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    secrets = {"MLFLOW_AUTH_CONFIG_PATH": str(ini), "MLFLOW_FLASK_SERVER_SECRET_KEY": "for tests"}
    with served(sqlite_store.uri, tmp_path, "--app-name", "basic-auth", **secrets) as address:
        with pytest.raises(StoreError, match=r"HTTP 401.*MLFLOW_TRACKING_USERNAME"):
            open_store(address)
        inside = address.replace("http://", "http://admin:{}@")
        with pytest.raises(StoreError, match="HTTP 401") as refused:
            open_store(inside.format("hunter2"))
        assert "hunter2" not in str(refused.value)
        assert audited(inside.format(PASSWORD), "columns") == audited(sqlite_store.uri)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        assert audited(address) == audited(sqlite_store.uri)


def test_a_workspace_of_a_server_is_read_alone(
    sqlite_store: Seeded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with served(uri, tmp_path, "--enable-workspaces") as address:
        client = MlflowClient(address, address)
        client.create_workspace("lab")
        monkeypatch.setenv("MLFLOW_WORKSPACE", "lab")
        experiment = client.create_experiment("elsewhere")
        client.set_terminated(client.create_run(experiment).info.run_id)
        monkeypatch.delenv("MLFLOW_WORKSPACE")
        store = open_store(address)
        assert "elsewhere" not in store.experiments(Query()).values()
        assert "elsewhere" in store.experiments(Query(workspace="lab")).values()
        assert len(list(store.runs(Query(workspace="lab")))) == 1
        store.close()  # and MLflow's clients are where they were
        assert "MLFLOW_WORKSPACE" not in os.environ
        assert "elsewhere" not in {one.name for one in client.search_experiments()}
    with pytest.raises(StoreError, match="--workspace goes with"):
        open_store(sqlite_store.uri, through_mlflow=True).experiments(Query(workspace="lab"))
