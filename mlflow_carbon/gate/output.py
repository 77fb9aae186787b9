"""A gate decision for CI: JUnit XML, and Markdown for a job's summary page."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from mlflow_carbon.gate.decision import Decision
from mlflow_carbon.gate.refusal import Violation, clean, told
from mlflow_carbon.policy.model import Pack, State

_TROUBLE = (State.ERROR.value,)


def junit(what: str, pack: Pack, decision: Decision, violations: Sequence[Violation]) -> str:
    """One test case for each answer; what blocks is a failure, what could not be evaluated an error."""
    blocking = {(one.rule, one.message): one for one in violations}
    suite = ElementTree.Element("testsuite", name=f"gate {pack.id} {pack.version}")
    counts = {"failure": 0, "error": 0, "skipped": 0}
    for finding in decision.findings:
        violation = blocking.pop((finding.rule_id, told(finding)), None)
        case = _case(suite, what, f"{finding.rule_id} {finding.title}")
        if violation:
            counts[_blocked(case, violation)] += 1
        elif finding.state is not State.PASS:
            ElementTree.SubElement(case, "skipped", message=clean(finding.message))
            counts["skipped"] += 1
    for violation in blocking.values():
        counts[_blocked(_case(suite, what, violation.rule), violation)] += 1
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(counts["failure"]))
    suite.set("errors", str(counts["error"]))
    suite.set("skipped", str(counts["skipped"]))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, what: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=clean(what), name=clean(name))


def _blocked(case: ElementTree.Element, violation: Violation) -> str:
    kind = "error" if violation.state in _TROUBLE else "failure"
    told = ElementTree.SubElement(case, kind, message=violation.message, type=violation.state)
    told.text = violation.fix
    return kind


def markdown(what: str, pack: Pack, allowed: bool, violations: Sequence[Violation]) -> str:
    """A heading, and a table of what stands in the way."""
    verdict = "may be promoted" if allowed else "may not be promoted"
    lines = [f"### {_cell(what)} {verdict}", "", f"Policy {_cell(pack.id)} {_cell(pack.version)}."]
    if violations:
        lines += [
            "",
            "| Rule | Severity | State | What was found | How to fix |",
            "|---|---|---|---|---|",
        ]
        for one in violations:
            cells = (one.rule, one.severity, one.state.replace("_", " "), one.message, one.fix)
            lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text that is only text: no markup, links, mentions or HTML of somebody else's making."""
    special = "\\`*_{}[]()<>#+-.!|~@&$"
    return "".join(f"&#{ord(c)};" if c in special else c for c in clean(text))
