"""Signed statements: an in-toto Statement v1 in a DSSE envelope, signed with one ed25519 key.

A statement names its subjects by SHA-256. What it says is handed out only after the signature
was checked with a key that is trusted for this use, was valid when it signed, and is not revoked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

import rfc8785
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error as SigningError

from mlflow_carbon.signing.keys import SigningKey, public_key
from mlflow_carbon.signing.trust import Trust, TrustedKey, Use, moment

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_MAX_CHARS = 4 << 20


class Kind(Enum):
    """What a statement is about: its predicate type, and the use its key must have."""

    EVIDENCE = ("urn:mlflow-carbon:run-evidence:v1", Use.EVIDENCE)
    ATTESTATION = ("urn:mlflow-carbon:attestation:v1", Use.ATTESTATION)
    REPORT = ("urn:mlflow-carbon:audit-report:v1", Use.AUDIT)
    VERDICT = ("urn:mlflow-carbon:audit-verdict:v1", Use.AUDIT)
    WITNESS = ("urn:mlflow-carbon:witness:v1", Use.WITNESS)

    @property
    def predicate_type(self) -> str:
        """The predicate type, a URI."""
        return self.value[0]

    @property
    def use(self) -> Use:
        """What the key must be for."""
        return self.value[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What an envelope says. With a ``fault`` it says nothing: subjects and predicate are empty."""

    fault: str
    """Why it does not count; empty: it does."""
    key_id: str = ""
    key: TrustedKey | None = None
    """The key whose signature was checked and found right, also where it does not count."""
    signed_at: datetime | None = None
    subjects: Mapping[str, str] = field(default_factory=dict)
    """Name -> SHA-256."""
    predicate: Mapping[str, Any] = field(default_factory=dict)


def sign(
    kind: Kind,
    subjects: Mapping[str, str],
    predicate: Mapping[str, Any],
    key: SigningKey,
    at: datetime,
) -> str:
    """The envelope as JSON text. ``subjects``: name -> SHA-256 in hex."""
    statement: dict[str, Any] = {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": name, "digest": {"sha256": digest}} for name, digest in subjects.items()
        ],
        "predicateType": kind.predicate_type,
        "predicate": {**predicate, "signed_at": at.isoformat(timespec="seconds")},
    }
    envelope = Envelope(rfc8785.dumps(statement), PAYLOAD_TYPE, {})
    envelope.sign(key.signer)
    return json.dumps(envelope.to_dict(), separators=(",", ":"))


def read(text: str | bytes, kind: Kind, trust: Trust) -> Signed:
    """Check an envelope; whatever is wrong with it is told in ``fault``, never raised."""
    if len(text) > _MAX_CHARS:
        return Signed(fault="the envelope is larger than any we write")
    try:
        envelope = Envelope.from_dict(json.loads(text))
        signed_by = list(envelope.signatures)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SigningError):
        return Signed(fault="it is no DSSE envelope")
    if len(signed_by) != 1:
        return Signed(fault=f"it has {len(signed_by)} signatures instead of one")
    (key_id,) = signed_by
    key = trust.keys.get(key_id)
    if key is None:
        return Signed(fault=f"the key {key_id[:16]} is not among the trusted keys", key_id=key_id)
    try:
        envelope.verify([public_key(key.key_id, key.public)], 1)
    except SigningError:
        return Signed(fault=f"its signature is not one of the key {key.name}", key_id=key_id)
    return _said(envelope, kind, key)


def _said(envelope: Envelope, kind: Kind, key: TrustedKey) -> Signed:
    """The content of an envelope whose signature is right."""
    try:
        statement = json.loads(envelope.payload)
        predicate = dict(statement["predicate"])
        signed_at = moment(predicate["signed_at"])
        subjects = {str(one["name"]): str(one["digest"]["sha256"]) for one in statement["subject"]}
        types = (envelope.payload_type, statement["_type"], statement["predicateType"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Signed(fault="what was signed is no statement", key_id=key.key_id, key=key)
    fault = key.why_not(kind.use, signed_at)
    if types != (PAYLOAD_TYPE, STATEMENT_TYPE, kind.predicate_type):
        fault = "what was signed is a statement of another kind"
    if fault:
        return Signed(fault=fault, key_id=key.key_id, key=key, signed_at=signed_at)
    return Signed(
        fault="",
        key_id=key.key_id,
        key=key,
        signed_at=signed_at,
        subjects=subjects,
        predicate=predicate,
    )
