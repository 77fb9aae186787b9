"""Whose signatures count, for what, and from when to when: the file ``trusted_keys.yaml``.

It holds public keys only, so it may be handed to everybody who checks. Who may write it decides
who is believed: keep it where trainers cannot write.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from mlflow_carbon.errors import DataError, OutputError
from mlflow_carbon.signing.keys import public_key

_MAX_BYTES = 1 << 20
_HEAD = (
    "# Public keys whose signatures count. Written by `mlflow-carbon keys`; holds nothing secret.\n"
)


class Use(str, Enum):
    """What a key may sign. A key for one thing is worth nothing for another."""

    EVIDENCE = "evidence"
    """The record of a run, at its end, by the training process."""
    ATTESTATION = "attestation"
    """A person's statement about a model version, in the name of the key's owner."""
    AUDIT = "audit"
    """Reports and verdicts of audits."""
    WITNESS = "witness"
    """That a run's record was seen, and when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A public key, its owner, and the time in which what it signs counts."""

    key_id: str
    name: str
    owner: str
    """The person or the service; attestations are made in this name and no other."""
    uses: tuple[Use, ...]
    public: str
    valid_from: datetime
    valid_until: datetime
    revoked_at: datetime | None = None
    revoked_because: str = ""

    def why_not(self, use: Use, at: datetime) -> str:
        """Why a signature made then for this use does not count; empty: it does.

        A revoked key may be in other hands, who write any date they like: none of its signatures count.
        """
        if self.revoked_at is not None:
            because = f": {self.revoked_because}" if self.revoked_because else ""
            return f"the key {self.name} was revoked on {self.revoked_at:%Y-%m-%d}{because}"
        if use not in self.uses:
            may = ", ".join(one.value for one in self.uses)
            return f"the key {self.name} is for {may}, not for {use.value}"
        if at < self.valid_from:
            return f"the key {self.name} is valid from {self.valid_from:%Y-%m-%d %H:%M} UTC on only"
        if at > self.valid_until:
            return f"the key {self.name} expired on {self.valid_until:%Y-%m-%d}"
        return ""


@dataclass(frozen=True, slots=True)
class Trust:
    """The trusted keys by id. Without any, nothing signed is believed."""

    keys: Mapping[str, TrustedKey] = field(default_factory=dict)
    source: str = ""
    """The file, for messages."""

    def named(self, name: str) -> TrustedKey:
        """The newest key of a name, or the one whose id begins so.

        Raises:
            DataError: there is none.
        """
        found = [
            key for key in self.keys.values() if key.name == name or key.key_id.startswith(name)
        ]
        if not found:
            known = ", ".join(sorted({key.name for key in self.keys.values()})) or "none"
            raise DataError(f"{self.source}: no trusted key is called {name!r}. Known: {known}.")
        return max(found, key=lambda key: key.valid_from)

    def with_key(self, key: TrustedKey) -> Trust:
        """The same with one key more, or changed."""
        return Trust({**self.keys, key.key_id: key}, self.source)


def load(path: Path) -> Trust:
    """The keys in a file; a file that is not there trusts nobody.

    Raises:
        DataError: it cannot be read or is not sound. Half a list is never taken for the whole.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Trust({}, str(path))
    except OSError as error:
        raise DataError(f"{path}: the trusted keys cannot be read ({error.strerror}).") from None
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path}: larger than any list of keys ({len(content):,} bytes).")
    try:
        listed = yaml.safe_load(content)
        entries = listed["keys"]
        keys = [_key(entry) for entry in entries]
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: is no list of trusted keys as `mlflow-carbon keys` writes it: {said}"
        ) from None
    by_id = {key.key_id: key for key in keys}
    if len(by_id) < len(keys):
        raise DataError(f"{path}: a key is listed twice. Remove one of the two.")
    return Trust(by_id, str(path))


def save(path: Path, keys: Iterable[TrustedKey]) -> None:
    """Write the list in one step: a reader sees the old one or the new one.

    Raises:
        OutputError: it cannot be written.
    """
    listed = [_entry(key) for key in sorted(keys, key=lambda key: (key.name, key.valid_from))]
    text = _HEAD + yaml.safe_dump({"keys": listed}, sort_keys=False, allow_unicode=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".trusted-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}).") from None


def moment(value: object) -> datetime:
    """An aware time from YAML or JSON.

    Raises:
        ValueError: it is none, or has no time zone.
    """
    if isinstance(value, str):
        # Python 3.10 does not read the letter Z.
        value = datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith("Z") else value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError(f"{value!r} is no time with a time zone")
    return value.astimezone(timezone.utc)


def _key(entry: Mapping[str, Any]) -> TrustedKey:
    revoked = entry.get("revoked_at")
    public_key(str(entry["id"]), str(entry["public"]))
    uses = tuple(Use(use) for use in entry["uses"])
    if not uses or not str(entry["owner"]).strip():
        raise ValueError(f"key {entry['name']!r} has no owner or no use")
    return TrustedKey(
        key_id=str(entry["id"]),
        name=str(entry["name"]),
        owner=str(entry["owner"]),
        uses=uses,
        public=str(entry["public"]),
        valid_from=moment(entry["valid_from"]),
        valid_until=moment(entry["valid_until"]),
        revoked_at=None if revoked is None else moment(revoked),
        revoked_because=str(entry.get("revoked_because", "")),
    )


def _entry(key: TrustedKey) -> dict[str, object]:
    entry: dict[str, object] = {
        "id": key.key_id,
        "name": key.name,
        "owner": key.owner,
        "uses": [use.value for use in key.uses],
        "public": key.public,
        "valid_from": key.valid_from.isoformat(timespec="seconds"),
        "valid_until": key.valid_until.isoformat(timespec="seconds"),
    }
    if key.revoked_at is not None:
        entry["revoked_at"] = key.revoked_at.isoformat(timespec="seconds")
        entry["revoked_because"] = key.revoked_because
    return entry
