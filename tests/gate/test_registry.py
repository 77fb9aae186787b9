"""The gate over a store that this process opens itself (no server)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking._model_registry.utils import _get_store

from mlflow_carbon.gate.plugin import arm
from tests.gate import policy_files
from tests.gate.conftest import seed

PROMPT = "mlflow.prompt.is_prompt"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return policy_files.write(tmp_path)


@pytest.fixture
def client(
    open_store: Callable[[], str], policy: Path, monkeypatch: pytest.MonkeyPatch
) -> MlflowClient:
    """A client of a process that has the gate's setting."""
    monkeypatch.setenv("MLFLOW_CARBON_GATE_POLICY", str(policy))
    arm()
    uri = open_store()
    return MlflowClient(uri, uri)


def refused(call: Callable[[], object]) -> MlflowException:
    with pytest.raises(MlflowException) as caught:
        call()
    assert caught.value.error_code == "PERMISSION_DENIED", caught.value
    return caught.value


def test_the_store_stays_what_it_is(client: MlflowClient) -> None:
    store = _get_store(client._registry_uri)
    assert isinstance(store, SqlAlchemyStore)
    assert type(store).__name__ == "GuardedSqlAlchemyStore"


def test_without_the_setting_nothing_is_guarded(open_store: Callable[[], str]) -> None:
    arm()
    uri = open_store()
    assert type(_get_store(uri)) is SqlAlchemyStore
    client = MlflowClient(uri, uri)
    seed(client, "credit", passes=False)
    client.set_registered_model_alias("credit", "champion", "1")


def test_a_version_that_passes_becomes_champion(client: MlflowClient) -> None:
    seed(client, "credit")
    client.set_registered_model_alias("credit", "champion", "1")
    assert client.get_model_version_by_alias("credit", "champion").version == 1


def test_a_refusal_says_what_which_rule_how_to_fix_and_where_to_look(client: MlflowClient) -> None:
    seed(client, "credit", passes=False)
    error = refused(lambda: client.set_registered_model_alias("credit", "champion", "1"))
    assert error.message.splitlines() == [
        "Alias 'champion' for 'credit' version 1 is refused by policy test-gate 1.0.0.",
        "1. REV-001 (high, no evidence): The version was reviewed: nothing is on record "
        "(version_tag review). "
        "To fix: Set the version tag review to passed after the review.",
        "All reasons and remedies: mlflow-carbon gate check models:/credit/1",
    ]
    assert error.json_kwargs["policy"] == "test-gate 1.0.0"
    assert [violation["rule"] for violation in error.json_kwargs["violations"]] == ["REV-001"]
    assert client.get_registered_model("credit").aliases == {}


def test_a_refusal_is_at_most_five_lines_however_hostile_the_evidence(client: MlflowClient) -> None:
    seed(client, "credit")
    client.set_model_version_tag("credit", "1", "review", "no\n\x1b[31m" + "word " * 900)
    client.create_registered_model("other")
    client.create_model_version("other", "s3://bucket/model")
    for name in ("credit", "other"):
        message = refused(
            lambda name=name: client.set_registered_model_alias(name, "champion", "1")
        ).message
        assert len(message.splitlines()) <= 5
        assert "\x1b" not in message
        assert all(len(line) <= 320 for line in message.splitlines())
        assert "To fix: " in message


def test_a_refusal_sends_people_to_the_page_that_the_policy_names(
    client: MlflowClient, policy: Path
) -> None:
    address = "https://ai.example.org/{model}?version={version}"
    text = policy_files.REVIEWED.replace("blocks_at", f'link: "{address}"\n  blocks_at')
    policy.write_text(text)
    seed(client, "credit & {version}", passes=False)
    error = refused(
        lambda: client.set_registered_model_alias("credit & {version}", "champion", "1")
    )
    page = "https://ai.example.org/credit%20%26%20%7Bversion%7D?version=1"
    assert error.message.splitlines()[-1] == f"All reasons and remedies: {page}"
    assert error.json_kwargs["link"] == page
    policy.write_text(text.replace("https://", "javascript:"))
    error = refused(
        lambda: client.set_registered_model_alias("credit & {version}", "champion", "1")
    )
    assert "the gate's policy cannot be read" in error.message


@pytest.mark.parametrize(
    "alias", ["Champion", "PROD-eu", "champion\n", "\N{CYRILLIC SMALL LETTER ES}hampion"]
)
def test_no_spelling_of_a_protected_alias_is_open(client: MlflowClient, alias: str) -> None:
    seed(client, "credit", passes=False)
    refused(lambda: client.set_registered_model_alias("credit", alias, "1"))


def test_other_aliases_stay_open(client: MlflowClient) -> None:
    seed(client, "credit", passes=False)
    client.set_registered_model_alias("credit", "candidate", "1")


