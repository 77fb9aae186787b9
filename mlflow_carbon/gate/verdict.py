"""A signed verdict: an auditor looked at a version at leisure, and the gate takes the answer instead of looking itself.

The verdict is bound to the version, to the bytes of the policy, to the evidence it was based on and to the
versions it was compared with. If one of them is another now, or the verdict is older than the policy
lets it be, there is none: the gate stays closed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

import rfc8785

from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.errors import Location
from mlflow_carbon.evidence.attestation import binding_of
from mlflow_carbon.evidence.lineage import read_version
from mlflow_carbon.evidence.model import Evidence, SubjectKind
from mlflow_carbon.gate.decision import Decision
from mlflow_carbon.policy.model import Pack, Severity, State
from mlflow_carbon.schema import RegistryTag
from mlflow_carbon.settings import trusted_keys

RULE = "GATE-VERDICT"
_FACT = f"version_tag.{RegistryTag.VERDICT}"
_MOVING = (
    _FACT,
    "version_tag.mlflow_carbon.manifest",
    f"version_tag.{RegistryTag.ATTESTATION_PREFIX}",
    "version.aliases",
    "version.stage",
    "model.",
    "lineage.",
    "seal.",
)
"""What changes without the evidence being other: promotions, and statements, which are read afresh."""

Baselines = Mapping[str, str]
"""Alias -> the version behind it; empty where there is none."""


class Sources(Protocol):
    """Where the verdict is read: ``judge.Sources``."""

    @property
    def runs(self) -> Any:
        """The runs."""

    @property
    def registry(self) -> Any:
        """The versions."""

    @property
    def promoted(self) -> Callable[[str, str], str | None]:
        """The version last promoted to an alias of a model."""


def read(sources: Sources, name: str, version: str) -> Evidence:
    """What a verdict is bound to: the version, its training run and its datasets, not the whole tree of runs."""
    return read_version(sources.runs, sources.registry, name, version, whole=False)


def baselines(pack: Pack, sources: Sources, name: str) -> Baselines:
    """The versions that the pack's rules compare a version of this model with; of an alias taken away, the last."""
    wanted = {rule.baseline_alias for rule in pack.rules if rule.scope is SubjectKind.PAIR}
    aliases = sources.registry.get_registered_model(name).aliases if wanted else {}
    return {
        alias: str(aliases.get(alias) or sources.promoted(name, alias) or "")
        for alias in sorted(wanted)
    }


def evidence_sha256(evidence: Evidence) -> str:
    """SHA-256 of what is on record about the version, its training run and its datasets."""
    parts = [evidence, *evidence.members.get("datasets", ())]
    told = [
        [[key, str(fact.value)] for key, fact in sorted(part.facts.items()) if _counts(key)]
        for part in parts
    ]
    return hashlib.sha256(rfc8785.dumps(sorted(told))).hexdigest()


def _counts(key: str) -> bool:
    return not key.startswith(_MOVING)


def predicate(
    pack: Pack, evidence: Evidence, decision: Decision, compared: Baselines
) -> dict[str, Any]:
    """What the verdict says; the caller signs it. Approvals and overrides are no part of it."""
    findings = [_record(finding) for finding in decision.findings]
    return {
        "policy": {"id": pack.id, "version": pack.version, "sha256": pack.sha256},
        "evidence_sha256": evidence_sha256(evidence),
        "baselines": dict(compared),
        "findings": len(findings),
        "findings_sha256": hashlib.sha256(rfc8785.dumps(findings)).hexdigest(),
        "blocking": [_record(finding) for finding in decision.blocking],
    }


def _record(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule_id,
        "subject": finding.subject.key,
        "severity": finding.severity.value,
        "state": finding.state.value,
        "message": finding.message,
        "remediation": finding.remediation,
    }


