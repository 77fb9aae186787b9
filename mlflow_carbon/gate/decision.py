"""May this version be promoted? A pure function of a policy pack, evidence and a moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from mlflow_carbon.audit.assess import assess_subject
from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.evidence.model import Attestation, Evidence, Subject, SubjectKind
from mlflow_carbon.gate import people
from mlflow_carbon.policy.evaluate import noted
from mlflow_carbon.policy.model import Gate, OnMissing, Pack, Rule, State

CLOSED_STATES = (State.FAIL, State.NO_EVIDENCE, State.NEEDS_ATTESTATION, State.ERROR)
"""The states that keep the gate closed. What is not known is never taken for good; a rule can let it pass with a note."""

_BEHIND_A_VERSION = {
    SubjectKind.RUN: ("training_run", "The version has no training run on record."),
    SubjectKind.DATASET_INPUT: ("datasets", "The training run has no dataset on record."),
}
"""Rules about runs and datasets are put to those the version was made from."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The gate's answer. ``blocking`` are the findings in the way, worst first.

    A decision without any finding is not an allowance: nothing was checked.
    """

    allowed: bool
    blocking: tuple[Finding, ...]
    findings: tuple[Finding, ...]
    approvals_missing: int = 0
    """How many more people must approve."""
    override: Attestation | None = None
    """Why it is allowed in spite of what is blocking, if somebody opened the gate."""


def decide(
    pack: Pack, evidence: Evidence, as_of: datetime, pairs: Sequence[Evidence] = ()
) -> Decision:
    """The answer for a model version: every rule at or above ``gate.blocks_at`` is met, waived
    or lets missing evidence pass with a note,
    and enough people have approved; or somebody entitled has opened the gate for a while.

    ``pairs``: the version against each baseline there is. A pack without a gate section blocks
    from severity ``high`` on, as the section does by default.
    """
    return conclude(
        pack.gate or Gate(), tuple(_findings(pack, evidence, as_of, pairs)), evidence, as_of
    )


def conclude(
    gate: Gate, findings: tuple[Finding, ...], evidence: Evidence, as_of: datetime
) -> Decision:
    """The answer once it is known what each rule says, here or in an audit's verdict."""
    in_the_way = [
        finding
        for finding in findings
        if finding.state in CLOSED_STATES
        and finding.severity.rank <= gate.blocks_at.rank
        and not finding.noted
    ]
    in_the_way.sort(key=lambda finding: (finding.severity.rank, finding.rule_id))
    missing = max(0, gate.approvals - len(people.approvals(gate, evidence, as_of)))
    earned = bool(findings) and not in_the_way and not missing
    opened = None if earned else people.override(gate, evidence, as_of)
    return Decision(
        earned or opened is not None, tuple(in_the_way), findings, missing, override=opened
    )


def _findings(
    pack: Pack, evidence: Evidence, as_of: datetime, pairs: Sequence[Evidence]
) -> Iterator[Finding]:
    yield from assess_subject(pack, evidence, as_of)
    for kind, (members, nothing) in _BEHIND_A_VERSION.items():
        subjects = evidence.members.get(members, ())
        for subject in subjects:
            yield from assess_subject(pack, subject, as_of)
        if not subjects:
            yield from (
                _unanswered(pack, rule, evidence.subject, nothing)
                for rule in pack.rules
                if rule.scope is kind
            )
    for pair in pairs:
        yield from assess_subject(pack, pair, as_of)


def _unanswered(pack: Pack, rule: Rule, subject: Subject, reason: str) -> Finding:
    return Finding(
        rule_id=rule.id,
        pack_id=pack.id,
        title=rule.title,
        severity=rule.severity,
        subject=subject,
        state=State.NO_EVIDENCE,
        underlying=None,
        message=noted(rule, reason),
        observations=(),
        controls=rule.controls,
        remediation=rule.remediation,
        does_not_show=rule.does_not_show,
        at=rule.at,
        noted=rule.on_missing is OnMissing.PASS_WITH_NOTE,
    )
