"""Who may do what at the gate, and whose approval or override is in force. Pure functions.

Approvals and overrides are attestations of one person each, so they are bound to one version,
dated, and written and read like any other statement. Their names have a dot, which the name of
a statement in a policy cannot have.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from mlflow_carbon.evidence import manifest
from mlflow_carbon.evidence.model import Attestation, Evidence
from mlflow_carbon.policy.model import Gate

APPROVED = "approved."
OVERRIDE = "override."
REGISTERED_BY = "mlflow_carbon.registered_by"
"""Version tag: the authenticated user who registered it; written by the gate, by nobody else."""


def statement_of(kind: str, who: str) -> str:
    """The statement's name for one person: everybody's stands beside the others'."""
    return kind + hashlib.sha256(who.encode()).hexdigest()[:16]


def authors(evidence: Evidence) -> frozenset[str]:
    """Everybody on record as having made the version or trained the model."""
    named = (f"version_tag.{REGISTERED_BY}", "version.user", "run.user")
    return frozenset(str(evidence.facts[name].value) for name in named if name in evidence.facts)


def in_force(made: Attestation, as_of: datetime) -> bool:
    """Whether the statement was made by then and has not run out."""
    return made.made_at <= as_of and (made.expires_at is None or as_of <= made.expires_at)


def approvals(gate: Gate, evidence: Evidence, as_of: datetime) -> tuple[Attestation, ...]:
    """The approvals that count: one for each person who may approve and is not an author.

    An approval of other files than those in the manifest is one of another model.
    """
    by_author = authors(evidence)
    listed = evidence.facts.get(f"version_tag.{manifest.TAG}")
    files = manifest.from_text(str(listed.value)) if listed is not None else None
    approved_files = files.reference if files is not None else ""
    return tuple(
        made
        for made in evidence.attestations
        if made.statement == statement_of(APPROVED, made.by)
        and in_force(made, as_of)
        and made.reference in ("", approved_files)
        and made.by not in by_author
        and (not gate.approvers or made.by in gate.approvers)
    )


def override(gate: Gate, evidence: Evidence, as_of: datetime) -> Attestation | None:
    """The override in force that runs longest, if one of the people who may override made one.

    One without an end, or with a longer time than the policy grants, has no force.
    """
    longest = timedelta(days=gate.override_max_days)
    standing = [
        made
        for made in evidence.attestations
        if made.statement == statement_of(OVERRIDE, made.by)
        and made.by in gate.overriders
        and made.expires_at is not None
        and made.expires_at - made.made_at <= longest
        and in_force(made, as_of)
    ]
    return max(standing, key=lambda made: made.expires_at or made.made_at, default=None)


def may_state(gate: Gate, user: str, made: Attestation) -> str:
    """Why an authenticated user may not put this statement on record; empty: the user may."""
    if made.by != user:
        return f"{user!r} cannot state it for {made.by!r}: everybody states in their own name"
    if made.statement.startswith(OVERRIDE):
        allowed, role = user in gate.overriders, "override"
    elif made.statement.startswith(APPROVED):
        allowed, role = not gate.approvers or user in gate.approvers, "approve"
    else:
        allowed, role = not gate.auditors, "attest"
    if not allowed:
        return f"{user!r} is not among those whom the policy lets {role}"
    kind = made.statement.partition(".")[0] + "."
    if kind in (APPROVED, OVERRIDE) and made.statement != statement_of(kind, user):
        return "its name does not belong to the person"
    return ""
