"""A statement counts only with a right signature of a key that is trusted for it, then, and not revoked."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from in_toto_attestation.v1.statement import Statement

from mlflow_carbon.signing import keys, statement
from mlflow_carbon.signing.keys import SigningKey
from mlflow_carbon.signing.statement import Kind
from mlflow_carbon.signing.trust import Trust, TrustedKey, Use

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
SUBJECTS = {"report.json": "ab" * 32}


def trusted(key: SigningKey, **changes: object) -> TrustedKey:
    plain = TrustedKey(
        key_id=key.key_id,
        name="ci",
        owner="ana",
        uses=(Use.AUDIT,),
        public=key.public,
        valid_from=NOW - timedelta(days=1),
        valid_until=NOW + timedelta(days=1),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return keys.create(tmp_path / "ci.pem")


@pytest.fixture
def text(key: SigningKey) -> str:
    return statement.sign(Kind.REPORT, SUBJECTS, {"said": "words"}, key, NOW)


def fault(text: str, key: SigningKey, **changes: object) -> str:
    one = trusted(key, **changes)
    signed = statement.read(text, Kind.REPORT, Trust({one.key_id: one}))
    assert bool(signed.fault) == (not signed.predicate)
    return signed.fault


def test_what_was_signed_is_read_back(text: str, key: SigningKey) -> None:
    one = trusted(key)
    signed = statement.read(text, Kind.REPORT, Trust({one.key_id: one}))
    assert (signed.fault, signed.subjects, signed.predicate["said"]) == ("", SUBJECTS, "words")
    assert (signed.key, signed.signed_at) == (one, NOW)


def test_the_payload_is_an_in_toto_statement_to_their_own_library(text: str) -> None:
    payload = base64.b64decode(json.loads(text)["payload"])
    read = Statement.copy_from_pb(json_format.Parse(payload, Statement([], "t", {}).pb.__class__()))
    read.validate()
    assert read.pb.predicate_type == "urn:mlflow-carbon:audit-report:v1"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"valid_until": NOW - timedelta(hours=1)}, "expired on"),
        ({"valid_from": NOW + timedelta(hours=1)}, "is valid from"),
        ({"uses": (Use.EVIDENCE,)}, "is for evidence, not for audit"),
        ({"revoked_at": NOW + timedelta(days=9)}, "was revoked on"),
    ],
)
def test_a_right_signature_of_a_wrong_key_does_not_count(
    text: str, key: SigningKey, changes: dict[str, object], said: str
) -> None:
    assert said in fault(text, key, **changes)


def test_an_unknown_key_is_named(text: str, key: SigningKey) -> None:
    signed = statement.read(text, Kind.REPORT, Trust())
    assert signed.fault == f"the key {key.key_id[:16]} is not among the trusted keys"


def test_a_statement_of_another_kind_is_refused(key: SigningKey) -> None:
    verdict = statement.sign(Kind.VERDICT, SUBJECTS, {}, key, NOW)
    assert fault(verdict, key) == "what was signed is a statement of another kind"


def test_a_changed_payload_is_refused(text: str, key: SigningKey) -> None:
    envelope = json.loads(text)
    payload = base64.b64decode(envelope["payload"]).replace(b"words", b"lies!")
    envelope["payload"] = base64.b64encode(payload).decode()
    assert "signature is not one of the key ci" in fault(json.dumps(envelope), key)


def test_a_forger_who_names_a_trusted_key_is_refused(
    text: str, key: SigningKey, tmp_path: Path
) -> None:
    forged = json.loads(
        statement.sign(
            Kind.REPORT, SUBJECTS, {"said": "lies"}, keys.create(tmp_path / "f.pem"), NOW
        )
    )
    forged["signatures"][0]["keyid"] = key.key_id
    assert "signature is not one of the key ci" in fault(json.dumps(forged), key)


def test_two_signatures_are_not_one(text: str, key: SigningKey) -> None:
    envelope = json.loads(text)
    envelope["signatures"].append({"keyid": "0" * 64, "sig": envelope["signatures"][0]["sig"]})
    assert "2 signatures" in fault(json.dumps(envelope), key)


@given(junk=st.text() | st.recursive(st.none() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["payload", "payloadType", "signatures", "keyid", "sig"]), x)).map(json.dumps))  # fmt: skip
def test_no_text_is_an_envelope_by_accident(junk: str) -> None:
    assert statement.read(junk, Kind.REPORT, Trust()).fault
