"""The cases of packs as JUnit XML, for CI systems."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from mlflow_carbon.policy.selftest import SelfTest


def junit_xml(outcomes: Mapping[str, SelfTest]) -> bytes:
    """One suite per pack: a test case per case, and one per gap, which fails."""
    root = Element("testsuites")
    for name, outcome in outcomes.items():
        failed = [case for case in outcome.cases if not case.passed]
        count = len(outcome.cases) + len(outcome.gaps)
        suite = SubElement(
            root,
            "testsuite",
            name=_clean(name),
            tests=str(count),
            failures=str(len(failed) + len(outcome.gaps)),
        )
        for case in outcome.cases:
            element = SubElement(
                suite,
                "testcase",
                classname=_clean(f"{name}.{case.rule.id}"),
                name=_clean(case.test.name),
                file=_clean(case.test.at.file),
                line=str(case.test.at.line),
            )
            if not case.passed:
                said = f"expected {case.test.expect.value}, got {case.answer.state.value}"
                SubElement(element, "failure", message=said).text = _clean(case.answer.message)
        for number, gap in enumerate(outcome.gaps, 1):
            element = SubElement(suite, "testcase", classname=_clean(name), name=f"gap {number}")
            SubElement(element, "failure", message=_clean(gap))
    indent(root)
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _clean(text: str) -> str:
    """Without the characters XML 1.0 cannot hold."""
    return "".join(c if c in "\t\n" or c.isprintable() else "?" for c in text)
