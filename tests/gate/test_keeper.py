"""The way through the gate, on a store of this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.tracking._model_registry.utils import _get_store

from mlflow_carbon.evidence.ledger import Ledger
from mlflow_carbon.gate.keeper import Keeper, Promotion
from mlflow_carbon.gate.plugin import arm
from tests.gate import policy_files
from tests.gate.conftest import seed


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    path = tmp_path / "gate" / "ledger.jsonl"
    monkeypatch.setenv("MLFLOW_CARBON_GATE_LEDGER", str(path))
    return Ledger(path)


@pytest.fixture
def client(
    open_store: Callable[[], str], tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_CARBON_GATE_POLICY", str(policy_files.write(tmp_path)))
    arm()
    uri = open_store()
    return MlflowClient(uri, uri)


def outcomes(ledger: Ledger) -> list[tuple[str, str]]:
    chain = ledger.read()
    assert chain.faults == ()
    return [(entry.said["outcome"], entry.said["action"]) for entry in chain.entries]


def test_what_was_refused_and_what_was_allowed_is_in_the_ledger(
    client: MlflowClient, ledger: Ledger
) -> None:
    seed(client, "credit", passes=False)
    with pytest.raises(MlflowException, match="REV-001"):
        client.set_registered_model_alias("credit", "champion", "1")
    client.set_model_version_tag("credit", "1", "review", "passed")
    client.set_registered_model_alias("credit", "champion", "1")
    action = "Alias 'champion' for 'credit' version 1"
    assert outcomes(ledger) == [("refused", action), ("allowed", action)]
    refused, allowed = (entry.said for entry in ledger.read().entries)
    assert refused["violations"] == ["REV-001 no_evidence"]
    assert allowed["policy"] == "test-gate 1.0.0"
    assert len(allowed["policy_sha256"]) == 64
    assert (allowed["by"], allowed["identity"]) == ("", "not proven")


def test_what_needs_no_gate_leaves_no_entry(client: MlflowClient, ledger: Ledger) -> None:
    seed(client, "credit", passes=False)
    client.set_registered_model_alias("credit", "candidate", "1")
    assert outcomes(ledger) == []


def test_evidence_that_changes_during_the_promotion_takes_it_back(
    client: MlflowClient, ledger: Ledger, tmp_path: Path
) -> None:
    seed(client, "credit")
    store = _get_store(client._registry_uri)
    keeper = Keeper(str(tmp_path / "gate.yaml"), client.tracking_uri, enforces=True)
    done: list[str] = []

    def write() -> None:
        client.set_model_version_tag("credit", "1", "review", "failed")
        done.append("written")

    promotion = Promotion("A promotion", "credit", "1", write, lambda _: done.append("undone"))
    with pytest.raises(MlflowException, match="REV-001"):
        keeper.promote(store, promotion)
    assert done == ["written", "undone"]
    assert [outcome for outcome, _ in outcomes(ledger)] == ["allowed", "withdrawn"]


def test_a_promotion_that_mlflow_itself_fails_is_entered_as_failed(
    client: MlflowClient, ledger: Ledger
) -> None:
    seed(client, "credit")
    store = _get_store(
        client._registry_uri, client.tracking_uri
    )  # the client would not let it through
    with pytest.raises(MlflowException, match="Invalid alias name"):
        store.set_registered_model_alias("credit", "prod/eu", "1")
    assert [outcome for outcome, _ in outcomes(ledger)] == ["allowed", "failed"]


def test_nothing_is_promoted_that_cannot_be_entered(client: MlflowClient, ledger: Ledger) -> None:
    seed(client, "credit")
    ledger.path.parent.mkdir()
    ledger.path.mkdir()  # a folder where the file should be
    with pytest.raises(MlflowException, match="the ledger cannot be written") as caught:
        client.set_registered_model_alias("credit", "champion", "1")
    assert caught.value.error_code == "PERMISSION_DENIED"
    assert client.get_registered_model("credit").aliases == {}


def test_a_lock_that_cannot_be_taken_keeps_the_gate_closed(
    client: MlflowClient, ledger: Ledger
) -> None:
    seed(client, "credit")
    ledger.path.parent.write_text("a file where the folder should be")
    with pytest.raises(MlflowException, match="GATE-LEDGER"):
        client.set_registered_model_alias("credit", "champion", "1")


def test_files_from_elsewhere_do_not_borrow_a_runs_evidence(client: MlflowClient) -> None:
    good = seed(client, "good")
    home = client.get_run(good.run_id).info.artifact_uri
    for number, (source, passes) in enumerate(
        {
            "/srv/models/other": False,
            "s3://bucket/model": False,
            f"{home}/../../other/artifacts/model": False,
            f"{home}/%2e%2e/other": False,
            f"{home}x/model": False,
            f"{home}/model": True,
        }.items(),
        2,
    ):
        version = client.create_model_version("good", source, good.run_id)
        client.set_model_version_tag("good", version.version, "review", "passed")
        assert str(version.version) == str(number)
        if passes:
            client.set_registered_model_alias("good", "champion", version.version)
        else:
            with pytest.raises(MlflowException, match="GATE-SOURCE"):
                client.set_registered_model_alias("good", "champion", version.version)


def test_evidence_of_a_copied_version_stays_behind(client: MlflowClient) -> None:
    seed(client, "good")
    client.set_model_version_tag("good", "1", "mlflow_carbon.attestation.use-reviewed", "{}")
    copied = client.copy_model_version("models:/good/1", "other")
    assert copied.tags == {"review": "passed"}


@pytest.mark.filterwarnings("ignore:.*stage.*:FutureWarning")
def test_archiving_the_version_before_happens_once_the_new_one_stands(client: MlflowClient) -> None:
    seed(client, "credit")
    seed(client, "credit", passes=False)
    client.transition_model_version_stage("credit", "1", "Production")
    with pytest.raises(MlflowException, match="REV-001"):
        client.transition_model_version_stage(
            "credit", "2", "Production", archive_existing_versions=True
        )
    assert client.get_model_version("credit", "1").current_stage == "Production"
    client.set_model_version_tag("credit", "2", "review", "passed")
    client.transition_model_version_stage(
        "credit", "2", "Production", archive_existing_versions=True
    )
    assert client.get_model_version("credit", "1").current_stage == "Archived"
