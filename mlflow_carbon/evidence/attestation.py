"""A person's statement about a model version: how it is written down, signed or not, and read back.

An attestation names the version it is about. The same text on any other version (a copied
tag, a copied model) says nothing about that version and is not read as an attestation. A signed
one also holds a digest of what the version is (its run, its source, its creation), so that it does
not count for a model made again under the same name; it counts no longer than its key.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rfc8785

from mlflow_carbon.errors import DataError
from mlflow_carbon.evidence.model import Attestation, Evidence
from mlflow_carbon.schema import RegistryTag
from mlflow_carbon.settings import trusted_keys

if TYPE_CHECKING:
    from mlflow_carbon.signing.keys import SigningKey

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}", re.ASCII)


def tag_key(statement: str) -> str:
    """The tag that holds the attestation of a statement.

    Raises:
        DataError: the statement's identifier is not lower-case letters, digits, ``.``, ``_``, ``-``.
    """
    if not _NAME.fullmatch(statement):
        raise DataError(
            f"{statement!r} cannot name a statement. Use lower-case letters, digits, '.', '_' and '-', "
            "as the policy writes it, for example intended-use-reviewed."
        )
    return RegistryTag.ATTESTATION_PREFIX + statement


def to_text(attestation: Attestation, name: str, version: str) -> str:
    """The tag's value: JSON, bound to version ``version`` of the registered model ``name``."""
    return json.dumps(_record(attestation, name, version), ensure_ascii=False)


def _record(attestation: Attestation, name: str, version: str) -> dict[str, Any]:
    expires = attestation.expires_at
    return {
        "model": name,
        "version": str(version),  # a store object hands it out as a number
        "statement": attestation.statement,
        "by": attestation.by,
        "role": attestation.role,
        "made_at": attestation.made_at.isoformat(timespec="seconds"),
        "expires_at": None if expires is None else expires.isoformat(timespec="seconds"),
        "reason": attestation.reason,
        "reference": attestation.reference,
    }


def binding(version: Any) -> str:
    """SHA-256 of what a version is, from MLflow's entity: its name and number, its creation, its run, its source."""
    return _digest(
        version.name,
        version.version,
        version.creation_timestamp,
        version.run_id,
        version.source,
    )


def binding_of(evidence: Evidence) -> str:
    """The same from the evidence of a version; empty where the evidence does not say when it was made."""
    facts = {key: fact.value for key, fact in evidence.facts.items() if key.startswith("version.")}
    created = facts.get("version.created")
    if not isinstance(created, datetime):
        return ""
    return _digest(
        facts.get("version.name"),
        facts.get("version.version"),
        round(created.timestamp() * 1000),
        facts.get("version.run_id"),
        facts.get("version.source"),
    )


def _digest(name: Any, version: Any, created_ms: Any, run_id: Any, source: Any) -> str:
    told: list[str | int] = [
        str(name),
        str(version),
        int(created_ms or 0),
        str(run_id or ""),
        str(source or ""),
    ]
    return hashlib.sha256(rfc8785.dumps([*told])).hexdigest()


def to_envelope(attestation: Attestation, version: Any, key: SigningKey) -> str:
    """The signed form; ``version`` is MLflow's entity."""
    from mlflow_carbon.signing import statement

    name, number = str(version.name), str(version.version)
    return statement.sign(
        statement.Kind.ATTESTATION,
        {f"models:/{name}/{number}": binding(version)},
        _record(attestation, name, number),
        key,
        attestation.made_at,
    )


def from_envelope(text: str, bound_to: str | None) -> Attestation | str:
    """The attestation in a signed envelope, or why it does not count.

    ``bound_to``: the binding of the version it is read for; ``None`` leaves that to the reader.

    Raises:
        DataError: the list of trusted keys cannot be read.
    """
    from mlflow_carbon.signing import statement, trust

    signed = statement.read(text, statement.Kind.ATTESTATION, trust.load(trusted_keys()))
    if signed.fault or signed.key is None or signed.signed_at is None:
        return signed.fault
    try:
        made = _attestation(signed.predicate)
    except KeyError as missing:
        return f"it has no {missing.args[0]}"
    except (ValueError, TypeError) as error:
        return f"it cannot be read: {error}"
    if made.by != signed.key.owner:
        return f"it is in the name of {made.by!r}, signed with a key of {signed.key.owner!r}"
    if bound_to is not None and list(signed.subjects.values()) != [bound_to]:
        about = ", ".join(signed.subjects)
        return f"it is about another version ({about}), or this one was made again since"
    return replace(
        made,
        made_at=signed.signed_at,
        expires_at=min(made.expires_at or signed.key.valid_until, signed.key.valid_until),
        signed_by=f"{signed.key.name} ({signed.key_id[:16]})",
    )


