"""OSCAL assessment results, read with the models of the OSCAL project (needs Python 3.11: see conftest)."""

from __future__ import annotations

import json
from pathlib import Path

from trestle.oscal.assessment_results import AssessmentResults

from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.policy.model import State


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
