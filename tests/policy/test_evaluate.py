"""How rules answer: three-valued logic, seven states, and what a reader is told."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.errors import Location
from mlflow_carbon.evidence.model import Attestation, FactValue, SubjectKind
from mlflow_carbon.policy.evaluate import evaluate
from mlflow_carbon.policy.model import (
    All,
    AnyOf,
    Compare,
    Condition,
    Not,
    OnMissing,
    Rule,
    Severity,
    State,
)
from tests.policy.conftest import AS_OF, Answered, evidence

BUDGET = "assert: {metric: carbon/energy_kwh, at_most: 5}"
NAN, INFINITE = float("nan"), float("inf")


def test_a_run_without_energy_is_unknown_and_says_what_is_missing(answered: Answered) -> None:
    answer = answered(BUDGET, {})
    assert (answer.state, answer.truth) == (State.NO_EVIDENCE, None)
    assert "not on record: metric carbon/energy_kwh" in answer.message
    assert [(o.fact, o.observed) for o in answer.observations] == [
        ("metric.carbon/energy_kwh", None)
    ]


@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE])
def test_a_number_that_is_none_counts_as_missing(answered: Answered, value: float) -> None:
    assert answered(BUDGET, {"metric.carbon/energy_kwh": value}).state is State.NO_EVIDENCE


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_a_blank_text_counts_as_missing(answered: Answered, text: str) -> None:
    assert answered("assert: {tag: a, not_equals: x}", {"tag.a": text}).state is State.NO_EVIDENCE


def test_a_missing_fact_can_be_made_a_failure_by_the_rule(answered: Answered) -> None:
    assert answered(f"{BUDGET}\non_missing: fail", {}).state is State.FAIL


def test_a_missing_fact_that_the_policy_lets_pass_is_no_pass_and_says_so(
    answered: Answered,
) -> None:
    lets_pass = f"{BUDGET}\non_missing: pass-with-note"
    answer = answered(lets_pass, {})
    assert (answer.state, answer.truth) == (State.NO_EVIDENCE, None)
    assert answer.message.endswith("The policy lets this pass with a note.")
    assert answered(lets_pass, {"metric.carbon/energy_kwh": 1e6}).state is State.FAIL


@pytest.mark.parametrize("operator", ["not_equals: x", "none_of: [x, y]"])
def test_a_missing_fact_is_not_different_from_something(answered: Answered, operator: str) -> None:
    assert answered(f"assert: {{tag: a, {operator}}}", {}).state is State.NO_EVIDENCE


OPERATORS: list[tuple[str, FactValue, FactValue]] = [
    ("metric: a, at_most: 5", 5, 5.1),
    ("metric: a, at_least: 5", 5, 4.9),
    ("metric: a, less_than: 5", 4.9, 5),
    ("metric: a, more_than: 5", 5.1, 5),
    ("metric: a, between: [1, 2]", 1, 2.1),
    ("metric: a, equals: 5", 5, 6),
    ("metric: a, not_equals: 5", 6, 5),
    ("metric: a, one_of: [1, 2]", 2, 3),
    ("metric: a, none_of: [1, 2]", 3, 2),
    ("metric: a, within_percent_of: {percent: 10, of: 100}", 90, 89),
    ("metric: a, within_percent_of: {percent: 10, of: -100}", -110, -111),
    ("param: a, at_most: 0.1", "1e-1", "0.2"),
    ("tag: a, equals: x", "x", "X"),
    ("tag: a, equals: true", "True", "false"),
    ("tag: a, one_of: [x, y]", "y", "z"),
    ("tag: a, none_of: [x, y]", "z", "y"),
    ("tag: a, matches: '^v[0-9]+$'", "v12", "v"),
    ("tag: a, valid_spdx: true", "MIT AND CC-BY-4.0", "openrail"),
    ("tag: a, valid_spdx: true", "LicenseRef-contract-7", "none"),
    ("tag: a, newer_than: 30 days", "2026-05-02T12:00:00Z", "2026-05-02T11:59:59+00:00"),
    ("tag: a, newer_than: 12 hours", "2026-06-01 00:00:00", "2026-05-31"),
    ("run: start_time, newer_than: 1 day", AS_OF, AS_OF - timedelta(days=2)),
    ("run: dataset_contexts, includes_any: [train, fit]", ("test", "train"), ("test",)),
    ("run: dataset_contexts, no_overlap_with: [train, fit]", ("test",), ("test", "train")),
    ("run: dataset_contexts, empty: true", (), ("test",)),
]


@pytest.mark.parametrize(("comparison", "good", "bad"), OPERATORS)
def test_every_operator_tells_good_from_bad_from_missing(
    answered: Answered, comparison: str, good: FactValue, bad: FactValue
) -> None:
    kind, key = comparison.split(",")[0].split(": ")
    fact = f"{kind}.{key}"
    body = f"assert: {{{comparison}}}"
    assert answered(body, {fact: good}).state is State.PASS
    assert answered(body, {fact: bad}).state is State.FAIL
    assert answered(body, {}).state is State.NO_EVIDENCE


def test_presence_is_the_only_question_a_missing_fact_answers(answered: Answered) -> None:
    assert answered("assert: {tag: a, present: true}", {"tag.a": "x"}).state is State.PASS
    assert answered("assert: {tag: a, present: true}", {}).state is State.FAIL
    assert answered("assert: {tag: a, absent: true}", {}).state is State.PASS
    assert answered("assert: {tag: a, absent: true}", {"tag.a": "x"}).state is State.FAIL


@pytest.mark.parametrize(
    ("comparison", "value"),
    [
        ("param: a, at_most: 1", "one"),
        ("param: a, at_most: 1", "1_0"),
        ("param: a, at_most: 1", "nan"),
        ("param: a, equals: true", "perhaps"),
        ("tag: a, newer_than: 1 day", "yesterday"),
        ("tag: a, newer_than: 1 day", "2027-01-01"),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error_not_a_no(
    answered: Answered, comparison: str, value: str
) -> None:
    namespace = comparison.split(":")[0]
    answer = answered(f"assert: {{{comparison}}}", {f"{namespace}.a": value})
    assert answer.state is State.ERROR
    assert f"{namespace} a: " in answer.message


def test_an_error_in_one_part_is_not_hidden_by_another_part(answered: Answered) -> None:
    body = "assert: {any: [{tag: a, equals: x}, {param: b, at_most: 1}]}"
    assert answered(body, {"tag.a": "x", "param.b": "many"}).state is State.ERROR


FACTS = {"tag.phase": "training", "metric.carbon/energy_kwh": 9.0}
WHEN = "when: {tag: phase, equals: %s}\n" + BUDGET


def test_a_rule_whose_when_is_false_does_not_apply(answered: Answered) -> None:
    answer = answered(WHEN % "serving", FACTS)
    assert answer.state is State.NOT_APPLICABLE
    assert "tag phase is training" in answer.message


def test_an_unknown_when_cannot_hide_a_failure_nor_spoil_a_pass(answered: Answered) -> None:
    failing = {"metric.carbon/energy_kwh": 9.0}
    passing = {"metric.carbon/energy_kwh": 1.0}
    assert answered(WHEN % "training", failing).state is State.NO_EVIDENCE
    assert answered(WHEN % "training", passing).state is State.PASS


def test_every_dataset_is_looked_at_and_the_bad_ones_are_named(answered: Answered) -> None:
    body = "assert: {for_each: datasets, assert: {dataset: license, equals: MIT}}"
    good = {"dataset.name": "a", "dataset.license": "MIT"}
    bad = {"dataset.name": "b", "dataset.license": "GPL-3.0-only"}
    undeclared = {"dataset.name": "c"}
    finding = "Wrong: {dataset:name} with {dataset:license}."
    assert answered(body, {}, datasets=(good, good)).state is State.PASS
    failed = answered(body, {}, datasets=(good, bad, undeclared), finding=finding)
    assert failed.state is State.FAIL
    assert failed.message == "Wrong: b, c with GPL-3.0-only."
    assert answered(body, {}, datasets=(good, undeclared)).state is State.NO_EVIDENCE


def test_no_dataset_at_all_is_unknown_not_a_pass(answered: Answered) -> None:
    body = "assert: {for_each: datasets, assert: {dataset: license, equals: MIT}}"
    assert answered(body, {}).state is State.NO_EVIDENCE


def test_datasets_may_be_chosen_and_no_chosen_one_is_unknown(answered: Answered) -> None:
    body = (
        "assert: {for_each: datasets, where: {dataset: context, equals: train},"
        " assert: {dataset: license, equals: MIT}}"
    )
    train = {"dataset.context": "train", "dataset.license": "MIT"}
    test = {"dataset.context": "test", "dataset.license": "secret"}
    assert answered(body, {}, datasets=(train, test)).state is State.PASS
    assert answered(body, {}, datasets=(test,)).state is State.NO_EVIDENCE
    unclear = {"dataset.license": "secret"}
    assert answered(body, {}, datasets=(train, unclear)).state is State.NO_EVIDENCE


def test_a_fact_may_be_compared_with_another(answered: Answered) -> None:
    body = "assert: {metric: a, at_most: {metric: b, times: 1.1, minus: 1}}"
    assert answered(body, {"metric.a": 10.0, "metric.b": 10.0}).state is State.PASS
    failed = answered(body, {"metric.a": 10.1, "metric.b": 10.0})
    assert failed.state is State.FAIL
    assert failed.observations[1].expected == "at most 1.1 x metric b - 1 (10)"
    missing = answered(body, {"metric.a": 1.0})
    assert missing.state is State.NO_EVIDENCE
    assert "metric b" in missing.message


ATTEST = "attest: {statement: reviewed, asks: I have looked., max_age_days: 100}"


def _made(
    days_ago: float, expires_in: float | None = None, statement: str = "reviewed"
) -> Attestation:
    expires = None if expires_in is None else AS_OF + timedelta(days=expires_in)
    return Attestation(
        statement, "A. Reviewer", "officer", AS_OF - timedelta(days=days_ago), expires, "because"
    )


@pytest.mark.parametrize(
    ("made", "state", "said"),
    [
        ((), State.NEEDS_ATTESTATION, "nobody has made it"),
        ((_made(3),), State.PASS, "Attested by A. Reviewer (officer) on 2026-05-29, not verified"),
        ((_made(3, -1),), State.NEEDS_ATTESTATION, "expired on 2026-05-31"),
        ((_made(101),), State.NEEDS_ATTESTATION, "older than 100 days"),
        ((_made(-2),), State.NEEDS_ATTESTATION, "after the audit"),
        ((_made(3, statement="other"),), State.NEEDS_ATTESTATION, "nobody has made it"),
        ((_made(3, -1), _made(5, 9)), State.PASS, "on 2026-05-27"),
    ],
)
def test_only_a_statement_in_force_counts(
    answered: Answered, made: tuple[Attestation, ...], state: State, said: str
) -> None:
    answer = answered(ATTEST, {}, scope="model_version", attestations=made)
    assert answer.state is state
    assert said in answer.message


def test_what_stands_in_a_value_is_never_read_as_a_place(answered: Answered) -> None:
    body = "assert: {tag: a, equals: x}"
    hostile = "{tag:secret} {0.__class__} %s \x1b[31m"
    facts = {"tag.a": hostile, "tag.secret": "hidden"}
    answer = answered(body, facts, finding="Saw {tag:a}.")
    assert answer.message == "Saw {tag:secret} {0.__class__} %s  [31m."


def test_a_failed_rule_says_figures_with_units(answered: Answered) -> None:
    finding = "Used {metric:carbon/energy_kwh|kWh}, {metric:carbon/emissions_kg|kg}, {tag:a}."
    answer = answered(
        BUDGET,
        {"metric.carbon/energy_kwh": 41.2, "metric.carbon/emissions_kg": 1.2},
        finding=finding,
    )
    assert answer.message == "Used 41.2 kWh, 1.2 kg CO2e, (not on record)."


# Kleene logic, against a table written out here: 0 false, 0.5 unknown, 1 true; all is min, any is max.
_HERE = Location("property", 1, 1)
_VALUE = {True: 1.0, None: 0.5, False: 0.0}


def _leaf(index: int) -> Compare:
    return Compare(fact=f"metric.m{index}", operator="at_most", operand=0, at=_HERE)


_CONDITIONS = st.recursive(
    st.integers(0, 3).map(_leaf),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda p: All(tuple(p), _HERE)),
        st.lists(inner, min_size=1, max_size=3).map(lambda p: AnyOf(tuple(p), _HERE)),
        inner.map(lambda p: Not(p, _HERE)),
    ),
    max_leaves=12,
)


def _expected(condition: Condition, known: list[bool | None]) -> float:
    if isinstance(condition, Compare):
        return _VALUE[known[int(condition.fact[-1])]]
    if isinstance(condition, Not):
        return 1.0 - _expected(condition.part, known)
    assert isinstance(condition, (All, AnyOf))
    return (min if isinstance(condition, All) else max)(
        _expected(part, known) for part in condition.parts
    )


def rule_of(condition: Condition, when: Condition | None = None) -> Rule:
    return Rule(
        id="X-1",
        title="t",
        severity=Severity.LOW,
        scope=SubjectKind.RUN,
        rationale="r",
        controls=(),
        when=when,
        condition=condition,
        attest=None,
        on_missing=OnMissing.NO_EVIDENCE,
        finding="f",
        remediation="r",
        does_not_show="d",
        tests=(),
        at=_HERE,
    )


_KNOWN = st.lists(st.sampled_from([True, False, None]), min_size=4, max_size=4)


def _facts(known: list[bool | None]) -> dict[str, FactValue]:
    value: dict[bool | None, float] = {True: -1.0, False: 1.0, None: NAN}
    return {f"metric.m{index}": value[one] for index, one in enumerate(known)}


@given(condition=_CONDITIONS, known=_KNOWN)
def test_conditions_follow_kleene_logic(condition: Condition, known: list[bool | None]) -> None:
    answer = evaluate(rule_of(condition), evidence(_facts(known)), AS_OF)
    assert _VALUE[answer.truth] == _expected(condition, known)


@given(condition=_CONDITIONS, when=_CONDITIONS, known=_KNOWN)
def test_when_follows_not_when_or_assert(
    condition: Condition, when: Condition, known: list[bool | None]
) -> None:
    answer = evaluate(rule_of(condition, when), evidence(_facts(known)), AS_OF)
    if _expected(when, known) == 0.0:
        assert answer.state is State.NOT_APPLICABLE
    else:
        expected = max(1.0 - _expected(when, known), _expected(condition, known))
        assert _VALUE[answer.truth] == expected


@given(condition=_CONDITIONS, known=_KNOWN, more=_KNOWN)
def test_more_evidence_never_turns_a_pass_into_a_failure_or_back(
    condition: Condition, known: list[bool | None], more: list[bool | None]
) -> None:
    filled = [new if old is None else old for old, new in zip(known, more, strict=True)]
    before = evaluate(rule_of(condition), evidence(_facts(known)), AS_OF).truth
    after = evaluate(rule_of(condition), evidence(_facts(filled)), AS_OF).truth
    assert before is None or before is after


def test_the_moment_of_the_audit_is_an_argument(answered: Answered) -> None:
    body = "assert: {run: start_time, newer_than: 30 days}"
    start = datetime(2026, 5, 20, tzinfo=timezone.utc)
    assert answered(body, {"run.start_time": start}).state is State.PASS


QUALITY = "assert: {for_each: {metrics: '^eval/'}, assert: {each: value, at_least: 0.9}}"


def test_every_metric_that_matches_is_looked_at_and_named(answered: Answered) -> None:
    facts = {"metric.eval/a": 0.95, "metric.eval/b": 0.5, "metric.train/c": 0.1}
    answer = answered(QUALITY, facts, finding="{each:name} is {each:value}.")
    assert answer.state is State.FAIL
    assert answer.message == "eval/b is 0.5."
    assert [o.fact for o in answer.observations] == ["metric.eval/a", "metric.eval/b"]
    assert answered(QUALITY, {"metric.train/c": 0.99}).state is State.NO_EVIDENCE


REGRESSION = (
    "baseline: champion\n"
    "assert: {for_each: {metrics: '^eval/'}, assert: {each: value, at_least: {each: baseline, minus: 0.01}}}"
)


def test_a_candidate_is_compared_metric_by_metric_with_the_baseline(answered: Answered) -> None:
    champion = {"baseline.metric.eval/a": 0.9, "baseline.metric.eval/b": 0.8}

    def state(**candidate: float) -> State:
        facts = {f"metric.eval/{name}": value for name, value in candidate.items()}
        return answered(REGRESSION, {**champion, **facts}, scope="pair").state

    assert state(a=0.9, b=0.795) is State.PASS
    assert state(a=0.99, b=0.78) is State.FAIL
    assert state(a=0.99) is State.NO_EVIDENCE
    assert state(a=0.99, b=0.8, c=0.0) is State.PASS


def test_two_texts_on_record_may_be_asked_to_differ(answered: Answered) -> None:
    body = "assert: {tag: approved_by, not_equals: {run: user}}"
    assert answered(body, {"tag.approved_by": "b", "run.user": "a"}).state is State.PASS
    assert answered(body, {"tag.approved_by": "a", "run.user": "a"}).state is State.FAIL
    assert answered(body, {"tag.approved_by": "b"}).state is State.NO_EVIDENCE
