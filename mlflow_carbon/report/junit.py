"""Findings as JUnit XML, for CI systems: a suite for each rule, a case for each subject.

The first suite has the selection as its properties: only suites and cases can have any.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.policy.model import State
from mlflow_carbon.report.json import selection_words
from mlflow_carbon.report.shown import place, shown, visible

_ELEMENT = {State.FAIL: "failure", State.ERROR: "error"}
_SILENT = {State.PASS}


def render(audit: Audit) -> bytes:
    """Failures and errors are those; what is undecided, waived or not applicable is skipped and says why."""
    root = ET.Element("testsuites", name="mlflow-carbon")
    by_rule: dict[tuple[str, str], list[Finding]] = {}
    for finding in audit.findings:
        by_rule.setdefault((finding.pack_id, finding.rule_id), []).append(finding)
    moment = audit.as_of.strftime("%Y-%m-%dT%H:%M:%S")
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for summary in audit.rules:
        found = by_rule.get((summary.pack_id, summary.rule.id), [])
        counts = {
            "tests": len(found),
            "failures": sum(f.state is State.FAIL for f in found),
            "errors": sum(f.state is State.ERROR for f in found),
            "skipped": sum(f.state not in {State.PASS, State.FAIL, State.ERROR} for f in found),
        }
        suite = ET.SubElement(
            root,
            "testsuite",
            name=visible(f"{summary.rule.id} {summary.rule.title}"),
            timestamp=moment,
            hostname="mlflow-carbon",
            time="0",
        )
        suite.attrib.update({key: str(value) for key, value in counts.items()})
        if suite is root[0]:
            properties = ET.SubElement(suite, "properties")
            for name, value in selection_words(audit.selection).items():
                ET.SubElement(properties, "property", name=f"selection.{name}", value=value)
        totals = {key: totals[key] + counts[key] for key in totals}
        for finding in found:
            _case(suite, finding)
    root.attrib.update({key: str(value) for key, value in totals.items()})
    ET.indent(root)
    body: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return body + b"\n"


def _case(suite: ET.Element, finding: Finding) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=visible(f"{finding.pack_id}.{finding.rule_id}"),
        name=shown(
            f"{finding.subject.kind.value} {finding.subject.label} ({finding.subject.key})", 400
        ),
        time="0",
    )
    if finding.state in _SILENT:
        return
    message = shown(f"{finding.state.value}: {finding.message}", 400)
    tag = _ELEMENT.get(finding.state, "skipped")
    if tag == "skipped":
        ET.SubElement(case, tag, message=message)
        return
    detail = ET.SubElement(case, tag, message=message, type=finding.severity.value)
    seen = (
        f"{o.fact}: {'missing' if o.observed is None else o.observed}, expected {o.expected} ({o.read_from})"
        for o in finding.observations
    )
    detail.text = visible("; ".join((*seen, finding.remediation, place(finding.at))))
