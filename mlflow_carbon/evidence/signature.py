"""Who signed the record of a run. Unsigned is a state, not a fault; a signature that does not count is told as such."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_carbon.signing.trust import Trust


class Standing(str, Enum):
    """What is to be thought of a signature."""

    SIGNED = "signed"
    """Right, of a key that was trusted for it when it signed."""
    UNSIGNED = "unsigned"
    DOUBTFUL = "doubtful"
    """There is one, and it does not count."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The signature under one document."""

    standing: Standing
    by: str = ""
    """The owner of the key; of an unknown key its id."""
    at: datetime | None = None
    """When, by the signer's own clock."""
    reason: str = ""
    """Why it does not count."""


UNSIGNED = Signature(Standing.UNSIGNED)


def check(envelope: bytes, run_id: str, path: str, sha256: str, trust: Trust) -> Signature:
    """The signature in an envelope as one under the document ``path`` of the run."""
    from mlflow_carbon.signing import statement  # most audits check none

    read = statement.read(envelope, statement.Kind.EVIDENCE, trust)
    by = read.key.owner if read.key else read.key_id[:16]
    if read.fault:
        return Signature(Standing.DOUBTFUL, by, read.signed_at, read.fault)
    if read.subjects != {path: sha256} or read.predicate.get("run_id") != run_id:
        reason = "it is under another document or of another run"
        return Signature(Standing.DOUBTFUL, by, read.signed_at, reason)
    return Signature(Standing.SIGNED, by, read.signed_at)
