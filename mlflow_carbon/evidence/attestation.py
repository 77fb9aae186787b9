"""The attestation tag on a model version: how a person's statement is written down and read back.

An attestation names the version it is about. The same text on any other version (a copied
tag, a copied model) says nothing about that version and is not read as an attestation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime

from mlflow_carbon.errors import DataError
from mlflow_carbon.evidence.model import Attestation
from mlflow_carbon.schema import RegistryTag

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
    expires = attestation.expires_at
    return json.dumps(
        {
            "model": name,
            "version": str(version),  # a store object hands it out as a number
            "statement": attestation.statement,
            "by": attestation.by,
            "role": attestation.role,
            "made_at": attestation.made_at.isoformat(timespec="seconds"),
            "expires_at": None if expires is None else expires.isoformat(timespec="seconds"),
            "reason": attestation.reason,
            "reference": attestation.reference,
        },
        ensure_ascii=False,
    )


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


def in_tags(tags: Mapping[str, str], name: str, version: str) -> tuple[Attestation, ...]:
    """The attestations among a version's tags that count for it; those that do not are left out."""
    prefix = RegistryTag.ATTESTATION_PREFIX
    read = (
        from_text(text, statement=key[len(prefix) :], name=name, version=version)
        for key, text in sorted(tags.items())
        if key.startswith(prefix)
    )
    return tuple(attestation for attestation in read if isinstance(attestation, Attestation))


def _moment(text: object) -> datetime:
    if not isinstance(text, str):
        raise TypeError("a moment is not text")
    # Python 3.10 does not read the letter Z.
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    if moment.tzinfo is None:
        raise ValueError("a moment has no time zone")
    return moment
