"""Findings as SARIF 2.1.0 (OASIS), for code scanning and IDEs.

What has no evidence is ``open``, what waits for a person is ``review``: neither is a pass.
A rule that could not be evaluated is a notification of the tool.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from urllib.parse import quote

from mlflow_carbon.audit.baseline import OPEN
from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.summary import Audit, RuleSummary
from mlflow_carbon.policy.model import Pack, Severity, State
from mlflow_carbon.report.json import selection
from mlflow_carbon.report.shown import visible
from mlflow_carbon.resources import told

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVEL = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
}
# SARIF 2.1.0, 3.27.9: "open" means there was not enough information to decide.
_KIND = {
    State.PASS: "pass",
    State.FAIL: "fail",
    State.NO_EVIDENCE: "open",
    State.NOT_APPLICABLE: "notApplicable",
    State.NEEDS_ATTESTATION: "review",
    State.ERROR: "open",
}


def render(audit: Audit) -> bytes:
    """One run with one rule for each rule; errors are notifications."""
    names = _names(audit)
    index = {key: place for place, key in enumerate(names)}
    waivers = {waiver.id: waiver for pack in audit.packs for waiver in pack.waivers}
    errors = [finding for finding in audit.findings if finding.state is State.ERROR]
    results = []
    for finding in audit.findings:
        if finding.state is State.ERROR:
            continue
        key = (finding.pack_id, finding.rule_id)
        result = _result(finding, names[key], index[key])
        if finding.state is State.WAIVED:
            waiver = waivers.get(finding.waiver)
            result["suppressions"] = [
                {
                    "kind": "external",
                    "status": "accepted",
                    "justification": visible(
                        f"{finding.waiver}: {waiver.reason if waiver else ''}"
                    ),
                }
            ]
        if audit.change is not None and finding.state in OPEN:
            result["baselineState"] = "new" if finding.identity in audit.change.new else "unchanged"
        results.append(result)
    run = {
        "tool": {
            "driver": {
                "name": "mlflow-carbon",
                "version": audit.tool_version,
                "rules": [
                    _rule(summary, names[summary.pack_id, summary.rule.id])
                    for summary in audit.rules
                ],
                "properties": {"packs": [_pack(pack) for pack in audit.packs]},
            }
        },
        "invocations": [
            {
                "commandLine": audit.command,
                "executionSuccessful": not errors and not audit.selection.failed_to_read,
                "endTimeUtc": audit.as_of.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "toolExecutionNotifications": [
                    _notification(f, names[f.pack_id, f.rule_id]) for f in errors
                ],
                "properties": {"selection": selection(audit.selection)},
            }
        ],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, ensure_ascii=True, indent=1, allow_nan=False).encode() + b"\n"


def _names(audit: Audit) -> dict[tuple[str, str], str]:
    """One id for each rule; the pack's name is put in front where two packs use the same id."""
    used = Counter(summary.rule.id for summary in audit.rules)
    return {
        (s.pack_id, s.rule.id): s.rule.id if used[s.rule.id] == 1 else f"{s.pack_id}/{s.rule.id}"
        for s in audit.rules
    }


def _pack(pack: Pack) -> dict[str, str]:
    return {"id": pack.id, "version": pack.version, "sha256": pack.sha256}


def _rule(summary: RuleSummary, ident: str) -> dict[str, Any]:
    rule = summary.rule
    return {
        "id": ident,
        "shortDescription": {"text": visible(rule.title)},
        "fullDescription": {"text": visible(rule.rationale or rule.title)},
        "help": {
            "text": visible(f"{rule.remediation}\nA pass does not show: {rule.does_not_show}")
        },
        "defaultConfiguration": {"level": _LEVEL[rule.severity]},
        "properties": {
            "severity": rule.severity.value,
            "pack": summary.pack_id,
            "tags": [f"{ref.framework}/{ref.control}" for ref in rule.controls],
            "states": {state.value: summary.counts.get(state, 0) for state in State},
        },
    }


def _result(finding: Finding, ident: str, index: int) -> dict[str, Any]:
    state = finding.underlying or finding.state
    kind = _KIND.get(state, "open")
    return {
        "ruleId": ident,
        "ruleIndex": index,
        "kind": kind,
        "level": _LEVEL[finding.severity] if kind == "fail" else "none",
        "message": {"text": visible(finding.message) or finding.rule_id},
        "locations": [_location(finding)],
        "fingerprints": {"mlflowCarbon/v1": finding.identity},
        "properties": {
            "state": finding.state.value,
            "observations": [
                {
                    "fact": seen.fact,
                    "expected": seen.expected,
                    "observed": seen.observed,
                    "readFrom": seen.read_from,
                }
                for seen in finding.observations
            ],
        },
    }


def _location(finding: Finding) -> dict[str, Any]:
    """The subject as a logical location; the rule's place in its file as the physical one."""
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(told(finding.at.file))},
            "region": {
                "startLine": max(finding.at.line, 1),
                "startColumn": max(finding.at.column, 1),
            },
        },
        "logicalLocations": [
            {
                "name": visible(finding.subject.label),
                "fullyQualifiedName": visible(
                    f"{finding.subject.kind.value}/{finding.subject.key}"
                ),
                "kind": "resource",
            }
        ],
    }


def _uri(file: str) -> str:
    return quote(file.replace("\\", "/")) or "policy"


def _notification(finding: Finding, ident: str) -> dict[str, Any]:
    return {
        "level": "error",
        "message": {"text": visible(finding.message) or ident},
        "associatedRule": {"id": ident},
        "locations": [_location(finding)],
    }
