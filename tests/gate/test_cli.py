from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag

from mlflow_carbon.cli import attest, gate
from mlflow_carbon.errors import CarbonError, StoreError
from mlflow_carbon.evidence.lineage import read_version
from mlflow_carbon.schema import InputTag as Named
from tests.gate import policy_files
from tests.gate.conftest import seed


@pytest.fixture
def uri(open_store: Callable[[], str]) -> str:
    return open_store()


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return MlflowClient(uri, uri)


@pytest.fixture
def check(uri: str, tmp_path: Path) -> Callable[..., Result]:
    policy = policy_files.write(tmp_path)

    def run(*arguments: str) -> Result:
        words = ["check", *arguments, "--policy", str(policy), "--store", uri]
        return CliRunner().invoke(gate.command, words, terminal_width=200)

    return run


def test_a_version_that_may_not_be_promoted_is_told_why_and_how_to_fix_it(
    client: MlflowClient, check: Callable[..., Result]
) -> None:
    seed(client, "credit", passes=False)
    result = check("models:/credit/1")
    assert result.exit_code == 1
    assert "May not be promoted: credit version 1, policy test-gate 1.0.0" in result.output
    for words in ("REV-001", "no evidence", "after the review"):
        assert words in result.output
    assert "REV-003" not in result.output  # below the severity that blocks


def test_a_version_that_may_be_promoted_is_exit_code_0(
    client: MlflowClient, check: Callable[..., Result]
) -> None:
    seed(client, "credit")
    client.set_registered_model_alias("credit", "candidate", "1")
    result = check("models:/credit@candidate")
    assert (result.exit_code, result.exception) == (0, None)
    assert "May be promoted: credit version 1" in result.output


def test_json_has_the_decision_the_reasons_and_the_policys_hash(
    client: MlflowClient, check: Callable[..., Result]
) -> None:
    seed(client, "credit", passes=False)
    result = check("models:/credit/1", "--json", "--as-of", "2026-11-23")
    record = json.loads(result.output)
    assert result.exit_code == 1
    assert record["allowed"] is False
    assert record["as_of"] == "2026-11-23T00:00:00+00:00"
    assert len(record["policy"]["sha256"]) == 64
    assert [violation["rule"] for violation in record["violations"]] == ["REV-001"]
    assert {finding["rule"] for finding in record["findings"]} == {"REV-001", "REV-002", "REV-003"}


def test_names_from_the_store_are_never_styling(
    client: MlflowClient, check: Callable[..., Result]
) -> None:
    seed(client, "[red]credit[", passes=False)
    assert "[red]credit[ version 1" in check("models:/[red]credit[/1").output


@pytest.mark.parametrize(
    "text", ["credit/1", "models:/credit", "models:/a/b/1", "models:/credit/x"]
)
def test_what_is_no_version_is_a_usage_error(check: Callable[..., Result], text: str) -> None:
    error = check(text).exception
    assert isinstance(error, CarbonError)
    assert error.exit_code == 2
    assert "Write models:/NAME/3" in str(error)


def test_a_version_that_is_not_there_is_exit_code_4(check: Callable[..., Result]) -> None:
    error = check("models:/credit/1").exception
    assert isinstance(error, StoreError)
    assert "not found" in str(error)


def test_a_statement_goes_on_record(client: MlflowClient, uri: str) -> None:
    seed(client, "credit")
    words = "--model models:/credit/1 --by Ana --role owner --reason Read --expires 2099-01-31"
    result = CliRunner().invoke(
        attest.command, ["statement", "use-reviewed", *words.split(), "--store", uri]
    )
    assert (result.exit_code, result.exception) == (0, None)
    tag = client.get_model_version("credit", "1").tags["mlflow_carbon.attestation.use-reviewed"]
    assert json.loads(tag)["expires_at"] == "2099-01-31T23:59:59+00:00"
    assert "by Ana" in result.output
    read = read_version(client, client, "credit", "1").attestations
    assert [(made.statement, made.by, made.role) for made in read] == [
        ("use-reviewed", "Ana", "owner")
    ]


def test_a_dataset_card_needs_to_know_whose_run(uri: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        attest.command, ["dataset", str(tmp_path / "x.dataset.yaml"), "--store", uri]
    )
    assert result.exit_code == 2
    assert "either --model or --run" in result.output


def test_a_dataset_card_becomes_evidence_of_the_version(
    client: MlflowClient, uri: str, tmp_path: Path
) -> None:
    seeded = seed(client, "credit")
    sha256 = "ab" * 32
    client.log_inputs(
        seeded.run_id,
        [DatasetInput(Dataset("train", "d1", "local", "{}"), [InputTag(Named.SHA256, sha256)])],
    )
    card = tmp_path / "train.dataset.yaml"
    card.write_text(f"name: train\nlicense: MIT\ndeclared_by: Ana\nsha256: {sha256}\n")
    result = CliRunner().invoke(
        attest.command, ["dataset", str(card), "--model", "models:/credit/1", "--store", uri]
    )
    assert (result.exit_code, result.exception) == (0, None)
    (dataset,) = read_version(client, client, "credit", "1").members["datasets"]
    assert dataset.facts["dataset.license"].value == "MIT"
    assert "declared by Ana" in dataset.facts["dataset.license"].read_from
