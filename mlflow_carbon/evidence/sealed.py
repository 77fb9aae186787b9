"""What a comparison of a run with its seal can find; see ``seal.py`` for how."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from mlflow_carbon.evidence.model import Fact
from mlflow_carbon.evidence.signature import UNSIGNED, Signature, Standing


class Seal(str, Enum):
    """What the comparison found."""

    SEALED = "sealed"
    EXTENDED = "extended"
    """All that was sealed is unchanged; something was added later."""
    ALTERED = "altered"
    UNSEALED = "unsealed"
    """There is nothing to compare with. A state, not a fault."""


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One difference: ``place`` is metric, tag, param, input, artifact, run or document."""

    place: str
    key: str
    kind: str
    """changed | removed | added"""
    sealed: str
    now: str

    def __str__(self) -> str:
        """``metric accuracy changed: 0.91 -> 0.99``."""
        told = {"changed": f"{self.sealed} -> {self.now}", "removed": f"was {self.sealed}"}
        return f"{self.place} {self.key} {self.kind}: {told.get(self.kind, self.now)}"


@dataclass(frozen=True, slots=True)
class SealCheck:
    """The state of one run's seal, with every difference."""

    run_id: str
    name: str
    seal: Seal
    changes: tuple[Change, ...] = ()
    reason: str = ""
    """For ``unsealed``, for a document that cannot be used, and for a run that was sealed again."""
    signature: Signature = UNSIGNED
    """Under the last document."""
    witnessed_at: datetime | None = None
    """When a witness first saw the run with this record."""

    def facts(self) -> dict[str, Fact]:
        """What a policy may ask about the comparison."""
        where = f"run {self.run_id} compared with its seal"
        values = {
            "seal.state": self.seal.value,
            "seal.changed": tuple(f"{change.place} {change.key}" for change in self.changes),
            "seal.signature": self.signature.standing.value,
        }
        facts = {name: Fact(value, where) for name, value in values.items()}
        if self.signature.standing is Standing.SIGNED:
            facts["seal.signed_by"] = Fact(self.signature.by, where)
        if self.witnessed_at is not None:
            facts["seal.witnessed"] = Fact(self.witnessed_at, where)
        return facts