@pytest.mark.filterwarnings("ignore:.*transition_model_version_stage:FutureWarning")
def test_stages_are_gated_in_any_case_and_demotion_is_not(client: MlflowClient) -> None:
    seed(client, "credit", passes=False)
    for stage in ("Production", "production"):
        refused(lambda stage=stage: client.transition_model_version_stage("credit", "1", stage))
    client.transition_model_version_stage("credit", "1", "Staging")
    client.transition_model_version_stage("credit", "1", "Archived")


def test_only_copies_of_passing_versions_enter_a_protected_model(client: MlflowClient) -> None:
    bad, good = seed(client, "bad", passes=False), seed(client, "good")
    client.create_registered_model("prod.credit")
    refused(lambda: client.create_model_version("prod.credit", "models:/bad/1", bad.run_id))
    direct = refused(
        lambda: client.create_model_version(
            "prod.credit", f"runs:/{good.run_id}/model", good.run_id
        )
    )
    assert "GATE-COPY" in direct.message
    with pytest.raises(MlflowException, match="REV-001"):
        client.copy_model_version("models:/bad/1", "prod.credit")
    assert client.copy_model_version("models:/good/1", "prod.credit").version == 1


def test_a_source_that_can_change_its_meaning_is_no_source(client: MlflowClient) -> None:
    seed(client, "good")
    client.set_registered_model_alias("good", "candidate", "1")
    client.create_registered_model("prod.credit")
    refused(lambda: client.create_model_version("prod.credit", "models:/good@candidate"))


def test_a_rename_does_not_bring_a_model_behind_a_protected_name(client: MlflowClient) -> None:
    seed(client, "credit")
    message = refused(lambda: client.rename_registered_model("credit", "PROD.credit")).message
    assert "GATE-RENAME" in message
    client.rename_registered_model("credit", "credit-2")


def test_prompts_are_not_models(client: MlflowClient) -> None:
    mlflow.set_registry_uri(client._registry_uri)
    mlflow.set_tracking_uri(client._registry_uri)
    try:
        client.register_prompt("prod.greeting", "Hello {{name}}")
        client.set_prompt_alias("prod.greeting", "champion", 1)
    finally:
        mlflow.set_registry_uri(None)
        mlflow.set_tracking_uri(None)


def test_calling_a_model_a_prompt_does_not_open_the_gate(client: MlflowClient) -> None:
    seed(client, "credit", passes=False)
    store = _get_store(client._registry_uri)  # as REST would: the client hides prompts
    store.set_model_version_tag("credit", "1", ModelVersionTag(PROMPT, "true"))
    store.set_registered_model_tag("credit", RegisteredModelTag(PROMPT, "true"))
    refused(lambda: store.set_registered_model_alias("credit", "champion", "1"))


def test_a_version_that_does_not_exist_is_not_found_rather_than_refused(
    client: MlflowClient,
) -> None:
    seed(client, "credit")
    with pytest.raises(MlflowException, match="not found") as caught:
        client.set_registered_model_alias("credit", "champion", "7")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_a_deleted_training_run_is_no_evidence(client: MlflowClient) -> None:
    seeded = seed(client, "credit")
    client.delete_run(seeded.run_id)
    message = refused(lambda: client.set_registered_model_alias("credit", "champion", "1")).message
    assert "REV-002 (critical" in message


def test_a_policy_that_cannot_be_read_closes_every_alias_and_says_so(
    client: MlflowClient, policy: Path
) -> None:
    seed(client, "credit")
    policy.write_text(policy_files.REVIEWED.replace("present: true", "presnt: true"))
    for alias in ("champion", "candidate"):
        error = refused(lambda alias=alias: client.set_registered_model_alias("credit", alias, "1"))
        assert "the gate's policy cannot be read" in error.message
        assert "presnt" in error.message
    refused(lambda: client.rename_registered_model("credit", "credit-prod"))
    seed(client, "others")  # training and registering go on


def test_a_policy_that_vanished_closes_the_gate_and_one_that_is_back_opens_it(
    client: MlflowClient, policy: Path
) -> None:
    seed(client, "credit")
    policy.unlink()
    refused(lambda: client.set_registered_model_alias("credit", "champion", "1"))
    policy.write_text(policy_files.REVIEWED)
    client.set_registered_model_alias("credit", "champion", "1")


def test_a_policy_without_a_gate_section_protects_everything_rather_than_nothing(
    client: MlflowClient, policy: Path
) -> None:
    seed(client, "credit")
    head, rest = policy_files.REVIEWED.split("gate:", 1)
    policy.write_text(head + "rules:" + rest.split("rules:", 1)[1])
    message = refused(lambda: client.set_registered_model_alias("credit", "champion", "1")).message
    assert "has no gate section" in message
