"""``mlflow-carbon policy`` as a person at a terminal meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.policy.conftest import policy_text

BUDGET = "assert: {metric: carbon/energy_kwh, at_most: 5}"
CASES = """tests:
  - {name: inside, given: {metric.carbon/energy_kwh: 5}, expect: pass}
  - {name: above, given: {metric.carbon/energy_kwh: 6}, expect: fail}
  - {name: unknown, given: {}, expect: no_evidence}
"""


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlflow_carbon.cli", "policy", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_unreadable_policy_ends_with_code_2_and_tells_place_and_suggestion(
    tmp_path: Path,
) -> None:
    (tmp_path / "budget.yaml").write_text(policy_text(BUDGET.replace("energy_kwh", "energy_kj")))
    done = run("check", "baseline", "budget.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout.startswith("baseline: sound;")
    assert done.stderr.startswith("budget.yaml:12:22: the metric 'carbon/energy_kj' is not one")
    assert "Did you mean 'carbon/energy_kwh'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_cases_of_a_policy_are_run_and_a_wrong_one_ends_with_code_1(tmp_path: Path) -> None:
    path = tmp_path / "budget.yaml"
    path.write_text(policy_text(f"{BUDGET}\n{CASES}"))
    assert run("test", "budget.yaml", cwd=tmp_path).returncode == 0
    path.write_text(policy_text(f"{BUDGET}\n{CASES}").replace("at_most: 5", "at_most: 7"))
    done = run("test", "budget.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "budget.yaml:15:9: ENE-900 'above': expected fail, got pass." in done.stdout


@pytest.mark.parametrize(
    ("lost", "gap"),
    [
        ("expect: pass", "has no case that passes"),
        ("expect: fail", "has no case that fails"),
        ("expect: no_evidence", "has no case where evidence is missing"),
    ],
)
def test_a_rule_without_a_pass_a_fail_and_a_missing_case_is_reported(
    tmp_path: Path, lost: str, gap: str
) -> None:
    kept = "".join(line for line in CASES.splitlines(keepends=True) if lost not in line)
    (tmp_path / "budget.yaml").write_text(policy_text(f"{BUDGET}\n{kept}"))
    done = run("test", "budget.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert gap in done.stdout


def test_a_comparison_that_no_case_depends_on_is_reported(tmp_path: Path) -> None:
    body = "assert: {all: [{metric: carbon/energy_kwh, at_most: 5}, {metric: a, at_most: 1}]}"
    cases = CASES.replace("energy_kwh: ", "energy_kwh: ").replace("kwh: 5}", "kwh: 5, metric.a: 0}")
    cases = cases.replace("kwh: 6}", "kwh: 6, metric.a: 0}")
    (tmp_path / "two.yaml").write_text(policy_text(f"{body}\n{cases}"))
    done = run("test", "two.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "ENE-900 (line 12): no case depends on 'metric.a at_most'" in done.stdout


def test_the_shipped_packs_are_listed_for_people_and_for_programs(tmp_path: Path) -> None:
    assert "promotion-gate" in run("list", cwd=tmp_path).stdout
    listed = json.loads(run("list", "--json", cwd=tmp_path).stdout)
    assert {"baseline", "nist-ai-rmf-core", "promotion-gate"} <= {one["name"] for one in listed}


def test_a_rule_is_shown_in_plain_words(tmp_path: Path) -> None:
    shown = run("show", "nist-ai-rmf-core", "DAT-003", cwd=tmp_path).stdout
    assert "dataset license is an SPDX license expression" in shown
    assert "A pass does not show: That the declaration is true" in shown
    unknown = run("show", "nist-ai-rmf-core", "DAT-999", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "has no rule DAT-999" in unknown.stderr


def test_a_new_policy_is_sound_tested_and_never_overwrites(tmp_path: Path) -> None:
    assert run("new", "mine.yaml", cwd=tmp_path).returncode == 0
    assert run("check", "mine.yaml", cwd=tmp_path).returncode == 0
    assert run("test", "mine.yaml", cwd=tmp_path).returncode == 0
    again = run("new", "mine.yaml", cwd=tmp_path)
    assert again.returncode == 4
    assert "exists already and was left alone" in again.stderr


def test_the_cases_are_reported_to_ci_as_junit(tmp_path: Path) -> None:
    text = policy_text(f"{BUDGET}\n{CASES}").replace("at_most: 5", "at_most: 7")
    (tmp_path / "budget.yaml").write_text(text)
    assert run("test", "budget.yaml", "--junit", "out.xml", cwd=tmp_path).returncode == 1
    suite = ElementTree.parse(tmp_path / "out.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("4", "2")
    failed = [case.get("name") for case in suite if len(case)]
    assert failed == ["above", "gap 1"]


def test_the_differences_of_two_policies_are_told_by_meaning_not_by_place(tmp_path: Path) -> None:
    old = policy_text(BUDGET)
    (tmp_path / "old.yaml").write_text(old)
    (tmp_path / "same.yaml").write_text(f"# moved\n{old}")
    new = old.replace("at_most: 5", "at_most: 7").replace("severity: high", "severity: low")
    (tmp_path / "new.yaml").write_text(new)
    same = run("diff", "old.yaml", "same.yaml", cwd=tmp_path)
    assert same.stdout == "0 differences in the rules\n"
    assert run("diff", "old.yaml", "new.yaml", cwd=tmp_path).stdout.splitlines() == [
        "ENE-900: assert: metric carbon/energy_kwh is at most 5 -> metric carbon/energy_kwh is at most 7",
        "ENE-900: severity high -> low",
        "2 differences in the rules",
    ]


def test_what_a_condition_gained_or_lost_is_told_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(policy_text(BUDGET))
    both = "when: {tag: phase, equals: training}\nassert: {all: [{metric: carbon/energy_kwh, at_most: 5}, {tag: a, equals: x}]}"
    (tmp_path / "new.yaml").write_text(policy_text(both))
    assert run("diff", "old.yaml", "new.yaml", cwd=tmp_path).stdout.splitlines()[:2] == [
        "ENE-900: assert: metric carbon/energy_kwh is at most 5"
        " -> all of; metric carbon/energy_kwh is at most 5; tag a is x",
        "ENE-900: when: nothing -> tag phase is training",
    ]


def test_check_names_expired_waivers_and_that_no_rule_looks_at_them(tmp_path: Path) -> None:
    waiver = (
        "waivers:\n  - {id: W-1, rules: [ENE-900], reason: r, requested_by: a, approved_by: b,\n"
        "     approved_on: 2026-01-01, expires: 2026-02-01}\n"
    )
    (tmp_path / "p.yaml").write_text(policy_text(BUDGET, tail=waiver))
    done = run("check", "p.yaml", cwd=tmp_path)
    assert done.returncode == 0
    assert "waiver W-1 has no force: it expired on 2026-02-01" in done.stdout
    assert "{rule: nist-ai-rmf-core/GOV-003}" in done.stdout
    watched = "use: [{rule: nist-ai-rmf-core/GOV-003}]\n"
    (tmp_path / "p.yaml").write_text(policy_text(BUDGET, head=watched, tail=waiver))
    assert "GOV-003" not in run("check", "p.yaml", cwd=tmp_path).stdout


def test_the_crosswalk_shows_also_the_controls_without_any_rule(tmp_path: Path) -> None:
    shown = run("coverage", "baseline", "nist-ai-rmf-core", cwd=tmp_path).stdout
    assert "of 72 controls" in shown
    assert "GOVERN-3.1    N    not assessable" in shown
    assert "GOVERN-2.2    A    no rule" in shown
    listed = json.loads(run("coverage", "--json", cwd=tmp_path).stdout)
    assert len(listed["nist-ai-rmf@1.0"]) == 72
    assert "ENE-001 (supports)" in listed["eu-ai-act@2024-1689"]["AnnexXI-1.2(e)"]


def test_the_crosswalk_tells_controls_that_are_attested_only_apart(tmp_path: Path) -> None:
    asked = "attest: {statement: reviewed, asks: I reviewed it., max_age_days: 90}"
    text = policy_text(asked, scope="model_version").replace("MEASURE-2.12", "GOVERN-2.2")
    (tmp_path / "asked.yaml").write_text(text)
    (tmp_path / "read.yaml").write_text(policy_text(BUDGET).replace("ENE-900", "ENE-901"))
    shown = run("coverage", "asked.yaml", "read.yaml", cwd=tmp_path).stdout
    assert "rules bear on 2 of 72 controls, 1 of them attested only." in shown
    assert "GOVERN-2.2    A    ENE-900 (supports, attested); attested only\n" in shown
    assert "MEASURE-2.12  M    ENE-901 (supports)\n" in shown
    (tmp_path / "read.yaml").write_text(text.replace(asked, BUDGET).replace("model_version", "run"))
    shown = run("coverage", "asked.yaml", "read.yaml", cwd=tmp_path).stdout
    assert "GOVERN-2.2    A    ENE-900 (supports, attested), ENE-900 (supports)\n" in shown
    listed = json.loads(run("coverage", "asked.yaml", "--json", cwd=tmp_path).stdout)
    assert listed["nist-ai-rmf@1.0"]["GOVERN-2.2"] == ["A", "ENE-900 (supports, attested)"]
