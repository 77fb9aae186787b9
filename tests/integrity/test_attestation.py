"""A signed statement counts for one version, in its signer's name, as long as it and its key hold."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

from mlflow_carbon.audit.run import run_audit
from mlflow_carbon.audit.select import AuditRequest
from mlflow_carbon.cli import attest as attest_command
from mlflow_carbon.cli import keys as keys_command
from mlflow_carbon.cli._integrity import attestations
from mlflow_carbon.errors import DataError
from mlflow_carbon.evidence.attestation import in_tags, read_tag
from mlflow_carbon.evidence.lineage import read_version
from mlflow_carbon.evidence.model import Attestation
from mlflow_carbon.policy.evaluate import evaluate
from mlflow_carbon.policy.load import load_pack
from mlflow_carbon.policy.model import Rule, State
from mlflow_carbon.settings import keys_folder, trusted_keys
from mlflow_carbon.signing import trust

STATEMENT = "intended-use-reviewed"
TAG = f"mlflow_carbon.attestation.{STATEMENT}"
NOW = datetime.now(timezone.utc) + timedelta(hours=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('attested') / 'mlflow.db'}"


@pytest.fixture
def client(store: str) -> MlflowClient:
    """Two fresh versions of the model ``credit``."""
    client = MlflowClient(store, store)
    if client.search_registered_models():
        client.delete_registered_model("credit")
    client.create_registered_model("credit")
    experiment = client.get_experiment_by_name("Default")
    assert experiment is not None
    for _ in range(2):
        run = client.create_run(experiment.experiment_id)
        client.set_terminated(run.info.run_id)
        client.create_model_version("credit", f"runs:/{run.info.run_id}/model", run.info.run_id)
    return client


@pytest.fixture
def rule() -> Rule:
    found = next(rule for rule in load_pack("promotion-gate").rules if rule.id == "REL-004")
    assert found.attest is not None
    return replace(found, attest=replace(found.attest, signed=True))


def generate(name: str, owner: str, use: str = "attestation", days: int = 30) -> None:
    words = ["generate", name, "--owner", owner, "--use", use, "--days", str(days)]
    assert CliRunner().invoke(keys_command.command, words).exit_code == 0


def attest(store: str, *more: str, by: str = "ana", version: str = "1") -> Result:
    words = ["statement", STATEMENT, "--model", f"models:/credit/{version}", "--store", store]
    words += ["--by", by, "--role", "owner", "--reason", "Read the card."]
    return CliRunner().invoke(attest_command.command, [*words, *more])


def answer(client: MlflowClient, rule: Rule, at: datetime = NOW, version: str = "1") -> State:
    return evaluate(rule, read_version(client, client, "credit", version), at).state


def fault(client: MlflowClient, version: str = "1") -> str:
    """Why the statement on the version does not count."""
    found = client.get_model_version("credit", version)
    assert in_tags(found) == ()
    said = read_tag(found, TAG)
    assert isinstance(said, str)
    return said


def test_only_a_signed_statement_answers_a_rule_that_asks_for_a_signature(
    store: str, client: MlflowClient, rule: Rule
) -> None:
    generate("ana", "ana")
    assert attest(store).exit_code == 0
    assert answer(client, rule) is State.NEEDS_ATTESTATION
    message = evaluate(rule, read_version(client, client, "credit", "1"), NOW).message
    assert "is not signed with a trusted key" in message
    assert attest(store, "--key", "ana").exit_code == 0
    assert answer(client, rule) is State.PASS


def test_nobody_signs_in_the_name_of_another(store: str, client: MlflowClient) -> None:
    generate("eve", "eve")
    result = attest(store, "--key", "eve", by="ana")
    assert isinstance(result.exception, DataError)
    assert "in the name of 'ana', signed with a key of 'eve'" in str(result.exception)
    assert client.get_model_version("credit", "1").tags == {}


def test_a_key_for_another_use_signs_no_statement(store: str, client: MlflowClient) -> None:
    generate("ci", "ana", use="audit")
    assert "is for audit, not for attestation" in str(attest(store, "--key", "ci").exception)


def test_a_statement_copied_to_another_version_does_not_count(
    store: str, client: MlflowClient, rule: Rule
) -> None:
    generate("ana", "ana")
    attest(store, "--key", "ana")
    text = client.get_model_version("credit", "1").tags[TAG]
    client.set_model_version_tag("credit", "2", TAG, text)
    assert "another version (models:/credit/1)" in fault(client, "2")
    assert answer(client, rule, version="2") is State.NEEDS_ATTESTATION


def test_a_statement_does_not_count_for_a_model_made_again_under_its_name(
    store: str, client: MlflowClient
) -> None:
    generate("ana", "ana")
    attest(store, "--key", "ana")
    before = client.get_model_version("credit", "1")
    client.delete_registered_model("credit")
    client.create_registered_model("credit")
    client.create_model_version("credit", "runs:/" + "0" * 32 + "/model")
    client.set_model_version_tag("credit", "1", TAG, before.tags[TAG])
    assert "made again since" in fault(client)


def test_a_forged_statement_does_not_count(store: str, client: MlflowClient) -> None:
    generate("ana", "ana")
    attest(store, "--key", "ana")
    text = client.get_model_version("credit", "1").tags[TAG]
    envelope = json.loads(text)
    envelope["signatures"][0]["sig"] = "A" * 86 + "=="
    client.set_model_version_tag("credit", "1", TAG, json.dumps(envelope))
    assert "signature is not one of the key ana" in fault(client)


def test_a_statement_under_another_name_does_not_count(store: str, client: MlflowClient) -> None:
    generate("ana", "ana")
    attest(store, "--key", "ana")
    text = client.get_model_version("credit", "1").tags[TAG]
    client.delete_model_version_tag("credit", "1", TAG)
    client.set_model_version_tag("credit", "1", "mlflow_carbon.attestation.risk-accepted", text)
    assert in_tags(client.get_model_version("credit", "1")) == ()


def test_a_statement_lapses_with_its_key(store: str, client: MlflowClient, rule: Rule) -> None:
    generate("ana", "ana", days=30)
    attest(store, "--key", "ana", "--expires", "2099-12-31")
    assert answer(client, rule, NOW + timedelta(days=29)) is State.PASS
    assert answer(client, rule, NOW + timedelta(days=31)) is State.NEEDS_ATTESTATION


def test_a_statement_of_a_revoked_key_does_not_count(store: str, client: MlflowClient) -> None:
    generate("ana", "ana")
    attest(store, "--key", "ana")
    revoke = ["revoke", "ana", "--because", "left the company"]
    assert CliRunner().invoke(keys_command.command, revoke).exit_code == 0
    assert "left the company" in fault(client)
    words = ["show", "models:/credit/1", "--store", store]
    assert "does not count" in CliRunner().invoke(attest_command.command, words).output


def test_a_statement_signed_after_its_key_expired_does_not_count(
    store: str, client: MlflowClient
) -> None:
    generate("ana", "ana")
    known = trust.load(trusted_keys())
    (key,) = known.keys.values()
    past = replace(key, valid_until=NOW - timedelta(days=1), valid_from=NOW - timedelta(days=9))
    trust.save(trusted_keys(), [past])
    assert "expired on" in str(attest(store, "--key", "ana").exception)


def test_statements_are_read_from_a_file_and_tied_to_their_version(
    store: str, client: MlflowClient, tmp_path: Path
) -> None:
    generate("ana", "ana")
    file = tmp_path / "statements.jsonl"
    assert "signed by ana" in attest(store, "--key", "ana", "--out", str(file)).output
    assert client.get_model_version("credit", "1").tags == {}
    given = attestations([file])
    pack = load_pack("promotion-gate")
    request = AuditRequest(store=store, packs=(pack,), attestations=given)
    found = {
        finding.subject.key: finding.state
        for finding in run_audit(request, NOW).findings
        if finding.rule_id == "REL-004"
    }
    assert found == {"credit/1": State.PASS, "credit/2": State.NEEDS_ATTESTATION}


def test_a_file_with_one_statement_that_does_not_count_is_refused_with_its_line(
    store: str, client: MlflowClient, tmp_path: Path
) -> None:
    generate("ana", "ana")
    file = tmp_path / "statements.jsonl"
    attest(store, "--key", "ana", "--out", str(file))
    file.write_text(
        file.read_text() + '{"payload": "e30=", "payloadType": "x", "signatures": []}\n'
    )
    with pytest.raises(DataError, match=r"statements\.jsonl:2: the attestation does not count"):
        attestations([file])


def test_a_statement_in_a_file_is_always_signed(store: str, client: MlflowClient) -> None:
    assert "--out needs --key" in attest(store, "--out", "somewhere").output


def test_a_signed_statement_tells_its_key(store: str, client: MlflowClient) -> None:
    generate("ana", "ana")
    attest(store, "--key", str(keys_folder() / "ana.pem"))
    (made,) = in_tags(client.get_model_version("credit", "1"))
    assert isinstance(made, Attestation)
    assert made.signed_by.startswith("ana (")