def findings(
    pack: Pack, evidence: Evidence, compared: Baselines, max_age: timedelta, as_of: datetime
) -> tuple[Finding, ...]:
    """What the verdict on the version found in the way, after a finding about the verdict itself.

    Raises:
        DataError: the list of trusted keys cannot be read.
    """
    from mlflow_carbon.signing import statement, trust

    held = evidence.facts.get(_FACT)
    if held is None:
        return (_about(pack, evidence, State.NO_EVIDENCE, "No verdict of an audit is on record."),)
    trusted = trust.load(trusted_keys())
    signed = statement.read(str(held.value), statement.Kind.VERDICT, trusted)
    why = signed.fault
    if not why and signed.key is not None and signed.signed_at is not None:
        why = (
            _age(signed.signed_at, max_age, as_of)
            or signed.key.why_not(statement.Kind.VERDICT.use, as_of)
            or _other(pack, evidence, compared, signed)
        )
    if why:
        message = f"The verdict on record does not count: {why}."
        return (_about(pack, evidence, State.NO_EVIDENCE, message),)
    by = signed.key.owner if signed.key else ""
    said = f"Verdict of {by}, signed on {signed.signed_at:%Y-%m-%d %H:%M} UTC."
    passed = _about(pack, evidence, State.PASS, said)
    return (passed, *_blocking(pack, evidence, signed.predicate["blocking"]))


def _age(signed_at: datetime, max_age: timedelta, as_of: datetime) -> str:
    if signed_at > as_of:
        return f"it is dated {signed_at:%Y-%m-%d %H:%M} UTC, in the future"
    if as_of - signed_at > max_age:
        hours = max_age.total_seconds() / 3600
        return f"it is of {signed_at:%Y-%m-%d %H:%M} UTC, older than {hours:g} hours"
    return ""


def _other(pack: Pack, evidence: Evidence, compared: Baselines, signed: Any) -> str:
    """What the verdict was about that is not what it is to decide now."""
    said = signed.predicate
    if list(signed.subjects.values()) != [binding_of(evidence)]:
        return f"it is about another version ({', '.join(signed.subjects)}), or this one was made again"
    if said.get("policy", {}).get("sha256") != pack.sha256:
        return "it was made with another text of the policy"
    # A version that got the alias meanwhile is not compared with itself.
    own = str(evidence.facts["version.version"].value)
    before = said.get("baselines")
    if not isinstance(before, dict) or any(
        before.get(alias) != number for alias, number in compared.items() if number != own
    ):
        return "the versions it was compared with are others now"
    if not said.get("findings"):
        return "it rests on no rule at all"
    if said.get("evidence_sha256") != evidence_sha256(evidence):
        return "the evidence was changed since"
    return "" if isinstance(said.get("blocking"), list) else "it has no list of what is in the way"


def _blocking(pack: Pack, evidence: Evidence, records: list[Any]) -> Iterator[Finding]:
    for one in records:
        yield _finding(
            pack,
            evidence,
            rule=str(one["rule"]),
            severity=Severity(one["severity"]),
            told=(State(one["state"]), str(one["message"]), str(one["remediation"])),
        )


def _about(pack: Pack, evidence: Evidence, state: State, message: str) -> Finding:
    fix = f"Have the version audited: mlflow-carbon gate verdict models:/{evidence.subject.key} --key KEY."
    told = (state, message, "" if state is State.PASS else fix)
    return _finding(pack, evidence, rule=RULE, severity=Severity.CRITICAL, told=told)


def _finding(
    pack: Pack, evidence: Evidence, *, rule: str, severity: Severity, told: tuple[State, str, str]
) -> Finding:
    state, message, remediation = told
    return Finding(
        rule_id=rule,
        pack_id=pack.id,
        title="An audit's signed verdict on the version is on record" if rule == RULE else "",
        severity=severity,
        subject=evidence.subject,
        state=state,
        underlying=None,
        message=message,
        observations=(),
        controls=(),
        remediation=remediation,
        does_not_show="",
        at=Location(pack.file, 1, 1),
    )
