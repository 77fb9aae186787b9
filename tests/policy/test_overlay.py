"""Overlays: stricter needs no word, laxer is listed, and the pack underneath is the one that was read."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_carbon.errors import PolicyError
from mlflow_carbon.policy.load import load_pack
from mlflow_carbon.policy.model import OnMissing, Severity
from tests.policy.conftest import HEAD, PackOf, ProblemsOf, policy_text

BASE = (
    HEAD.replace("org.example", "org.base")
    + """parameters:
  most: {type: number, default: 5}
  least: {type: number, default: 5}
  allowed: {type: list, default: [a, b]}
  denied: {type: list, default: [a, b]}
rules:
"""
)
RULE = """  - id: %s
    title: A title
    severity: high
    scope: run
    rationale: Because.
    controls: [{ref: nist-ai-rmf/MEASURE-2.12, relation: supports}]
    assert: %s
    finding: No.
    remediation: Do it.
    does_not_show: Much.
"""
RULES = {
    "A-1": "{metric: x, at_most: $most}",
    "A-2": "{metric: x, at_least: $least}",
    "A-3": "{tag: x, one_of: $allowed}",
    "A-4": "{tag: x, none_of: $denied}",
    "A-5": "{not: {metric: x, more_than: $most}}",
    "A-6": "{metric: x, at_most: {metric: y, times: $most}}",
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(BASE + "".join(RULE % pair for pair in RULES.items()))
    return path


def extending(body: str, ref: str = "base.yaml@1.0.0") -> str:
    return f"{HEAD}extends: {ref}\n{body}"


def test_an_overlay_has_the_rules_of_its_base_and_its_own(base: Path, pack_of: PackOf) -> None:
    own = "rules:\n" + RULE % ("B-1", "{tag: y, present: true}")
    pack = pack_of(extending(own))
    assert [rule.id for rule in pack.rules] == [*RULES, "B-1"]
    assert pack.id == "org.example"
    assert pack.loosened == ()


@pytest.mark.parametrize(
    ("values", "loosened"),
    [
        ("{most: 4}", ["A-6"]),
        ("{most: 6}", ["A-1", "A-5", "A-6"]),
        ("{least: 6}", []),
        ("{least: 4}", ["A-2"]),
        ("{allowed: [a]}", []),
        ("{allowed: [a, c]}", ["A-3"]),
        ("{denied: [a, b, c]}", []),
        ("{denied: [a]}", ["A-4"]),
    ],
)
def test_what_an_overlay_makes_laxer_or_cannot_be_told_is_listed(
    base: Path, pack_of: PackOf, values: str, loosened: list[str]
) -> None:
    pack = pack_of(extending(f"set: {values}\n"))
    assert [sentence.split(":")[0] for sentence in pack.loosened] == loosened


def test_severity_may_rise_in_silence_and_fall_with_a_reason(base: Path, pack_of: PackOf) -> None:
    adjust = (
        "adjust:\n"
        "  - {rule: A-1, severity: critical, because: It matters here.}\n"
        "  - {rule: A-2, severity: low, because: Not ours.}\n"
        "  - {rule: A-3, disable: true, because: No such tag.}\n"
    )
    pack = pack_of(extending(adjust))
    severities = {rule.id: rule.severity for rule in pack.rules}
    assert severities["A-1"] is Severity.CRITICAL
    assert severities["A-2"] is Severity.LOW
    assert "A-3" not in severities
    assert pack.loosened == ("A-2 is low, not high: Not ours.", "A-3 is switched off: No such tag.")


def test_letting_missing_evidence_pass_is_listed_with_its_reason(
    base: Path, pack_of: PackOf
) -> None:
    adjust = (
        "adjust:\n"
        "  - {rule: A-1, on_missing: fail, because: It matters here.}\n"
        "  - {rule: A-2, on_missing: pass-with-note, severity: low, because: Not ours.}\n"
    )
    pack = pack_of(extending(adjust))
    missing = {rule.id: rule.on_missing for rule in pack.rules}
    assert (missing["A-1"], missing["A-2"]) == (OnMissing.FAIL, OnMissing.PASS_WITH_NOTE)
    assert pack.loosened == (
        "A-2 is low, not high: Not ours.",
        "A-2 is pass-with-note, not no_evidence, if evidence is missing: Not ours.",
    )


@pytest.mark.parametrize(
    ("body", "ref", "said"),
    [
        ("", "base.yaml@1.0.1", "is version 1.0.0 here, not 1.0.1"),
        ("", f"base.yaml@1.0.0#{'0' * 64}", "is not the one named: its SHA-256 is"),
        ("", "base.yaml", "write it like 'baseline@1.0.0'"),
        ("", "baselin@1.0.0", "Did you mean 'baseline'?"),
        ("", "../base.yaml@1.0.0", "names no pack"),
        ("", "/etc/passwd@1.0.0", "names no pack"),
        ("", "policy.yaml@1.0.0", "in a circle"),
        ("set: {mots: 4}\n", "base.yaml@1.0.0", "Did you mean 'most'?"),
        ("adjust: [{rule: A-9, severity: low, because: x y}]\n", "base.yaml@1.0.0", "no such rule"),
        ("adjust: [{rule: A-1, disable: true}]\n", "base.yaml@1.0.0", "lacks the key 'because'"),
        (
            "adjust: [{rule: A-1, because: x y}]\n",
            "base.yaml@1.0.0",
            "sets 'severity', 'on_missing' or",
        ),
    ],
)
def test_an_overlay_that_does_not_fit_its_base_is_refused(
    base: Path, problems_of: ProblemsOf, body: str, ref: str, said: str
) -> None:
    found = problems_of(extending(body, ref))
    assert any(said in one for one in found), found


def test_the_text_of_the_base_can_be_pinned_by_its_hash(base: Path, pack_of: PackOf) -> None:
    digest = load_pack(base).sha256
    text = extending("", f"base.yaml@1.0.0#{digest}")
    assert pack_of(text).rules
    base.write_text(base.read_text().replace("default: 5", "default: 500"))
    with pytest.raises(PolicyError, match="is not the one named"):
        pack_of(text)


def test_values_have_a_use_only_with_a_base(problems_of: ProblemsOf) -> None:
    text = policy_text("assert: {metric: a, at_most: 1}", head="set: {a: 1}\n")
    assert any("only with 'extends'" in one for one in problems_of(text))
