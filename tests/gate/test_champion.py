"""Rules that compare a version with the champion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_carbon.gate.plugin import arm
from tests.gate import policy_files
from tests.gate.conftest import seed


@pytest.fixture
def client(
    open_store: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MlflowClient:
    """Version 1 has an accuracy of 0.9, version 2 of 0.8, version 3 of 0.95, version 4 says nothing."""
    policy = policy_files.write(tmp_path, policy_files.REVIEWED + policy_files.NO_WORSE)
    monkeypatch.setenv("MLFLOW_CARBON_GATE_POLICY", str(policy))
    arm()
    uri = open_store()
    client = MlflowClient(uri, uri)
    for accuracy in (0.9, 0.8, 0.95, None):
        seeded = seed(client, "credit")
        if accuracy is not None:
            client.log_metric(seeded.run_id, "accuracy", accuracy)
    return client


def refused(client: MlflowClient, version: str) -> str:
    with pytest.raises(MlflowException) as caught:
        client.set_registered_model_alias("credit", "champion", version)
    return caught.value.message


def test_the_first_champion_has_nobody_to_be_compared_with(client: MlflowClient) -> None:
    client.set_registered_model_alias("credit", "champion", "2")


def test_a_worse_version_does_not_follow_a_better_one(client: MlflowClient) -> None:
    client.set_registered_model_alias("credit", "champion", "1")
    assert "REV-004 (critical, failed): Accuracy is 0.8; the champion has 0.9" in refused(
        client, "2"
    )
    client.set_registered_model_alias("credit", "champion", "3")


def test_a_version_that_was_not_measured_is_not_taken_for_as_good(client: MlflowClient) -> None:
    client.set_registered_model_alias("credit", "champion", "1")
    assert "REV-004 (critical, no evidence)" in refused(client, "4")


def test_taking_the_alias_away_first_does_not_do_away_with_the_comparison(
    client: MlflowClient,
) -> None:
    client.set_registered_model_alias("credit", "champion", "1")
    client.delete_registered_model_alias("credit", "champion")
    assert "REV-004" in refused(client, "2")
    client.set_registered_model_alias("credit", "champion", "1")


def test_a_deleted_champion_is_compared_with_no_more(client: MlflowClient) -> None:
    client.set_registered_model_alias("credit", "champion", "1")
    client.delete_model_version("credit", "1")
    client.set_registered_model_alias("credit", "champion", "2")
