"""Signed verdicts and statements over real HTTP: replayed, expired or altered ones open nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from mlflow_carbon.cli.main import cli
from mlflow_carbon.schema import RegistryTag
from tests.gate import policy_files
from tests.gate.conftest import Api, Server, running_server

BY_VERDICT = policy_files.REVIEWED.replace(
    "  blocks_at: high\n", "  blocks_at: high\n  verdict_max_age_hours: 24\n"
)
STATEMENT = f"{RegistryTag.ATTESTATION_PREFIX}use-reviewed"
BY_STATEMENT = policy_files.REVIEWED.replace(
    "assert: {version_tag: review, equals: passed}",
    "attest: {statement: use-reviewed, asks: I have looked at the use., signed: true}",
).replace('"The review says {version_tag:review}."', '"Nobody reviewed the use."')


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("signed")
    with running_server(
        folder, "--workers", "1", MLFLOW_CARBON_TRUSTED_KEYS=str(folder / "trusted.yaml")
    ) as server:
        yield server


@pytest.fixture
def api(running: Server, monkeypatch: pytest.MonkeyPatch) -> Api:
    """Requests to the server, whose list of trusted keys is ours too."""
    monkeypatch.setenv("MLFLOW_CARBON_TRUSTED_KEYS", str(running.folder / "trusted.yaml"))
    return Api(running.url)


def generate(use: str) -> None:
    """A trusted key of ana's, called as what it is for."""
    call("keys", "generate", use, "--owner", "ana", "--use", use)


def call(*words: str) -> None:
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output


def held(api: Api, name: str, key: str) -> str:
    return str({tag["key"]: tag["value"] for tag in api.version(name)["tags"]}[key])


def altered(text: str) -> str:
    envelope: dict[str, Any] = json.loads(text)
    envelope["signatures"][0]["sig"] = "A" * 86 + "=="
    return json.dumps(envelope)


def refused(api: Api, name: str, words: str) -> None:
    status, message = api.promote(name)
    assert (status, words in message) == (403, True), message
    assert api.aliases(name) == {}


def test_a_verdict_counts_for_its_version_unaltered_and_while_its_key_is_valid(
    api: Api, running: Server
) -> None:
    generate("audit")
    running.policy.write_text(BY_VERDICT)
    for name in ("audited", "another"):
        api.seed(name)
    refused(api, "audited", "gate verdict models:/audited/1 --key KEY")
    sign = ("gate", "verdict", "models:/audited/1", "--policy", str(running.policy))
    call(*sign, "--key", "audit", "--store", api.url)
    signed = held(api, "audited", RegistryTag.VERDICT)
    api.tag("another", "1", RegistryTag.VERDICT, signed)
    refused(api, "another", "it is about another version (models:/audited/1)")
    api.tag("audited", "1", RegistryTag.VERDICT, altered(signed))
    refused(api, "audited", "its signature is not one of the key audit")
    api.tag("audited", "1", RegistryTag.VERDICT, signed)
    assert api.promote("audited") == (200, "")
    body = {"name": "audited", "alias": "champion"}
    assert api.call("DELETE", "registered-models/alias", body)[0] == 200
    call("keys", "rotate", "audit")  # what ends the old key
    refused(api, "audited", "the key audit expired on")


def test_a_signed_statement_counts_for_its_version_unaltered_and_while_its_key_is_valid(
    api: Api, running: Server
) -> None:
    generate("attestation")
    running.policy.write_text(BY_STATEMENT)
    for name in ("stated", "elsewhere"):
        api.seed(name)
    refused(api, "stated", "Needs the attestation 'use-reviewed': nobody has made it")
    said = ("--by", "ana", "--role", "owner", "--reason", "Read it.", "--key", "attestation")
    model = ("--model", "models:/stated/1", "--store", api.url)
    call("attest", "statement", "use-reviewed", *model, *said)
    signed = held(api, "stated", STATEMENT)
    api.tag("elsewhere", "1", STATEMENT, signed)
    refused(api, "elsewhere", "nobody has made it")
    api.tag("stated", "1", STATEMENT, altered(signed))
    refused(api, "stated", "nobody has made it")
    api.tag("stated", "1", STATEMENT, signed)
    assert api.promote("stated") == (200, "")
    body = {"name": "stated", "alias": "champion"}
    assert api.call("DELETE", "registered-models/alias", body)[0] == 200
    call("keys", "rotate", "attestation")
    refused(api, "stated", "the one of ana expired on")
    api.seed("stated")  # the same name and files again are not the version that was stated about
    api.tag("stated", "2", STATEMENT, signed)
    assert api.promote("stated", "2")[0] == 403
