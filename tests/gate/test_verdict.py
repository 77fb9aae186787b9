"""A gate that goes by an audit's signed verdict: missing, stale, forged or about something else, it stays closed."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

from mlflow_carbon.cli import keys as keys_command
from mlflow_carbon.cli._gate_verdict import verdict as verdict_command
from mlflow_carbon.gate import verdict
from mlflow_carbon.gate.judge import Sources, Verdict, judge
from mlflow_carbon.policy.load import load_pack
from mlflow_carbon.schema import RegistryTag
from tests.gate import policy_files
from tests.gate.conftest import seed

BY_VERDICT = policy_files.REVIEWED.replace("  blocks_at: high\n", "  blocks_at: high\n  verdict_max_age_hours: 24\n") + policy_files.NO_WORSE  # fmt: skip


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return policy_files.write(tmp_path, BY_VERDICT)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('verdict') / 'mlflow.db'}"


@pytest.fixture
def client(store: str) -> MlflowClient:
    return MlflowClient(store, store)


@pytest.fixture(autouse=True)
def audit_key() -> None:
    words = ["generate", "audit", "--owner", "auditor", "--use", "audit"]
    assert CliRunner().invoke(keys_command.command, words).exit_code == 0


def sign(store: str, policy: Path, model: str, key: str = "audit") -> Result:
    words = [model, "--policy", str(policy), "--key", key, "--store", store]
    return CliRunner().invoke(verdict_command, words)


def ask(client: MlflowClient, policy: Path, name: str, hours: float = 0.1) -> Verdict:
    now = datetime.now(timezone.utc) + timedelta(hours=hours)
    return judge(load_pack(str(policy)), Sources(client, client), name, "1", now)


def reason(client: MlflowClient, policy: Path, name: str, hours: float = 0.1) -> str:
    (violation,) = ask(client, policy, name, hours).violations
    assert violation.rule == verdict.RULE
    return violation.message


def test_without_a_verdict_the_gate_is_closed(client: MlflowClient, policy: Path) -> None:
    seed(client, "none")
    assert "No verdict" in reason(client, policy, "none")


def test_a_fresh_verdict_opens_the_gate_and_an_old_one_does_not(
    client: MlflowClient, store: str, policy: Path
) -> None:
    seed(client, "fresh")
    assert sign(store, policy, "models:/fresh/1").exit_code == 0
    assert ask(client, policy, "fresh").outcome == "allowed"
    assert "older than 24 hours" in reason(client, policy, "fresh", hours=25)
    assert "in the future" in reason(client, policy, "fresh", hours=-1)


def test_a_refusal_is_signed_too_and_names_what_is_in_the_way(
    client: MlflowClient, store: str, policy: Path
) -> None:
    seed(client, "poor", passes=False)
    result = sign(store, policy, "models:/poor/1")
    assert result.exit_code == 1
    assert "REV-001" in result.output
    found = ask(client, policy, "poor").violations
    assert [one.rule for one in found] == ["REV-001"]
    assert found[0].fix == "Set the version tag review to passed after the review."


def test_evidence_changed_after_the_verdict_closes_the_gate(
    client: MlflowClient, store: str, policy: Path
) -> None:
    seeded = seed(client, "edited")
    sign(store, policy, "models:/edited/1")
    client.set_model_version_tag("edited", "1", "mlflow_carbon.attestation.x", "{}")
    assert ask(client, policy, "edited").outcome == "allowed"
    client.log_metric(seeded.run_id, "accuracy", 0.99)
    assert "evidence was changed since" in reason(client, policy, "edited")


def test_a_verdict_of_another_policy_or_for_another_version_does_not_count(
    client: MlflowClient, store: str, policy: Path
) -> None:
    seed(client, "one")
    seed(client, "two")
    sign(store, policy, "models:/one/1")
    held = client.get_model_version("one", "1").tags[RegistryTag.VERDICT]
    client.set_model_version_tag("two", "1", RegistryTag.VERDICT, held)
    assert "about another version (models:/one/1)" in reason(client, policy, "two")
    policy.write_text(BY_VERDICT.replace("equals: passed", "one_of: [passed, pending]"))
    assert "another text of the policy" in reason(client, policy, "one")


def test_a_forged_verdict_does_not_count(
    client: MlflowClient, store: str, policy: Path, tmp_path: Path
) -> None:
    seed(client, "forged", passes=False)
    sign(store, policy, "models:/forged/1")
    envelope = json.loads(client.get_model_version("forged", "1").tags[RegistryTag.VERDICT])
    envelope["signatures"][0]["sig"] = "A" * 86 + "=="
    client.set_model_version_tag("forged", "1", RegistryTag.VERDICT, json.dumps(envelope))
    assert "its signature is not one of the key audit" in reason(client, policy, "forged")
    client.set_model_version_tag("forged", "1", RegistryTag.VERDICT, '{"outcome": "allowed"}')
    assert "no DSSE envelope" in reason(client, policy, "forged")


def test_a_key_for_statements_or_a_revoked_key_gives_no_verdict(
    client: MlflowClient, store: str, policy: Path
) -> None:
    seed(client, "keys")
    words = ["generate", "ana", "--owner", "ana", "--use", "attestation"]
    CliRunner().invoke(keys_command.command, words)
    sign(store, policy, "models:/keys/1", key="ana")
    assert "is for attestation, not for audit" in reason(client, policy, "keys")
    sign(store, policy, "models:/keys/1")
    CliRunner().invoke(keys_command.command, ["revoke", "audit", "--because", "stolen"])
    assert "was revoked" in reason(client, policy, "keys")


def test_another_champion_since_the_verdict_closes_the_gate(
    client: MlflowClient, store: str, policy: Path
) -> None:
    seed(client, "rivals")
    for version in ("2", "3"):
        seed(client, "rivals")
        client.log_metric(str(client.get_model_version("rivals", version).run_id), "accuracy", 0.8)
    client.log_metric(str(client.get_model_version("rivals", "1").run_id), "accuracy", 0.9)
    client.set_registered_model_alias("rivals", "champion", "2")
    sign(store, policy, "models:/rivals/1")
    assert ask(client, policy, "rivals").outcome == "allowed"
    client.set_registered_model_alias("rivals", "champion", "3")
    assert "compared with are others" in reason(client, policy, "rivals")
    client.set_registered_model_alias("rivals", "champion", "2")
    client.set_registered_model_alias("rivals", "champion", "1")
    assert ask(client, policy, "rivals").outcome == "allowed"
