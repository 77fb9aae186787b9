"""The audit as OSCAL 1.2 assessment results (NIST), for governance platforms.

OSCAL knows two states of a finding only. This file never says the first of them: a passed
rule is an observation, not a finding. What is undecided is ``not-satisfied`` with the reason
``other`` and a remark, because OSCAL has no word for unknown.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from typing import Any

from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.summary import Audit, RuleSummary
from mlflow_carbon.policy.model import Relation, State
from mlflow_carbon.report.json import selection_words
from mlflow_carbon.report.parts.coverage import Covered
from mlflow_carbon.report.shown import place, shown, visible

OSCAL_VERSION = "1.2.1"
SUBJECTS = 50
"""Subjects named for each rule and state; the counts are complete, and report.json has them all."""

_NAMESPACE = "urn:mlflow-carbon:oscal"
"""Of the properties that OSCAL has no name for."""
_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, _NAMESPACE)
_SHOWN = (
    State.FAIL,
    State.NO_EVIDENCE,
    State.NEEDS_ATTESTATION,
    State.ERROR,
    State.WAIVED,
    State.PASS,
)
_OPEN = {
    State.NO_EVIDENCE: "What the rule needs is not on record. This is no failure.",
    State.NEEDS_ATTESTATION: "A named person's attestation is missing or expired. This is no failure.",
    State.ERROR: "The rule could not be evaluated. This is no failure.",
    State.WAIVED: "A named person accepted this for a time; see the waiver.",
}


def render(audit: Audit) -> bytes:
    """One result; UUIDs are derived from what they name, so that the same audit gives the same bytes."""
    seed = (
        f"{audit.as_of.isoformat()}|{audit.command}|{'|'.join(pack.sha256 for pack in audit.packs)}"
    )
    moment = audit.as_of.strftime("%Y-%m-%dT%H:%M:%SZ")
    plan = _uuid(seed, "plan")
    document = {
        "uuid": _uuid(seed, "document"),
        "metadata": {
            "title": "Audit of energy, carbon and data provenance",
            "last-modified": moment,
            "version": audit.tool_version,
            "oscal-version": OSCAL_VERSION,
            "remarks": "Answers of written rules to records. No statement of conformity.",
        },
        "import-ap": {"href": f"#{plan}"},
        "results": [_result(audit, seed, moment)],
        "back-matter": {
            "resources": [
                {
                    "uuid": plan,
                    "title": "Policies of this audit",
                    "description": visible(
                        "; ".join(f"{p.id} {p.version}, SHA-256 {p.sha256}" for p in audit.packs)
                    ),
                    "remarks": visible(audit.command),
                }
            ]
        },
    }
    text = json.dumps(
        {"assessment-results": document}, ensure_ascii=True, indent=1, allow_nan=False
    )
    return text.encode() + b"\n"


def _uuid(*parts: str) -> str:
    return str(uuid.uuid5(_SPACE, "\x1f".join(parts)))


def _result(audit: Audit, seed: str, moment: str) -> dict[str, Any]:
    by_group: dict[tuple[str, str, State], list[Finding]] = {}
    for finding in audit.findings:
        by_group.setdefault((finding.pack_id, finding.rule_id, finding.state), []).append(finding)
    groups = [
        (summary, state, by_group.get((summary.pack_id, summary.rule.id, state), []))
        for summary in audit.rules
        for state in _SHOWN
        if summary.counts.get(state, 0)
    ]
    named = {f.subject: None for _, _, found in groups for f in found[:SUBJECTS]}
    result: dict[str, Any] = {
        "uuid": _uuid(seed, "result"),
        "title": "Audit",
        "description": visible(
            f"{audit.selection.runs_read} of {audit.selection.runs_selected} selected runs of "
            f"{audit.selection.store} were read, {len(audit.selection.failed_to_read)} could not be; "
            f"{len(audit.rules)} rules."
        ),
        "start": moment,
        "end": moment,
        "props": [
            {"name": f"selection-{name.replace('_', '-')}", "ns": _NAMESPACE, "value": value}
            for name, value in selection_words(audit.selection).items()
        ],
        "reviewed-controls": {"control-selections": _selections(audit.rules)},
        "observations": [_observation(seed, *group, moment) for group in groups],
    }
    if named:
        result["local-definitions"] = {
            "inventory-items": [
                {
                    "uuid": _uuid("subject", subject.kind.value, subject.key),
                    "description": shown(
                        f"{subject.kind.value} {subject.label} ({subject.key})", 400
                    ),
                }
                for subject in named
            ]
        }
    findings = [_finding(seed, s, state) for s, state, _ in groups if state is not State.PASS]
    if findings:
        result["findings"] = findings
    if audit.attestations:
        result["attestations"] = [
            {
                "parts": [
                    {
                        "name": "attestation",
                        "title": shown(f"{subject}: {given.statement}", 200),
                        "prose": visible(
                            f"{given.by} ({given.role}), {given.made_at.date().isoformat()}: "
                            f"{given.reason} Not verified."
                        ),
                    }
                ]
            }
            for subject, given in audit.attestations
        ]
    return result


def _selections(rules: Iterable[RuleSummary]) -> list[dict[str, Any]]:
    """Of each framework the controls with rules; those that are attested only stand apart."""
    cited: dict[tuple[str, str], list[tuple[RuleSummary, Relation]]] = {}
    for summary in rules:
        for ref in summary.rule.controls:
            cited.setdefault((ref.framework, ref.control), []).append((summary, ref.relation))
    apart: dict[tuple[str, bool], dict[str, None]] = {}
    for (framework, control), bearing in cited.items():
        attested = Covered(control, "", "", tuple(bearing)).outcome == "attested"
        apart.setdefault((framework, attested), {})[_token(control)] = None
    return [
        _selection(framework, attested, controls)
        for (framework, attested), controls in apart.items()
    ] or [{"description": "The rules name no control."}]


def _selection(framework: str, attested: bool, controls: Iterable[str]) -> dict[str, Any]:
    included = [{"control-id": control} for control in controls]
    if not attested:
        told = "that the rules bear on; those in no selection were not assessed."
        return {"description": f"Controls of {framework} {told}", "include-controls": included}
    told = "attested only: what passed rests on named persons' statements alone."
    return {
        "description": f"Controls of {framework} {told}",
        "props": [{"name": "outcome", "ns": _NAMESPACE, "value": "attested"}],
        "include-controls": included,
    }


def _token(text: str) -> str:
    """OSCAL's token: a letter or underscore, then letters, digits, dot, hyphen, underscore."""
    token = re.sub(r"[^A-Za-z0-9._-]", "_", text)
    return token if re.match(r"[A-Za-z_]", token) else f"_{token}"


