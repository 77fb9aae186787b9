"""The gate in a real ``mlflow server``; the clients here have no gate of their own."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
from mlflow.exceptions import MlflowException

from tests.gate import policy_files
from tests.gate.conftest import Server, seed

PREFIXES = ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow")


def call(
    server: Server, route: str, body: dict[str, object], method: str = "POST"
) -> tuple[int, dict]:
    """Status and JSON of one raw request, as the UI or curl would send it."""
    request = urllib.request.Request(
        server.url + route,
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_route_that_promotes_is_refused_with_403(server: Server, prefix: str) -> None:
    name = f"routes-{prefix.strip('/').split('/')[0]}"
    seeded = seed(server.client(), name, passes=False)
    protected = f"prod.{name}"
    server.client().create_registered_model(protected)
    attempts: dict[str, dict[str, object]] = {
        "/registered-models/alias": {"name": name, "alias": "champion", "version": "1"},
        "/model-versions/transition-stage": {
            "name": name,
            "version": "1",
            "stage": "production",
            "archive_existing_versions": False,
        },
        "/model-versions/create": {
            "name": protected,
            "source": f"models:/{name}/1",
            "run_id": seeded.run_id,
        },
        "/registered-models/rename": {"name": name, "new_name": f"Prod.{name}-2"},
    }
    for route, body in attempts.items():
        status, answer = call(server, prefix + route, body)
        assert (status, answer["error_code"]) == (403, "PERMISSION_DENIED"), (route, answer)
        assert answer["policy"] == "test-gate 1.0.0"
        assert answer["violations"][0]["rule"]
        assert len(answer["message"].splitlines()) <= 5


def test_the_python_client_shows_the_reasons(server: Server) -> None:
    seed(server.client(), "client", passes=False)
    with pytest.raises(MlflowException) as caught:
        server.client().set_registered_model_alias("client", "champion", "1")
    assert "REV-001 (high, no evidence)" in str(caught.value)
    assert "mlflow-carbon gate check models:/client/1" in str(caught.value)


def test_evidence_opens_the_gate(server: Server) -> None:
    client = server.client()
    seed(client, "opens", passes=False)
    with pytest.raises(MlflowException, match="REV-001"):
        client.set_registered_model_alias("opens", "champion", "1")
    client.set_model_version_tag("opens", "1", "review", "passed")
    client.set_registered_model_alias("opens", "champion", "1")
    assert client.get_model_version_by_alias("opens", "champion").version == "1"


def test_a_policy_broken_while_the_server_runs_closes_the_gate_until_it_is_mended(
    server: Server,
) -> None:
    client = server.client()
    seed(client, "broken")
    server.policy.write_text("not: [a, policy")
    try:
        with pytest.raises(MlflowException, match="the gate's policy cannot be read"):
            client.set_registered_model_alias("broken", "champion", "1")
        seed(client, "broken-registers")
    finally:
        server.policy.write_text(policy_files.REVIEWED)
    client.set_registered_model_alias("broken", "champion", "1")
