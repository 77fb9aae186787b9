"""Evidence that is missing: the gate closes, unless the rule itself lets that pass with a note."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mlflow_carbon.evidence.model import Evidence, Fact, Subject, SubjectKind
from mlflow_carbon.gate.decision import Decision, decide
from mlflow_carbon.gate.output import junit
from mlflow_carbon.policy.load import load_pack
from mlflow_carbon.policy.model import Pack, State
from tests.gate import policy_files

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
NOTE = "The policy lets this pass with a note."


def policy(folder: Path, on_missing: str, scope: str = "model_version") -> Pack:
    """The review rule, put to ``scope``, with what it says about missing evidence."""
    rule = f"scope: {scope}\n    on_missing: {on_missing}"
    text = policy_files.REVIEWED.replace("scope: model_version", rule, 1)
    if scope == "dataset_input":
        text = text.replace("version_tag: review", "tag: review").replace("version_tag:", "tag:")
    return load_pack(str(policy_files.write(folder, text)))


def decided(pack: Pack, review: str | None) -> Decision:
    known = {"tag.owner": "ana"} | ({"version_tag.review": review} if review else {})
    subject = Subject(SubjectKind.MODEL_VERSION, "credit/1", "credit version 1")
    facts = {name: Fact(value, "test") for name, value in known.items()}
    return decide(pack, Evidence(subject, facts), NOW)


@pytest.mark.parametrize("on_missing", ["fail", "no_evidence"])
def test_missing_evidence_closes_the_gate(tmp_path: Path, on_missing: str) -> None:
    decision = decided(policy(tmp_path, on_missing), None)
    assert not decision.allowed
    assert [finding.state.value for finding in decision.blocking] == [on_missing]


@pytest.mark.parametrize("scope", ["model_version", "dataset_input"])
def test_a_rule_can_let_missing_evidence_pass_and_it_never_reads_as_a_pass(
    tmp_path: Path, scope: str
) -> None:
    pack = policy(tmp_path, "pass-with-note", scope)
    decision = decided(pack, None)
    assert decision.allowed
    found = next(finding for finding in decision.findings if finding.rule_id == "REV-001")
    assert found.state is State.NO_EVIDENCE
    assert found.message.endswith(NOTE)
    cases = ElementTree.fromstring(junit("credit 1", pack, decision, ())).iter("testcase")
    [skipped] = [case.find("skipped") for case in cases if "REV-001" in case.attrib["name"]]
    assert skipped is not None
    assert skipped.attrib["message"].endswith(NOTE)


def test_what_is_known_to_be_wrong_is_not_let_pass(tmp_path: Path) -> None:
    decision = decided(policy(tmp_path, "pass-with-note"), "failed")
    assert not decision.allowed
    assert [finding.state for finding in decision.blocking] == [State.FAIL]
