from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag

from mlflow_carbon.errors import DataError
from mlflow_carbon.evidence.attestation import from_text, tag_key, to_text
from mlflow_carbon.evidence.model import Attestation
from mlflow_carbon.gate.attest import record_card, record_card_for_all, record_statement
from mlflow_carbon.schema import InputTag as Named
from mlflow_carbon.schema import Tag
from tests.gate.conftest import Seeded, seed

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
SHA = "ab" * 32


def attestation(expires_at: datetime | None = None) -> Attestation:
    return Attestation(
        "use-reviewed", "Ana", "model owner", NOW, expires_at, "Read the card.", "GRC-1"
    )


@pytest.fixture
def client(open_store: Callable[[], str]) -> MlflowClient:
    uri = open_store()
    return MlflowClient(uri, uri)


def use_dataset(client: MlflowClient, seeded: Seeded, name: str, sha256: str) -> None:
    tags = [InputTag(Named.SHA256, sha256)] if sha256 else []
    dataset = Dataset(name, sha256[:8] or "none", "local", "{}")
    client.log_inputs(seeded.run_id, [DatasetInput(dataset, tags)])


def test_a_statement_is_read_back_as_it_was_made(client: MlflowClient) -> None:
    seeded = seed(client, "credit")
    key = record_statement(client, "credit", "1", attestation())
    tags = client.get_model_version("credit", "1").tags
    assert key == "mlflow_carbon.attestation.use-reviewed"
    assert (
        from_text(tags[key], statement="use-reviewed", name=seeded.name, version="1")
        == attestation()
    )


def test_a_statement_about_another_version_is_none_for_this_one() -> None:
    text = to_text(attestation(), "credit", "2")
    answer = from_text(text, statement="use-reviewed", name="credit", version="3")
    assert answer == "it is about 'credit' version '2'"


def test_a_statement_moved_to_another_tag_is_none() -> None:
    text = to_text(attestation(), "credit", "2")
    assert from_text(text, statement="risk-accepted", name="credit", version="2") == (
        "it states 'use-reviewed'"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it cannot be read"),
        ("[]", "it is not a JSON object"),
        ("{}", "it has no model"),
        ("[" * 100_000, "it cannot be read"),
    ],
)
def test_a_tag_that_is_no_attestation_says_why(text: str, reason: str) -> None:
    answer = from_text(text, statement="use-reviewed", name="credit", version="1")
    assert isinstance(answer, str)
    assert answer.startswith(reason)


@pytest.mark.parametrize("field", ["by", "role", "reason"])
def test_a_statement_by_nobody_is_none(field: str) -> None:
    record = json.loads(to_text(attestation(), "credit", "1")) | {field: " "}
    answer = from_text(json.dumps(record), statement="use-reviewed", name="credit", version="1")
    assert answer == f"it cannot be read: '{field}' says nothing"


def test_a_moment_without_a_time_zone_is_not_guessed() -> None:
    record = json.loads(to_text(attestation(), "credit", "1")) | {"made_at": "2026-11-23T12:00:00"}
    answer = from_text(json.dumps(record), statement="use-reviewed", name="credit", version="1")
    assert answer == "it cannot be read: a moment has no time zone"


@settings(deadline=None)
@given(st.text(min_size=1).filter(str.strip), st.text())
def test_any_words_survive_the_way_into_the_tag_and_back(words: str, reference: str) -> None:
    made = Attestation("use-reviewed", words, words, NOW, NOW + timedelta(days=1), words, reference)
    text = to_text(made, "credit", "1")
    assert from_text(text, statement="use-reviewed", name="credit", version="1") == made


@settings(deadline=None)
@given(st.text())
def test_no_text_in_the_tag_makes_reading_fail(text: str) -> None:
    assert isinstance(from_text(text, statement="s", name="credit", version="1"), str)


@pytest.mark.parametrize("name", ["", "Use", "a b", "../x", "é", "a" * 101, "-a"])
def test_a_statement_has_a_plain_name(name: str) -> None:
    with pytest.raises(DataError, match="cannot name a statement"):
        tag_key(name)


def test_a_statement_that_is_over_before_it_is_made_is_refused(client: MlflowClient) -> None:
    seed(client, "credit")
    with pytest.raises(DataError, match="expires on 2026-11-22, which is past"):
        record_statement(client, "credit", "1", attestation(NOW - timedelta(days=1)))
    assert "mlflow_carbon.attestation.use-reviewed" not in (
        client.get_model_version("credit", "1").tags
    )


def test_a_card_goes_to_the_run_that_used_the_content(client: MlflowClient) -> None:
    seeded = seed(client, "credit")
    use_dataset(client, seeded, "train", SHA)
    card = {
        "name": "train",
        "license": "CC-BY-4.0",
        "declared_by": "Ana",
        "sha256": SHA,
        "origin": "",
    }
    key = record_card(client, seeded.run_id, card, NOW)
    assert key == Tag.CARD_PREFIX + SHA[:16]
    assert json.loads(client.get_run(seeded.run_id).data.tags[key]) == {
        "name": "train",
        "license": "CC-BY-4.0",
        "declared_by": "Ana",
        "sha256": SHA,
        "declared_at": "2026-11-23T12:00:00+00:00",
    }


def test_a_card_about_other_content_is_refused_and_says_what_was_used(client: MlflowClient) -> None:
    seeded = seed(client, "credit")
    use_dataset(client, seeded, "train", SHA)
    with pytest.raises(DataError, match=rf"did not use. It used 'train' \({SHA[:16]}\)"):
        record_card(client, seeded.run_id, {"name": "train", "sha256": "cd" * 32}, NOW)


def test_a_card_without_a_hash_goes_by_the_name(client: MlflowClient) -> None:
    seeded = seed(client, "credit")
    use_dataset(client, seeded, "train", SHA)
    assert record_card(client, seeded.run_id, {"name": "train"}, NOW).endswith(SHA[:16])


def test_a_card_is_not_guessed_onto_one_of_two_contents(client: MlflowClient) -> None:
    seeded = seed(client, "credit")
    use_dataset(client, seeded, "train", SHA)
    use_dataset(client, seeded, "train", "cd" * 32)
    with pytest.raises(DataError, match="several contents under the name 'train'"):
        record_card(client, seeded.run_id, {"name": "train"}, NOW)


def test_a_dataset_without_a_fingerprint_takes_no_card(client: MlflowClient) -> None:
    seeded = seed(client, "credit")
    use_dataset(client, seeded, "train", "")
    with pytest.raises(DataError, match="no fingerprinted content"):
        record_card(client, seeded.run_id, {"name": "train"}, NOW)


def test_one_card_describes_all_splits_of_a_data_set_when_told_so(client: MlflowClient) -> None:
    seeded = seed(client, "credit")
    for name, sha256 in (("train", SHA), ("test", "cd" * 32), ("unread", "")):
        use_dataset(client, seeded, name, sha256)
    keys = record_card_for_all(client, seeded.run_id, {"name": "Credit", "license": "MIT"}, NOW)
    assert {key.removeprefix(Tag.CARD_PREFIX) for key in keys} == {SHA[:16], "cd" * 8}
    tags = client.get_run(seeded.run_id).data.tags
    assert {json.loads(tags[key])["license"] for key in keys} == {"MIT"}


def test_a_card_tied_to_one_content_cannot_describe_all(client: MlflowClient) -> None:
    seeded = seed(client, "credit")
    use_dataset(client, seeded, "train", SHA)
    with pytest.raises(DataError, match="Leave out --all-inputs"):
        record_card_for_all(client, seeded.run_id, {"name": "train", "sha256": SHA}, NOW)
