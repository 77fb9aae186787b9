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