def _observation(
    seed: str, summary: RuleSummary, state: State, found: list[Finding], moment: str
) -> dict[str, Any]:
    rule = summary.rule
    observation: dict[str, Any] = {
        "uuid": _uuid(seed, "observation", summary.pack_id, rule.id, state.value),
        "title": visible(f"{rule.id}: {state.value}"),
        "description": visible(
            f"{rule.title}: {state.value} for {summary.counts[state]} of {summary.subjects}. "
            f"Does not show: {rule.does_not_show}"
        ),
        "methods": ["TEST-AUTOMATED"],
        "types": ["finding" if state is not State.PASS else "control-objective"],
        "collected": moment,
        "remarks": visible(place(rule.at)),
    }
    if found:
        observation["subjects"] = [
            {
                "subject-uuid": _uuid("subject", f.subject.kind.value, f.subject.key),
                "type": "inventory-item",
            }
            for f in found[:SUBJECTS]
        ]
        observation["relevant-evidence"] = [
            {"description": shown(_evidence(finding), 1000)} for finding in found[:SUBJECTS]
        ]
    return observation


def _evidence(finding: Finding) -> str:
    seen = (
        f"{o.fact}: {'missing' if o.observed is None else o.observed}, expected {o.expected} ({o.read_from})"
        for o in finding.observations
    )
    return "; ".join(seen) or finding.message or finding.rule_id


def _finding(seed: str, summary: RuleSummary, state: State) -> dict[str, Any]:
    rule = summary.rule
    status: dict[str, str] = {"state": "not-satisfied", "reason": "fail"}
    if state is not State.FAIL:
        status = {"state": "not-satisfied", "reason": "other", "remarks": _OPEN[state]}
    return {
        "uuid": _uuid(seed, "finding", summary.pack_id, rule.id, state.value),
        "title": visible(f"{rule.id} {rule.title}"),
        "description": visible(f"{rule.rationale} What to do: {rule.remediation}"),
        "target": {"type": "objective-id", "target-id": _token(rule.id), "status": status},
        "related-observations": [
            {"observation-uuid": _uuid(seed, "observation", summary.pack_id, rule.id, state.value)}
        ],
        "remarks": rule.severity.value,
    }
