"""What a comparison of a run with its seal can find; see ``seal.py`` for how."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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
    """One difference: ``place`` is metric, tag, param, input, run or document."""

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
    """For ``unsealed`` and for a document that cannot be used."""
