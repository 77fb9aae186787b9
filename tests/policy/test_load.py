"""What the loader accepts, and how it tells what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_carbon.errors import DataError, PolicyError
from mlflow_carbon.policy.load import load_pack
from mlflow_carbon.policy.model import Compare, Severity, State
from tests.policy.conftest import HEAD, PackOf, ProblemsOf, policy_text

BUDGET = "assert: {metric: carbon/energy_kwh, at_most: 5}"


def test_a_sound_policy_becomes_a_pack_with_its_place_and_hash(pack_of: PackOf) -> None:
    pack = pack_of(policy_text(BUDGET))
    rule = pack.rules[0]
    assert (pack.id, pack.version, pack.owner) == ("org.example", "1.0.0", "a@example.org")
    assert (rule.severity, rule.on_missing) == (Severity.HIGH, State.NO_EVIDENCE)
    assert isinstance(rule.condition, Compare)
    assert (rule.condition.at.line, rule.condition.at.column) == (12, 13)
    assert len(pack.sha256) == 64


def test_all_faults_of_a_file_are_told_at_once_each_at_its_line_and_column(
    problems_of: ProblemsOf,
) -> None:
    text = policy_text("asert: {metric: carbon/energy_kwh, at_mots: 5}").replace(
        "severity: high", "severity: hihg"
    )
    found = problems_of(text)
    assert len(found) == 3
    assert found[0].startswith("6:9: the rule has neither 'assert' nor 'attest'")
    assert found[1].startswith("8:15: ")
    assert found[1].endswith("Did you mean 'high'?")
    assert found[2].startswith("12:5: ")
    assert found[2].endswith("Did you mean 'assert'?")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("assert: {metric: carbon/energy_kwH, at_most: 5}", "Did you mean 'carbon/energy_kwh'?"),
        ("assert: {tag: mlflow_carbon.metod, equals: x}", "Did you mean 'mlflow_carbon.method'?"),
        ("assert: {param: mlflow_carbon.seal, equals: x}", "not one this package writes"),
        ("assert: {metric: accuracy, at_mots: 5}", "Did you mean 'at_most'?"),
        ("assert: {metrics: accuracy, at_most: 5}", "Did you mean 'metric'?"),
        ("assert: {run: statsu, equals: FINISHED}", "Did you mean 'status'?"),
        ("assert: {dataset: license, valid_spdx: true}", "has no 'dataset' facts"),
        ("assert: {baseline.metric: accuracy, at_most: 1}", "only rules of scope 'pair'"),
        ("assert: {metric: accuracy, matches: x}", "does not work on 'metric.accuracy', a number"),
        ("assert: {metric: accuracy, at_most: much}", "needs a number, not 'much'"),
        (
            "assert: {metric: accuracy, at_most: 5 kWh}",
            "Write 5: a plain number, no quotes, no unit",
        ),
        ("assert: {metric: accuracy, at_most: '0,5'}", "Write 0.5: a plain number"),
        ("assert: {metric: accuracy, <=: 5}", "Did you mean 'at_most'?"),
        ("assert: {tag: $name, absent: true}", "a parameter cannot stand for a name"),
        (
            "assert: {run: dataset_contexts, no_overlap_with: [2024]}",
            "put numbers, true and false in",
        ),
        ("assert: {tag: a, newer_than: 1e300}", "an age such as 30 days"),
        ("assert: {tag: a, newer_than: 999999999}", "an age such as 30 days"),
        ("assert: {metric: accuracy, equals: much}", "is a number; 'much' is not"),
        ("assert: {metric: accuracy, at_most: $limit}", "no parameter is called 'limit'"),
        ("assert: {metric: accuracy, at_most: 1, at_least: 0}", "use 'all:'"),
        ("assert: {metric: accuracy}", "has no operator"),
        ("assert: {at_most: 1}", "names no fact"),
        ("assert: {metric: a, tag: b, at_most: 1}", "names two facts"),
        ("assert: {all: []}", "at least one"),
        ("assert: {all: [{metric: a, at_most: 1}], any: []}", "cannot stand beside"),
        ("assert: {tag: a, present: false}", "needs true"),
        ("assert: {tag: a, between: [2, 1]}", "the smaller first"),
        ("assert: {tag: a, newer_than: soon}", "an age such as 30 days"),
        ('assert: {tag: a, matches: "(a"}', "not a usable pattern"),
        ('assert: {tag: a, matches: "(a)\\\\1"}', "not a usable pattern"),
        ("assert: {for_each: models, assert: {tag: a, present: true}}", "goes over datasets"),
        ("assert: {for_each: datasets}", "needs an 'assert'"),
        ("assert: 5", "must be a condition"),
        ("assert: {metric: a, within_percent_of: {percent: -1, of: 2}}", "at least 0"),
        ("assert: {metric: a, at_most: {metric: b, tims: 2}}", "Did you mean 'times'?"),
        ("assert: {metric: a, at_most: 1}\nattest: {statement: x, asks: y}", "both 'assert' and"),
        ("attest: {statement: x, asks: y}", "the scope must be model_version"),
    ],
)
def test_a_wrong_condition_is_refused_with_what_is_wrong(
    problems_of: ProblemsOf, body: str, expected: str
) -> None:
    found = problems_of(policy_text(body))
    assert any(expected in one for one in found), found


def test_the_yaml_surprises_of_old_do_not_apply(pack_of: PackOf) -> None:
    body = "assert: {tag: country, one_of: [NO, on, yes, 010, 12:30:45, 1_000, 0x10, 2026-01-01, E1, ., 1e999, 3.5, .5, 1., 7]}"
    condition = pack_of(policy_text(body)).rules[0].condition
    assert isinstance(condition, Compare)
    texts = [
        "NO",
        "on",
        "yes",
        "010",
        "12:30:45",
        "1_000",
        "0x10",
        "2026-01-01",
        "E1",
        ".",
        "1e999",
    ]
    expected = (*texts, 3.5, 0.5, 1.0, 7)
    assert condition.operand == expected


def test_a_key_written_twice_is_refused_and_names_the_first_line(problems_of: ProblemsOf) -> None:
    text = policy_text(f"{BUDGET}\n{BUDGET}")
    assert problems_of(text) == [
        "13:5: the key 'assert' stands here twice (first on line 12). Remove one."
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x [1]\nb: *x\n", "anchors (&) and aliases (*) are not allowed"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not allowed; tags"),
        ("a: !include /etc/passwd\n", "is not allowed; tags"),
        ("a: 1\n---\nb: 2\n", "one document"),
        ("- a\n", "a policy file is a mapping"),
        ("", "a policy file is a mapping"),
        ("a: [1\n", "not readable as YAML"),
        ("a:\n\t- b\n", "indent with spaces"),
        ("a: " + "[" * 60 + "]" * 60, "nested deeper than 40 levels"),
        ("a: \x07\n", "not readable as YAML"),
        ("a: '" + "x" * 2_100_000 + "'", "larger than"),
    ],
)
def test_text_that_is_no_plain_mapping_is_refused(
    problems_of: ProblemsOf, text: str, expected: str
) -> None:
    found = problems_of(text)
    assert any(expected in one for one in found), found


def test_a_file_that_is_not_text_is_refused_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"a: 1\nb: \xff\xfe\n")
    with pytest.raises(PolicyError, match=r"binary\.yaml:2:1: not UTF-8 text"):
        load_pack(path)


def test_a_name_that_is_neither_pack_nor_file_suggests_the_nearest_pack() -> None:
    with pytest.raises(DataError, match="Did you mean 'baseline'"):
        load_pack("basline")


def test_a_control_the_framework_does_not_have_is_refused(problems_of: ProblemsOf) -> None:
    text = policy_text(BUDGET).replace("MEASURE-2.12", "MANAGE-4.4")
    assert any("has no 'MANAGE-4.4'. Did you mean 'MANAGE-" in one for one in problems_of(text))


@pytest.mark.parametrize("word", ["satisfies", "fulfils", "complies-with"])
def test_there_is_no_word_for_a_rule_that_fulfils_a_control(
    problems_of: ProblemsOf, word: str
) -> None:
    text = policy_text(BUDGET).replace("relation: supports", f"relation: {word}")
    assert any("supports, partially-supports, informs" in one for one in problems_of(text))


PARAMETER = "parameters: {limit: {type: number, default: 5, minimum: 1, maximum: 9, unit: kWh}}\n"


@pytest.mark.parametrize("written", ["$limit", '"${limit}"', '"$limit"'])
def test_a_parameter_stands_for_its_value(pack_of: PackOf, written: str) -> None:
    body = f"assert: {{metric: accuracy, at_most: {written}}}"
    condition = pack_of(policy_text(body, head=PARAMETER)).rules[0].condition
    assert isinstance(condition, Compare)
    assert condition.operand == 5


def test_a_user_may_set_a_parameter_within_its_bounds(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        policy_text(
            "assert: {metric: accuracy, at_most: $limit}",
            head=PARAMETER,
            finding="Above {parameter:limit}.",
        )
    )
    rule = load_pack(path, {"limit": "7.5"}).rules[0]
    assert isinstance(rule.condition, Compare)
    assert rule.condition.operand == 7.5
    assert rule.finding == "Above 7.5 kWh."
    with pytest.raises(PolicyError, match="must be at most 9; it is 10"):
        load_pack(path, {"limit": 10})
    with pytest.raises(PolicyError, match="'nan' is not"):
        load_pack(path, {"limit": "nan"})
    with pytest.raises(PolicyError, match=r"no parameter 'limt' to set\. Did you mean 'limit'"):
        load_pack(path, {"limt": 3})


def test_a_parameter_cannot_look_as_if_it_changed_a_rule_taken_over(
    pack_of: PackOf, problems_of: ProblemsOf
) -> None:
    mine = "parameters: {max_energy_kwh: {type: number, default: 1}}\n"
    (found,) = problems_of(f"{HEAD}{mine}use: [{{rule: baseline/ENE-006}}]\n")
    assert "belongs to a rule taken over, which keeps its own value" in found
    other = pack_of(f"{HEAD}{mine}use: [{{rule: baseline/ENE-003}}]\n")
    assert list(other.parameters) == ["min_coverage", "max_gap_s", "max_energy_kwh"]


def test_an_attestation_cannot_be_asked_for_beyond_the_calendar(problems_of: ProblemsOf) -> None:
    body = "attest: {statement: x, asks: y, max_age_days: 999999999999}"
    (found,) = problems_of(policy_text(body, scope="model_version"))
    assert "a whole number from 1 to 100,000" in found


def test_an_unquoted_parameter_in_braces_is_explained(problems_of: ProblemsOf) -> None:
    text = policy_text("assert: {metric: accuracy, at_most: ${limit}}", head=PARAMETER)
    assert any('write a parameter as "${name}" in quotes' in one for one in problems_of(text))


def test_faults_behind_faults_are_told_in_the_same_reading(problems_of: ProblemsOf) -> None:
    body = "assert: {all: [{metric: carbon/energy_kw, at_most: $limt}, {tag: a, one_off: [x]}]}"
    text = policy_text(body, head=PARAMETER).replace(
        "MEASURE-2.12, relation: supports", "MEASURE-9.9, relation: proves"
    )
    found = "\n".join(problems_of(text))
    for said in (
        "Did you mean 'carbon/energy_kwh'?",
        "no parameter is called 'limt'. Did you mean 'limit'?",
        "'one_off' is neither a fact nor an operator. Did you mean 'one_of'?",
        "has no 'MEASURE-9.9'",
        "'relation' of control 'nist-ai-rmf/MEASURE-9.9' is 'proves'",
    ):
        assert said in found, said


def test_one_fault_is_told_once_and_not_by_its_consequences(problems_of: ProblemsOf) -> None:
    uses = "assert: {metric: a, at_most: $limit}"
    assert (
        len(problems_of(policy_text(uses, head=PARAMETER.replace("default: 5", "default: inf"))))
        == 1
    )
    lost = f"{HEAD}extends: nowhere.yaml@1.0.0\n{WAIVER}"
    assert len(problems_of(lost)) == 1


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (
            "{type: number, default: 5, minimum: 9, maximum: 1}",
            "a minimum, 9, above its maximum, 1",
        ),
        ("{type: text, default: a, minimum: 1}", "only a number has bounds"),
        ("{type: list, default: ['']}", "with no empty item"),
        ("{type: number, default: .nan}", "is a number; '.nan' is not"),
        ("{type: number, default: true}", "is a number; 'True' is not"),
    ],
)
def test_a_parameter_without_sense_is_refused(
    problems_of: ProblemsOf, declared: str, expected: str
) -> None:
    (found,) = problems_of(policy_text(BUDGET, head=f"parameters: {{p: {declared}}}\n"))
    assert expected in found


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("title: Energy is small", "title: Energy: small", "a second ': ' in one value"),
        ("    severity: high", "   severity: high", "look at the spaces at the start of the line"),
        ("remediation: Use less.", "remediation: 'Use it's less.'", "quotes inside quotes"),
        (
            "relation: supports}]",
            "relation: supports}",
            "the bracket opened on line 11 does not end",
        ),
        ('finding: "Too much."', 'finding: "Too much.', "the quote opened on line 13 does not end"),
        (
            "remediation: Use less.",
            "remediation: *",
            "a value that begins with * or & needs quotes",
        ),
    ],
)
def test_unreadable_yaml_is_explained_to_people_who_write_none(
    problems_of: ProblemsOf, old: str, new: str, expected: str
) -> None:
    text = policy_text(BUDGET)
    assert old in text
    (found,) = problems_of(text.replace(old, new, 1))
    assert expected in found


@pytest.mark.parametrize(
    "finding",
    ["{0}", "{metric}", "{metric.__class__}", "{x", "a } b", "{{metric:a}}"],
)
def test_a_finding_with_a_brace_that_is_no_place_is_refused(
    problems_of: ProblemsOf, finding: str
) -> None:
    found = problems_of(policy_text(BUDGET, finding=finding))
    assert any("brace" in one for one in found), found


def test_two_rules_with_one_id_are_refused(problems_of: ProblemsOf) -> None:
    text = policy_text(BUDGET)
    doubled = text + text.split("rules:\n")[1]
    assert any("the rule ENE-900 stands here twice" in one for one in problems_of(doubled))


def test_a_rule_taken_over_keeps_its_text_and_place(pack_of: PackOf) -> None:
    pack = pack_of(
        f"{HEAD}use:\n"
        "  - {rule: baseline/ENE-006, severity: low}\n"
        "  - {rule: data-provenance/DAT-003, scope: model_version}\n"
    )
    budget, license_ = pack.rules
    assert budget.at.file.endswith("baseline.yaml")
    assert pack.loosened == ("ENE-006 is low here; in baseline it is high.",)
    assert license_.scope.value == "model_version"
    assert "max_energy_kwh" in pack.parameters


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        ("{rule: baselin/ENE-001}", "Did you mean 'baseline'?"),
        ("{rule: baseline/ENE-01}", "Did you mean 'ENE-0"),
        ("{rule: baseline/ENE-001, scope: registered_model}", "to a model_version only"),
    ],
)
def test_a_rule_that_cannot_be_taken_over_is_refused(
    problems_of: ProblemsOf, use: str, expected: str
) -> None:
    found = problems_of(f"{HEAD}use:\n  - {use}\n")
    assert any(expected in one for one in found), found


WAIVER = """waivers:
  - id: W-1
    rules: [ENE-900]
    match: {tag: project, equals: x}
    reason: One-off.
    requested_by: lead@example.org
    approved_by: ciso@example.org
    approved_on: 2026-10-01
    expires: 2026-12-31
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("approved_by: ciso", "approved_by: LEAD", "somebody else than the requester"),
        ("expires: 2026-12-31\n", "ticket: X\n", "lacks the key 'expires'"),
        ("expires: 2026-12-31", "expires: 2026-02-31", "must be a date"),
        ("expires: 2026-12-31", "expires: 2026-01-31", "expires before it is approved"),
        ("[ENE-900]", "[ENE-901]", "Did you mean 'ENE-900'?"),
        ("[ENE-900]", "[]", "names the rules it suspends"),
        ("reason: One-off.", 'reason: " "', "'reason' of waiver 'W-1' must be a text"),
        ("waivers:\n", f"{WAIVER}", "the waiver W-1 stands here twice"),
    ],
)
def test_a_waiver_without_its_safeguards_is_refused(
    problems_of: ProblemsOf, pack_of: PackOf, old: str, new: str, expected: str
) -> None:
    sound = policy_text(BUDGET, tail=WAIVER)
    assert pack_of(sound).waivers[0].expires.isoformat() == "2026-12-31"
    found = problems_of(sound.replace(old, new))
    assert any(expected in one for one in found), found


def test_a_waiver_says_what_is_done_instead(pack_of: PackOf) -> None:
    told = WAIVER + "    compensating_control: The meter is read every week.\n"
    (waiver,) = pack_of(policy_text(BUDGET, tail=told)).waivers
    assert waiver.compensating_control == "The meter is read every week."
