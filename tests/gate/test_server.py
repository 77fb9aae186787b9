"""The gate in real ``mlflow server`` processes of every kind; the clients here have no gate of their own."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.tracking._model_registry.registry import ModelRegistryStoreRegistry

from mlflow_carbon.cli import doctor
from mlflow_carbon.gate.plugin import arm
from tests.gate import policy_files
from tests.gate.conftest import HAS_WORKSPACES, Api, Server, running_server, seed

PREFIXES = ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow")
KINDS = ("server", "auth_server", "gunicorn_server")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[Server, Api]:
    """A server of each kind, and requests to it as somebody who may manage everything."""
    running: Server = request.getfixturevalue(request.param)
    return running, Api(running.url, "ana" if request.param == "auth_server" else "")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_route_that_promotes_is_refused_with_403_in_every_kind_of_server(
    kind: tuple[Server, Api], prefix: str
) -> None:
    running, api = kind
    name = f"routes-{prefix.strip('/').split('/')[0]}"
    seeded = api.seed(name, passes=False)
    protected = f"prod.{name}"
    api.post("registered-models/create", {"name": protected})
    attempts = {
        "registered-models/alias": {"name": name, "alias": "champion", "version": "1"},
        "model-versions/transition-stage": {
            "name": name,
            "version": "1",
            "stage": "production",
            "archive_existing_versions": False,
        },
        "model-versions/create": {
            "name": protected,
            "source": f"models:/{name}/1",
            "run_id": seeded.run_id,
        },
        "registered-models/rename": {"name": name, "new_name": f"Prod.{name}-2"},
    }
    for route, body in attempts.items():
        status, answer = Api(api.url, api.user, prefix).call("POST", route, body)
        assert (status, answer["error_code"]) == (403, "PERMISSION_DENIED"), (route, answer)
        assert answer["policy"] == "test-gate 1.0.0"
        assert answer["violations"][0]["rule"]
        assert len(answer["message"].splitlines()) <= 5
    last = running.ledger.read().entries[-1].said
    assert last["route"].endswith(f"{prefix}/registered-models/rename")
    assert (last["by"], last["identity"]) == (
        (api.user, "proven") if api.user else ("", "not proven")
    )


def test_evidence_opens_the_gate_in_every_kind_of_server(kind: tuple[Server, Api]) -> None:
    _, api = kind
    api.seed("opens", passes=False)
    assert api.promote("opens")[0] == 403
    api.tag("opens", "1", "review", "passed")
    assert api.promote("opens") == (200, "")
    assert api.aliases("opens") == {"champion": "1"}


def test_evidence_tags_are_refused_in_both_prefixes(auth_server: Server) -> None:
    api = Api(auth_server.url, "ana")
    api.seed("tags")
    key = {"name": "tags", "version": "1", "key": "mlflow_carbon.verdict"}
    for prefix in PREFIXES:
        asking = Api(api.url, api.user, prefix)
        for method, route in (("POST", "set-tag"), ("DELETE", "delete-tag")):
            body = key | ({"value": "passed"} if method == "POST" else {})
            status, answer = asking.call(method, f"model-versions/{route}", body)
            assert (status, answer["error_code"]) == (403, "PERMISSION_DENIED")


def test_every_workspace_has_the_same_gate(gunicorn_server: Server) -> None:
    api = Api(gunicorn_server.url, workspace="team-b" if HAS_WORKSPACES else "")
    if HAS_WORKSPACES:
        creating = Api(gunicorn_server.url, prefix="/api/3.0/mlflow")
        assert creating.call("POST", "workspaces", {"name": "team-b"})[0] in (200, 201)
    elsewhere = Api(gunicorn_server.url)
    elsewhere.seed("of-the-team")
    found = api.post("experiments/create", {"name": "of the team"})["experiment_id"]
    api.seed("of-the-team-b", passes=False, experiment=found)
    assert api.promote("of-the-team-b")[0] == 403
    api.tag("of-the-team-b", "1", "review", "passed")
    assert api.promote("of-the-team-b") == (200, "")
    last = gunicorn_server.ledger.read().entries[-1].said
    assert (last["outcome"], last["workspace"]) == ("allowed", api.workspace)


@pytest.fixture
def gated_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, Server], MlflowClient]]:
    """A client of the server in a process that has the gate's setting.

    MLflow keeps a client's store per address: the guarded one goes again, as other tests use the address too.
    """
    stores = ModelRegistryStoreRegistry._get_store_with_resolved_uri

    def open_client(policy: str, server: Server) -> MlflowClient:
        file = tmp_path / "of the client.yaml"
        file.write_text(policy)
        monkeypatch.setenv("MLFLOW_CARBON_GATE_POLICY", str(file))
        arm()
        stores.cache_clear()
        return server.client()

    yield open_client
    stores.cache_clear()


def test_a_client_with_the_gate_is_refused_before_it_asks_a_server_without_one(
    tmp_path: Path, gated_client: Callable[[str, Server], MlflowClient]
) -> None:
    """Advice and no security: whoever asks the server without the setting is not refused."""
    with running_server(tmp_path, "--workers", "1", MLFLOW_CARBON_GATE_POLICY="") as ungated:
        seeded = seed(ungated.client(), "early", passes=False)
        ungated.client().create_registered_model("prod.early")
        guarded = gated_client(policy_files.REVIEWED, ungated)
        source = f"runs:/{seeded.run_id}/model"
        calls: dict[str, Callable[[], object]] = {
            "REV-001": lambda: guarded.set_registered_model_alias("early", "champion", "1"),
            "stage 'Production'": lambda: _to_production(guarded, "early"),
            "GATE-COPY": lambda: guarded.create_model_version("prod.early", source, seeded.run_id),
            "GATE-RENAME": lambda: guarded.rename_registered_model("early", "prod.renamed"),
            "GATE-EVIDENCE-TAG": lambda: guarded.set_model_version_tag(
                "early", "1", "mlflow_carbon.registered_by", "bob"
            ),
        }
        for words, call in calls.items():
            with pytest.raises(MlflowException, match=re.compile(words, re.IGNORECASE)) as caught:
                call()
            assert caught.value.error_code == "PERMISSION_DENIED"
        result = CliRunner().invoke(doctor.command, ["--store", ungated.url, "--json"])
        (told,) = (one for one in json.loads(result.stdout) if one["area"] == "gate")
        assert "only as early advice" in told["found"]
        api = Api(ungated.url)
        assert "aliases" not in api.version("early")
        guarded.set_registered_model_alias("early", "candidate", "1")
        assert api.promote("early") == (200, "")
        assert api.aliases("early") == {"candidate": "1", "champion": "1"}
        assert not ungated.ledger.path.exists()
    assert not list(tmp_path.rglob("*ledger*"))


def _to_production(client: MlflowClient, name: str) -> None:
    with warnings.catch_warnings():  # stages are on their way out of MLflow
        warnings.simplefilter("ignore")
        client.transition_model_version_stage(name, "1", "Production")


def test_a_client_with_the_gate_is_no_way_around_the_servers(
    server: Server, gated_client: Callable[[str, Server], MlflowClient]
) -> None:
    seed(server.client(), "late", passes=False)
    client = gated_client(policy_files.REVIEWED.replace("[champion,", "[another,"), server)
    with pytest.raises(MlflowException, match="REV-001"):
        client.set_registered_model_alias("late", "champion", "1")
    assert Api(server.url).aliases("late") == {}


@pytest.mark.parametrize(
    ("name", "words"), [("server", "not proven"), ("auth_server", "asks who is asking")]
)
def test_doctor_says_whether_identities_are_proven(
    request: pytest.FixtureRequest, name: str, words: str
) -> None:
    running: Server = request.getfixturevalue(name)
    result = CliRunner().invoke(doctor.command, ["--store", running.url, "--json"])
    (found,) = (one for one in json.loads(result.stdout) if one["area"] == "identities")
    assert words in found["found"]


def test_prompts_are_not_models(kind: tuple[Server, Api]) -> None:
    _, api = kind
    is_prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    text = {"key": "mlflow.prompt.text", "value": "Hello"}
    api.post("registered-models/create", {"name": "prod.greeting", "tags": is_prompt})
    body = {"name": "prod.greeting", "source": "prompt-template", "tags": [*is_prompt, text]}
    api.post("model-versions/create", body)
    assert api.promote("prod.greeting") == (200, "")


def test_the_python_client_shows_the_reasons(server: Server) -> None:
    seed(server.client(), "client", passes=False)
    with pytest.raises(MlflowException) as caught:
        server.client().set_registered_model_alias("client", "champion", "1")
    assert "REV-001 (high, no evidence)" in str(caught.value)
    assert "mlflow-carbon gate check models:/client/1" in str(caught.value)


def test_a_policy_broken_while_the_server_runs_closes_the_gate_until_it_is_mended(
    server: Server,
) -> None:
    api = Api(server.url)
    api.seed("broken")
    server.policy.write_text("not: [a, policy")
    try:
        status, message = api.promote("broken", alias="any-alias")
        assert (status, "the gate's policy cannot be read" in message) == (403, True)
        api.seed("broken-registers")
    finally:
        server.policy.write_text(policy_files.REVIEWED)
    assert api.promote("broken") == (200, "")
