"""The shipped packs: sound, tested, in honest words."""

from __future__ import annotations

import re

import pytest

from mlflow_carbon import resources
from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.policy.load import load_pack, shipped_packs
from mlflow_carbon.policy.message import render
from mlflow_carbon.policy.selftest import run_tests

PACKS = sorted(shipped_packs())
BANNED = re.compile(
    r"complian(?:t|ce with)|certified|satisf(?:y|ies)|meets the requirements of", re.IGNORECASE
)


@pytest.mark.parametrize("name", PACKS)
def test_every_case_of_every_rule_answers_as_its_author_says_and_none_is_lacking(name: str) -> None:
    outcome = run_tests(load_pack(name))
    wrong = [
        (case.rule.id, case.test.name, case.answer) for case in outcome.cases if not case.passed
    ]
    assert wrong == []
    assert outcome.gaps == ()


@pytest.mark.parametrize("name", PACKS)
def test_a_sentence_about_a_missing_figure_has_no_unit_left_over(name: str) -> None:
    for rule in load_pack(name).rules:
        told = render(rule.finding, lambda _namespace, _key: None)
        left_over = r"\(not on record\) (J|kWh|kg|g|mg|s|%|g/kWh|days|hours|ago)\b"
        assert not re.search(left_over, told), rule.id


def test_a_regression_without_a_figure_of_energy_reads_as_a_sentence() -> None:
    rule = next(rule for rule in load_pack("nist-ai-rmf-core").rules if rule.id == "EVL-005")
    known = {
        ("baseline.version", "version"): "3", ("each", "name"): "accuracy", ("each", "value"): 0.91,
        ("each", "baseline"): 0.95, ("baseline.metric", "inference/joules_per_prediction"): 0.8,
    }  # fmt: skip
    assert render(rule.finding, lambda namespace, key: known.get((namespace, key))) == (
        "Worse than version 3 beyond tolerance: accuracy fell from 0.95 to 0.91; "
        "energy per prediction (not on record), the champion's 0.8 J."
    )


@pytest.mark.parametrize("path", sorted(resources.policies().rglob("*.yaml")), ids=lambda p: p.stem)
def test_no_pack_or_framework_claims_more_than_evidence(path: object) -> None:
    assert BANNED.findall(path.read_text()) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", PACKS)
def test_every_rule_says_why_what_to_do_and_what_it_does_not_show(name: str) -> None:
    for rule in load_pack(name).rules:
        assert min(map(len, (rule.rationale, rule.remediation, rule.does_not_show))) > 20, rule.id
        assert rule.controls, rule.id


def test_the_gate_asks_only_about_model_versions_and_pairs() -> None:
    pack = load_pack("promotion-gate")
    assert pack.gate is not None
    assert pack.gate.aliases == ("champion",)
    assert {rule.scope for rule in pack.rules} <= {SubjectKind.MODEL_VERSION, SubjectKind.PAIR}


def test_packs_audited_together_do_not_ask_the_same_twice() -> None:
    baseline = {rule.id for rule in load_pack("baseline").rules}
    core = {rule.id for rule in load_pack("nist-ai-rmf-core").rules}
    assert not baseline & core


CATALOGUE = {
    f"{family}-{number:03}"
    for family, count in {
        "ENE": 9,
        "CAR": 5,
        "EFF": 5,
        "DAT": 12,
        "EVL": 6,
        "SEC": 5,
        "DOC": 4,
        "GOV": 4,
        "REL": 2,
        "MON": 1,
        "INT": 4,
    }.items()
    for number in range(1, count + 1)
}


def test_all_57_rules_of_the_catalogue_ship_in_six_packs_each_written_once() -> None:
    written = [
        rule.id
        for name, path in shipped_packs().items()
        for rule in load_pack(name).rules
        if rule.at.file == str(path)
    ]
    assert len(PACKS) == 6
    assert len(CATALOGUE) == 57
    assert len(written) == len(set(written))
    assert set(written) >= CATALOGUE


def test_the_baseline_has_16_rules() -> None:
    assert len(load_pack("baseline").rules) == 16


THEMES = {
    "energy of training": ("ENE-001", "ENE-008"),
    "discrepancy between trackers": ("ENE-009",),
    "benchmarks beyond accuracy": ("EFF-001", "EFF-002"),
    "robustness": ("EVL-003",),
    "inference cost": ("EFF-003",),
    "quantisation, pruning, distillation": ("EFF-004", "EFF-005"),
    "cloud and on-premises": ("CAR-002", "CAR-005"),
    "data quality, bias, contaminants": ("DAT-007", "DAT-008", "EVL-004"),
    "license, copyright, leakage": ("DAT-003", "DAT-004", "DAT-012"),
    "documentation": ("DOC-001", "DOC-002"),
    "monitoring and drift": ("MON-001",),
    "rollback": ("REL-002",),
    "poisoning and backdoors": ("SEC-003", "DAT-011", "INT-002"),
    "silent regressions": ("EVL-005",),
    "hidden compliance cost": ("EFF-006",),
    "transparency": ("DOC-003",),
    "periodic audits": ("GOV-002", "GOV-004"),
    "stakeholders": ("GOV-001", "REL-001"),
}


@pytest.mark.parametrize("theme", THEMES)
def test_the_theme_has_a_rule(theme: str) -> None:
    shipped = {rule.id for name in PACKS for rule in load_pack(name).rules}
    assert set(THEMES[theme]) <= shipped
