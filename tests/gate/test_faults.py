"""A server with every trouble at once, over real HTTP: no policy when it starts, a full disk, a store that does not answer."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlflow_carbon.cli.policy import command as policy_command
from tests.gate import policy_files
from tests.gate.conftest import Api, Server, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Started before its policy is there. Models are in another database than runs."""
    folder = tmp_path_factory.mktemp("faults")
    policy = folder / "later.yaml"
    options = ("--workers", "1", "--registry-store-uri", f"sqlite:///{folder}/models.db")
    settings = {
        "MLFLOW_CARBON_GATE_POLICY": str(policy),
        "MLFLOW_CARBON_GATE_LEDGER": str(folder / "ledger.jsonl"),
        "MLFLOW_CARBON_GATE_DEADLINE_S": "2",
    }
    with running_server(folder, *options, **settings) as running:
        yield Server(running.url, folder, policy, running.log)


@pytest.fixture
def api(server: Server) -> Api:
    """Requests, with a policy that is there."""
    server.policy.write_text(policy_files.REVIEWED)
    return Api(server.url)


def test_a_server_without_its_policy_starts_and_keeps_protected_names_closed_until_it_is_there(
    server: Server,
) -> None:
    api = Api(server.url)
    api.seed("early")
    assert not server.policy.exists()
    for alias in ("champion", "candidate"):
        status, message = api.promote("early", alias=alias)
        assert status == 403
        assert "the gate's policy cannot be read" in message
        assert str(server.policy) in message
    broken = policy_files.REVIEWED.replace("assert:", "asert:", 1).replace("high", "hihg", 1)
    server.policy.write_text(broken)
    status, message = api.promote("early")
    assert (status, "faults, the first: later.yaml:" in message) == (403, True)
    assert "mlflow-carbon policy check shows all faults" in message
    checked = CliRunner().invoke(policy_command, ["check", str(server.policy)])
    assert "neither 'assert' nor 'attest'" in checked.stderr
    assert "'hihg'" in checked.stderr
    server.policy.write_text(policy_files.REVIEWED)
    assert api.promote("early") == (200, "")


def test_on_a_full_disk_nothing_is_promoted_and_the_message_says_why(
    server: Server, api: Api
) -> None:
    """/dev/full: every write fails with "no space left on device"."""
    api.seed("full")
    ledger = server.folder / "ledger.jsonl"
    kept = ledger.rename(server.folder / "kept.jsonl")
    ledger.symlink_to(Path("/dev/full"))
    try:
        status, message = api.promote("full")
        assert status == 403
        assert "GATE-LEDGER" in message
        assert "No space left on device" in message
        assert api.aliases("full") == {}
        assert api.promote("full", alias="candidate") == (200, "")
    finally:
        ledger.unlink()
        kept.rename(ledger)
    assert api.promote("full") == (200, "")


def test_a_tracking_store_that_does_not_answer_keeps_protected_names_closed(
    server: Server, api: Api
) -> None:
    api.seed("slow")
    with closing(
        sqlite3.connect(server.folder / "mlflow.db", isolation_level=None, check_same_thread=False)
    ) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        release = threading.Timer(6, holder.rollback)  # so that the waiting thread comes to an end
        release.start()
        status, message = api.promote("slow")
        release.join()
    assert (status, "could not be read within 2 seconds" in message) == (403, True)
    assert api.promote("slow") == (200, "")


def test_a_tracking_store_that_is_broken_keeps_protected_names_closed(
    server: Server, api: Api
) -> None:
    api.seed("down")
    with closing(sqlite3.connect(server.folder / "mlflow.db")) as broken:
        broken.execute("ALTER TABLE latest_metrics RENAME TO gone")
        try:
            status, message = api.promote("down")
            assert (status, "The evidence could not be read" in message) == (403, True)
            assert api.promote("down", alias="candidate") == (200, "")
        finally:
            broken.execute("ALTER TABLE gone RENAME TO latest_metrics")
    assert api.promote("down") == (200, "")
