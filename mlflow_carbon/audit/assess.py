"""What rules say about subjects, in findings, and how findings are ordered and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.select import (
    Registered,
)
from mlflow_carbon.audit.summary import RuleSummary
from mlflow_carbon.audit.waivers import in_force
from mlflow_carbon.evidence.model import Attestation, Evidence, SubjectKind
from mlflow_carbon.policy.evaluate import evaluate
from mlflow_carbon.policy.model import OnMissing, Pack, Rule, State, Waiver

_WORST_FIRST = (
    State.FAIL,
    State.ERROR,
    State.NO_EVIDENCE,
    State.NEEDS_ATTESTATION,
    State.WAIVED,
    State.PASS,
    State.NOT_APPLICABLE,
)
_WAIVABLE = (State.FAIL, State.NO_EVIDENCE, State.NEEDS_ATTESTATION)
"""A rule that could not be evaluated is nobody's accepted exception."""


def assess_subject(pack: Pack, evidence: Evidence, as_of: datetime) -> tuple[Finding, ...]:
    """Put every rule of the pack that is about this kind of subject to it, and apply the waivers."""
    return tuple(
        _finding(pack, rule, evidence, as_of) for rule in pack.rules if _applies(rule, evidence)
    )


def _applies(rule: Rule, evidence: Evidence) -> bool:
    if rule.scope is SubjectKind.PAIR and evidence.subject.kind is SubjectKind.PAIR:
        return evidence.subject.key.rpartition("@")[2] == rule.baseline_alias
    return rule.scope is evidence.subject.kind


def _finding(pack: Pack, rule: Rule, evidence: Evidence, as_of: datetime) -> Finding:
    answer = evaluate(rule, evidence, as_of)
    waiver = None
    if answer.state in _WAIVABLE:
        waiver = next((one for one in pack.waivers if _covers(one, rule, evidence, as_of)), None)
    return Finding(
        rule_id=rule.id,
        pack_id=pack.id,
        title=rule.title,
        severity=rule.severity,
        subject=evidence.subject,
        state=State.WAIVED if waiver else answer.state,
        underlying=answer.state if waiver else None,
        message=answer.message,
        observations=answer.observations,
        controls=rule.controls,
        remediation=rule.remediation,
        does_not_show=rule.does_not_show,
        at=rule.at,
        waiver=waiver.id if waiver else "",
        noted=rule.on_missing is OnMissing.PASS_WITH_NOTE and answer.state is State.NO_EVIDENCE,
    )


def _covers(waiver: Waiver, rule: Rule, evidence: Evidence, as_of: datetime) -> bool:
    if not in_force(waiver, rule, as_of):
        return False
    if waiver.match is None:
        return True
    match = replace(rule, condition=waiver.match, attest=None, when=None)
    return evaluate(match, evidence, as_of).state is State.PASS


def rank(finding: Finding) -> tuple[int, int, str, str]:
    """Worst first: state, severity, then rule and subject."""
    return (
        badness(finding.state),
        finding.severity.rank,
        finding.rule_id,
        finding.subject.key,
    )


def badness(state: State) -> int:
    """0 for the state a reader must see first."""
    return _WORST_FIRST.index(state)


Tally = Counter[tuple[str, str, State]]
"""(pack id, rule id, state) -> how many subjects."""


def tally(findings: Sequence[Finding]) -> Tally:
    """How often each rule came to each state."""
    return Counter((one.pack_id, one.rule_id, one.state) for one in findings)


def summarize(
    packs: Sequence[Pack], counted: Mapping[tuple[str, str, State], int]
) -> tuple[RuleSummary, ...]:
    """Every rule of every pack with its count of each state; a rule without subjects has zeros."""
    return tuple(
        RuleSummary(
            rule=rule,
            pack_id=pack.id,
            counts={state: counted.get((pack.id, rule.id, state), 0) for state in State},
        )
        for pack in packs
        for rule in pack.rules
    )


def attestations(registered: Registered) -> tuple[tuple[str, Attestation], ...]:
    """(``name/version``, attestation) of every version read."""
    return tuple(
        (version.subject.key, one)
        for version in registered.versions
        for one in version.attestations
    )
