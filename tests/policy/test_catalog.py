"""Framework data: right counts, right ids, own words."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from mlflow_carbon.errors import PolicyError
from mlflow_carbon.policy.catalog import frameworks, read_framework


def test_nist_ai_rmf_has_72_subcategories_in_four_functions() -> None:
    controls = frameworks()["nist-ai-rmf@1.0"].controls
    functions = Counter(control.split("-")[0] for control in controls)
    assert functions == {"GOVERN": 19, "MAP": 18, "MEASURE": 22, "MANAGE": 13}
    assert all(re.fullmatch(r"(GOVERN|MAP|MEASURE|MANAGE)-\d\.\d{1,2}", one) for one in controls)
    assert "MANAGE-3.3" not in controls
    assert "MANAGE-4.4" not in controls


def test_nist_ai_rmf_says_which_evidence_each_subcategory_can_have() -> None:
    classes = Counter(c.cls for c in frameworks()["nist-ai-rmf@1.0"].controls.values())
    assert classes == {"M": 9, "M+P": 17, "M+A": 12, "P": 11, "A": 21, "N": 2}


def test_a_framework_that_numbers_a_control_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    control = "  - {id: A-1, says: x y, class: M, evidence: a}\n"
    path.write_text(
        "id: f\nversion: '1'\ntitle: F\npublisher: P\nsource: S\nchecked_on: 2026-01-01\n"
        f"confirmed: true\ncontrols:\n{control}{control}"
    )
    with pytest.raises(PolicyError, match=r"f\.yaml:10:5: the control 'A-1' stands here twice"):
        read_framework(path)


def test_the_generative_profile_has_12_risks() -> None:
    controls = frameworks()["nist-ai-600-1@2024-07"].controls
    assert [one for one in controls if one.startswith("RISK-")] == [
        f"RISK-{n}" for n in range(1, 13)
    ]
    actions = [one for one in controls if not one.startswith("RISK-")]
    assert all(re.fullmatch(r"(GV|MP|MS|MG)-\d\.\d{1,2}-\d{3}", one) for one in actions)
    assert "GV-1.1-002" not in controls


def test_iso_42001_has_38_controls_under_nine_objectives_and_says_the_ids_are_unconfirmed() -> None:
    framework = frameworks()["iso-iec-42001@2023"]
    objectives = Counter(".".join(one.split(".")[:2]) for one in framework.controls)
    assert list(objectives.values()) == [3, 2, 5, 4, 9, 5, 4, 3, 3]
    assert "A.6.1.4" not in framework.controls
    assert not framework.confirmed
    assert "unconfirmed" in framework.note


def test_every_provision_of_the_ai_act_says_from_when_it_applies() -> None:
    framework = frameworks()["eu-ai-act@2024-1689"]
    assert all(control.applies_from for control in framework.controls.values())
    assert str(framework.controls["AnnexXI-1.2(e)"].applies_from) == "2025-08-02"
    assert str(framework.controls["Art.10(2)(f)"].applies_from) == "2027-12-02"
    assert "Check EUR-Lex" in framework.note
    assert not framework.confirmed


@pytest.mark.parametrize("ref", sorted(frameworks()))
def test_a_framework_names_its_source_and_when_it_was_checked(ref: str) -> None:
    framework = frameworks()[ref]
    assert framework.source
    assert framework.checked_on.year >= 2026
    assert all(len(control.says) < 160 for control in framework.controls.values())
