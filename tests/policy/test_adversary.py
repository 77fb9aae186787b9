"""Ways in which a rule could pass by accident, each tried."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_carbon.evidence.model import FactValue
from mlflow_carbon.policy.compile import facts_of
from mlflow_carbon.policy.evaluate import evaluate
from mlflow_carbon.policy.licenses import avoids
from mlflow_carbon.policy.load import load_pack, shipped_packs
from mlflow_carbon.policy.model import Rule, State
from mlflow_carbon.policy.selftest import given as given_by
from tests.policy.conftest import AS_OF, Answered, evidence

NAN, INFINITE, HUGE = math.nan, math.inf, 1.7e308


@pytest.mark.parametrize(
    "body",
    [
        "assert: {not: {metric: a, at_most: 1}}",
        "assert: {not: {not: {metric: a, at_most: 1}}}",
        "assert: {not: {all: [{metric: a, at_most: 1}, {metric: a, more_than: 1}]}}",
        "assert: {any: [{metric: a, at_most: 1}, {metric: a, more_than: 1}]}",
        "assert: {metric: a, not_equals: 1}",
        "assert: {metric: a, none_of: [1]}",
        "assert: {metric: a, within_percent_of: {percent: 100, metric: a}}",
        "assert: {metric: a, at_most: {metric: a}}",
        "assert: {metric: a, equals: {metric: a}}",
        "assert: {for_each: {metrics: '^a$'}, assert: {each: value, at_least: -1}}",
        "assert: {not: {for_each: {metrics: '^a$'}, assert: {each: value, at_least: -1}}}",
        "assert: {expr: 'metrics.a != 5'}",
        "assert: {expr: 'not metrics.a > 5'}",
        "assert: {expr: 'metrics.a not in (1, 2)'}",
        "when: {metric: a, more_than: 0}\nassert: {metric: b, at_most: 0}",
    ],
)
@pytest.mark.parametrize("value", [None, NAN, INFINITE, -INFINITE])
def test_a_figure_that_is_none_passes_no_way_round(
    answered: Answered, body: str, value: float | None
) -> None:
    facts: dict[str, FactValue] = {"metric.b": 1.0} | ({} if value is None else {"metric.a": value})
    assert answered(body, facts).state is State.NO_EVIDENCE


@pytest.mark.parametrize("wrong", ["yes", "1", "none", "maybe", "truee"])
def test_a_text_is_neither_true_nor_false_by_being_there(answered: Answered, wrong: str) -> None:
    for operator in ("equals", "not_equals"):
        assert (
            answered(f"assert: {{tag: a, {operator}: true}}", {"tag.a": wrong}).state is State.ERROR
        )
    assert (
        answered("assert: {tag: a, none_of: [true, false]}", {"tag.a": wrong}).state is State.ERROR
    )


def test_a_flag_is_no_number(answered: Answered) -> None:
    assert answered("assert: {metric: a, at_most: 1}", {"metric.a": True}).state is State.ERROR


@pytest.mark.parametrize(
    ("of", "good", "bad"), [(0, 0.0, 1e-300), (-100, -110.0, -111.0), (-100, -90.0, 90.0)]
)
def test_a_percentage_of_zero_is_nothing_and_of_a_negative_number_is_its_size(
    answered: Answered, of: float, good: float, bad: float
) -> None:
    body = f"assert: {{metric: a, within_percent_of: {{percent: 10, of: {of}}}}}"
    assert answered(body, {"metric.a": good}).state is State.PASS
    assert answered(body, {"metric.a": bad}).state is State.FAIL


def test_figures_at_the_end_of_the_range_are_still_compared_rightly(answered: Answered) -> None:
    near = "assert: {metric: a, within_percent_of: {percent: 10, metric: b}}"
    assert answered(near, {"metric.a": -HUGE, "metric.b": HUGE}).state is State.FAIL
    less = "assert: {metric: a, less_than: {metric: b, times: -2}}"
    assert answered(less, {"metric.a": HUGE, "metric.b": HUGE}).state is State.FAIL


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "Infinity", "1e999"])
def test_a_text_that_is_no_finite_number_cannot_be_a_limit(answered: Answered, text: str) -> None:
    body = "assert: {metric: a, at_most: {param: limit}}"
    assert answered(body, {"metric.a": 1.0, "param.limit": text}).state is State.ERROR


CHOSEN = (
    "assert: {for_each: datasets, where: {dataset: context, equals: train},"
    " assert: {dataset: sha256, present: true}}"
)


def test_a_dataset_that_may_not_be_the_one_asked_about_proves_nothing(answered: Answered) -> None:
    unclear, train = {"dataset.sha256": "x"}, {"dataset.sha256": "x", "dataset.context": "train"}
    assert answered(CHOSEN, {}, datasets=(unclear,)).state is State.NO_EVIDENCE
    assert answered(CHOSEN, {}, datasets=(unclear, train)).state is State.PASS


def test_an_empty_list_is_looked_at_and_a_missing_one_is_unknown(answered: Answered) -> None:
    for body in ("empty: true", "no_overlap_with: [train]"):
        assert answered(f"assert: {{run: dataset_contexts, {body}}}", {}).state is State.NO_EVIDENCE
    includes = "assert: {run: dataset_contexts, includes_any: [train]}"
    assert answered(includes, {"run.dataset_contexts": ()}).state is State.FAIL


@pytest.mark.parametrize("name", ["author", "Author", " author ", "AUTHOR"])
def test_a_person_is_no_second_person_in_other_letters(answered: Answered, name: str) -> None:
    body = "assert: {tag: approved_by, not_equals: {run: user}}"
    assert answered(body, {"tag.approved_by": name, "run.user": "author"}).state is State.FAIL


@pytest.mark.parametrize(
    ("license_", "free"),
    [
        ("MIT", True),
        ("CC-BY-NC-4.0", False),
        ("cc-by-nc-4.0", False),
        (" CC-BY-NC-4.0 ", False),
        ("MIT AND CC-BY-NC-4.0", False),
        ("MIT OR CC-BY-NC-4.0", True),
        ("MIT AND (CC-BY-NC-4.0 OR Apache-2.0)", True),
        ("CC-BY-NC-4.0 OR LicenseRef-contract-7", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("free", False),
        ("", False),
    ],
)
def test_a_license_is_refused_however_it_is_written(license_: str, free: bool) -> None:
    denied = ("CC-BY-NC-4.0", "licenseref-Contract-7", "GPL-2.0-only")
    assert avoids(license_, denied) is free


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.sampled_from("MIT AND OR WITH ()+-.:é\n"), max_size=40))
def test_any_text_is_asked_for_its_license_without_a_crash(text: str) -> None:
    assert avoids(text, ("MIT",)) in (True, False)


RULES = {
    rule.id: rule
    for name, path in shipped_packs().items()
    for rule in load_pack(name).rules
    if rule.at.file == str(path)
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_no_shipped_rule_passes_on_nothing(rule: Rule) -> None:
    answer = evaluate(rule, evidence({}, kind=rule.scope), AS_OF)
    assert answer.state in (State.NO_EVIDENCE, State.NOT_APPLICABLE, State.NEEDS_ATTESTATION)


OTHER_WAYS = {
    "ENE-004": {"tag.mlflow_carbon.methods", "tag.mlflow_carbon.not_measured"},
    "CAR-003": {"metric.carbon/market_emissions_kg"},
    "DAT-009": {"dataset.sensitive_found"},
    "EFF-002": {
        *("metric.accuracy", "baseline.metric.accuracy"),
        *("metric.carbon/energy_kwh", "baseline.metric.carbon/energy_kwh"),
    },
    "EVL-001": {"run.dataset_contexts", "lineage.evaluation_runs"},
    "EVL-002": {"metric.eval/seeds", "metric.eval/ci_width"},
}
"""Facts a case passes without, because its rule names two ways to pass, or because nothing was claimed."""


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_shipped_rule_does_not_pass_without_a_fact_its_assertion_stands_on(rule: Rule) -> None:
    for case in rule.tests:
        whole = given_by(rule, case)
        for lost in whole.facts if case.expect is State.PASS else ():
            # Without a fact of its "when" a rule can still pass, but not fail.
            spared = facts_of(rule.when) - facts_of(rule.condition) | OTHER_WAYS.get(rule.id, set())
            left = {name: fact.value for name, fact in whole.facts.items() if name != lost}
            state = evaluate(rule, evidence(left, kind=rule.scope), case.as_of).state
            assert state is not State.PASS or lost in spared, (case.name, lost)
