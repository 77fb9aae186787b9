"""An audit against an earlier one, by the report it left behind."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from mlflow_carbon.audit.baseline import OPEN, compare, read_report
from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.errors import DataError
from mlflow_carbon.policy.model import State
from mlflow_carbon.report import json as report_json
from mlflow_carbon.report import sarif
from tests.report.sample import AS_OF, make_audit


def _later(audit: Audit, before: Audit, days: int) -> Audit:
    earlier = read_report(report_json.render(before), "before")
    change = compare(audit.findings, audit.findings_left_out, earlier)
    return replace(audit, as_of=AS_OF + timedelta(days=days), change=change)


def _first_open_passes(audit: Audit) -> Audit:
    opened = next(f for f in audit.findings if f.state in OPEN)
    found = tuple(replace(f, state=State.PASS) if f is opened else f for f in audit.findings)
    return replace(audit, findings=found)


def test_nothing_changed_is_nothing_new() -> None:
    audit = make_audit()
    change = _later(audit, audit, 7).change
    assert change is not None
    assert (len(change.new), change.resolved) == (0, 0)
    assert len(change.remaining) == len({f.identity for f in audit.findings if f.state in OPEN})


def test_what_was_mended_is_resolved_and_what_appeared_is_new() -> None:
    audit = make_audit()
    mended = _first_open_passes(audit)
    forward, backward = _later(mended, audit, 7).change, _later(audit, mended, 7).change
    assert forward is not None
    assert backward is not None
    assert (forward.resolved, len(forward.new)) == (1, 0)
    assert (backward.resolved, len(backward.new)) == (0, 1)


def test_a_finding_keeps_the_date_it_was_first_open_over_several_audits() -> None:
    first = _first_open_passes(replace(make_audit(), change=None))
    second = _later(make_audit(), first, 7)
    third = _later(make_audit(), second, 14)
    assert third.change is not None
    assert third.change.oldest == AS_OF
    since = {
        f["identity"]: f["open_since"] for f in json.loads(report_json.render(third))["findings"]
    }
    opened = next(f for f in make_audit().findings if f.state in OPEN)
    assert since[opened.identity].startswith((AS_OF + timedelta(days=7)).date().isoformat())
    assert {since[f.identity] for f in third.findings if f.state is State.PASS} == {None}


def test_sarif_marks_what_is_new() -> None:
    first = _first_open_passes(replace(make_audit(), change=None))
    second = _later(make_audit(), first, 7)
    (run,) = json.loads(sarif.render(second))["runs"]
    states = [r["baselineState"] for r in run["results"] if "baselineState" in r]
    assert states.count("new") == 1
    assert "unchanged" in states


def test_an_audit_that_lists_only_its_worst_says_the_comparison_is_part() -> None:
    audit = make_audit()
    change = _later(replace(audit, findings_left_out=5), audit, 1).change
    assert change is not None
    assert not change.complete


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"$schema": "urn:other"}',
        b'{"$schema": "urn:mlflow-carbon:report:1.0"}',
        b"\xff",
    ],
)
def test_a_file_that_is_no_report_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="before"):
        read_report(content, "before")
