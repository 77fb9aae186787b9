"""OSCAL assessment results, read with the models of the OSCAL project (needs Python 3.11: see conftest)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from trestle.oscal.assessment_results import AssessmentResults

from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.policy.model import ControlRef, Relation, State
from mlflow_carbon.report.oscal import render


def test_oscal_is_valid_against_nists_model(written: dict[str, Path], audit: Audit) -> None:
    data = json.loads(written["oscal"].read_text())
    read = AssessmentResults.model_validate(data["assessment-results"])
    (result,) = read.results
    groups = sum(
        bool(s.counts[state])
        for s in audit.rules
        for state in State
        if state is not State.NOT_APPLICABLE
    )
    assert len(result.observations) == groups


def test_oscal_never_says_that_a_control_is_met(written: dict[str, Path], audit: Audit) -> None:
    (result,) = json.loads(written["oscal"].read_text())["assessment-results"]["results"]
    states = {finding["target"]["status"]["state"] for finding in result["findings"]}
    assert states == {"not-satisfied"}
    reasons = [f["target"]["status"] for f in result["findings"]]
    undecided = [status for status in reasons if status["reason"] == "other"]
    assert undecided
    assert all("remarks" in status for status in undecided)


def test_every_reference_leads_to_something_in_the_file(written: dict[str, Path]) -> None:
    document = json.loads(written["oscal"].read_text())["assessment-results"]
    (result,) = document["results"]
    known = {o["uuid"] for o in result["observations"]}
    items = {i["uuid"] for i in result["local-definitions"]["inventory-items"]}
    for finding in result["findings"]:
        assert {o["observation-uuid"] for o in finding["related-observations"]} <= known
    for observation in result["observations"]:
        assert {s["subject-uuid"] for s in observation.get("subjects", ())} <= items
    assert document["import-ap"]["href"] == "#" + document["back-matter"]["resources"][0]["uuid"]


def test_controls_that_are_attested_only_stand_apart_from_those_answered_from_records(
    audit: Audit,
) -> None:
    asked = next(one for one in audit.rules if one.rule.attest is not None)
    passed = replace(asked, counts={**dict.fromkeys(State, 0), State.PASS: 2})
    controls = (ControlRef("nist-ai-rmf", "GOVERN-1.1", Relation.INFORMS), asked.rule.controls[1])
    read = replace(passed, rule=replace(asked.rule, id="MOD-099", attest=None, controls=controls))
    data = json.loads(render(replace(audit, rules=(passed, read), findings=())))
    (result,) = AssessmentResults.model_validate(data["assessment-results"]).results
    told = {
        tuple(control.control_id for control in one.include_controls): (
            one.description,
            [(prop.name, prop.value) for prop in one.props or ()],
        )
        for one in result.reviewed_controls.control_selections
    }
    others = "those in no selection were not assessed."
    assert told == {
        ("MANAGE-1.1",): (
            "Controls of nist-ai-rmf attested only: what passed rests on named persons' statements alone.",
            [("outcome", "attested")],
        ),
        ("Art-11",): (f"Controls of eu-ai-act that the rules bear on; {others}", []),
        ("GOVERN-1.1",): (f"Controls of nist-ai-rmf that the rules bear on; {others}", []),
    }