def from_file(path: Path) -> Iterator[tuple[str, Attestation]]:
    """(binding of the version it is about, attestation) of a file of signed envelopes, one a line.

    Raises:
        DataError: the file cannot be read, or one of them does not count; says which and why.
    """
    from mlflow_carbon.signing import statement, trust

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the attestations cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        made = from_envelope(line, None)
        if isinstance(made, str):
            raise DataError(
                f"{path}:{number}: the attestation does not count: {made}. Take the line out, or have it "
                "signed again (`mlflow-carbon attest statement --key KEY --out FILE`)."
            )
        signed = statement.read(line, statement.Kind.ATTESTATION, trust.load(trusted_keys()))
        yield from ((one, made) for one in signed.subjects.values())


def with_attestations(evidence: Evidence, given: Mapping[str, tuple[Attestation, ...]]) -> Evidence:
    """The version's evidence with the attestations that are bound to it; ``given``: by binding."""
    found = given.get(binding_of(evidence), ())
    return replace(evidence, attestations=(*evidence.attestations, *found)) if found else evidence


def from_text(text: str, *, statement: str, name: str, version: str) -> Attestation | str:
    """The attestation in a tag's value, or the reason why it does not count for this version."""
    try:
        record = json.loads(text)
        if not isinstance(record, dict):
            return "it is not a JSON object"
        if (record["model"], record["version"]) != (name, version):
            return f"it is about {record['model']!r} version {record['version']!r}"
        if record["statement"] != statement:
            return f"it states {record['statement']!r}"
        return _attestation(record)
    except KeyError as missing:
        return f"it has no {missing.args[0]}"
    except (ValueError, TypeError, RecursionError) as error:
        return f"it cannot be read: {error}"


def _attestation(record: Mapping[str, object]) -> Attestation:
    expires = record.get("expires_at")
    return Attestation(
        statement=str(record["statement"]),
        by=_words(record, "by"),
        role=_words(record, "role"),
        made_at=_moment(record["made_at"]),
        expires_at=None if expires is None else _moment(expires),
        reason=_words(record, "reason"),
        reference=str(record.get("reference", "")),
    )


def _words(record: Mapping[str, object], key: str) -> str:
    value = record[key]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key!r} says nothing")
    return value


def in_tags(version: Any) -> tuple[Attestation, ...]:
    """The attestations on a version (MLflow's entity) that count for it; those that do not are left out."""
    read = (read_tag(version, key) for key in sorted(version.tags) if is_attestation(key))
    return tuple(attestation for attestation in read if isinstance(attestation, Attestation))


def is_attestation(key: str) -> bool:
    """Whether a tag of a version holds an attestation."""
    return key.startswith(RegistryTag.ATTESTATION_PREFIX)


def read_tag(version: Any, key: str) -> Attestation | str:
    """The attestation in one tag of a version, or why it does not count."""
    text, statement = version.tags[key], key[len(RegistryTag.ATTESTATION_PREFIX) :]
    if not is_signed(text):
        return from_text(
            text, statement=statement, name=str(version.name), version=str(version.version)
        )
    made = from_envelope(text, binding(version))
    if isinstance(made, Attestation) and made.statement != statement:
        return f"it states {made.statement!r}"
    return made


def is_signed(text: str) -> bool:
    """Whether the text is meant as a signed envelope; whether that is right shows when it is read."""
    return '"payload"' in text and '"signatures"' in text


def _moment(text: object) -> datetime:
    if not isinstance(text, str):
        raise TypeError("a moment is not text")
    # Python 3.10 does not read the letter Z.
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    if moment.tzinfo is None:
        raise ValueError("a moment has no time zone")
    return moment
