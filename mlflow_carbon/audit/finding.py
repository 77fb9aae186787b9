"""What one rule says about one subject."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mlflow_carbon.errors import Location
from mlflow_carbon.evidence.model import Subject
from mlflow_carbon.policy.model import ControlRef, Observation, Severity, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The answer of one rule for one subject, with all a reader needs to check it.

    A waived finding keeps the state it would have had in ``underlying``.
    """

    rule_id: str
    pack_id: str
    title: str
    severity: Severity
    subject: Subject
    state: State
    underlying: State | None
    message: str
    """One sentence for a compliance reader."""
    observations: tuple[Observation, ...]
    controls: tuple[ControlRef, ...]
    remediation: str
    does_not_show: str
    at: Location
    """The rule in its policy file."""
    waiver: str = ""
    noted: bool = False
    """Evidence is missing, and the policy lets that pass with a note: it is no pass, but closes no gate."""

    @property
    def identity(self) -> str:
        """Stable across audits: rule, kind and key of the subject, and the evidence looked at."""
        keys = ",".join(sorted({observation.fact for observation in self.observations}))
        text = "\x1f".join((self.rule_id, self.subject.kind.value, self.subject.key, keys))
        return hashlib.sha256(text.encode()).hexdigest()[:32]
