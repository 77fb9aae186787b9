"""``expr:`` says the same as the operator form, and refuses what it does not understand."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_carbon.errors import Location
from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.policy.conditions import Reader
from mlflow_carbon.policy.model import Parameter
from mlflow_carbon.policy.shape import Problems
from mlflow_carbon.policy.yaml_tree import Entries, read_tree
from tests.policy.conftest import ProblemsOf, policy_text

PARAMETERS = {"limit": Parameter(name="limit", type="number", value=7)}


def bare(condition: Any) -> Any:
    """A condition without its places."""
    if isinstance(condition, tuple):
        return tuple(bare(part) for part in condition)
    if dataclasses.is_dataclass(condition) and not isinstance(condition, (type, Location)):
        fields = [f.name for f in dataclasses.fields(condition) if f.name != "at"]
        return (type(condition).__name__, *(bare(getattr(condition, name)) for name in fields))
    return condition


def read(text: str, scope: SubjectKind = SubjectKind.PAIR) -> Any:
    tree, found = read_tree(text, "p.yaml")
    problems = Problems(found)
    node = tree.entries["c"][1]
    assert isinstance(node, Entries)
    condition = Reader(scope, PARAMETERS, problems).read(node)
    assert problems.found == []
    return bare(condition)


def by_expression(expression: str) -> Any:
    return read(f"c: {{expr: {json.dumps(expression)}}}\n")


@pytest.mark.parametrize(
    ("expression", "operators"),
    [
        ("metrics.a <= 5", "{metric: a, at_most: 5}"),
        ("metric.a < 5", "{metric: a, less_than: 5}"),
        ("5 >= metrics.a", "{metric: a, at_most: 5}"),
        ("metrics.`carbon/energy_kwh` > 1e-3", "{metric: carbon/energy_kwh, more_than: 0.001}"),
        ("metrics.carbon/energy_kwh >= -2", "{metric: carbon/energy_kwh, at_least: -2}"),
        ("tags.phase = 'a b'", "{tag: phase, equals: a b}"),
        ('params.`batch size` != "8"', '{param: batch size, not_equals: "8"}'),
        ("attributes.status = 'FINISHED'", "{run: status, equals: FINISHED}"),
        ("tags.a in ('x', 'y')", "{tag: a, one_of: [x, y]}"),
        ("tags.a NOT IN ('x', 3)", "{tag: a, none_of: [x, 3]}"),
        ("tags.a IS NULL", "{tag: a, absent: true}"),
        ("tags.a is not null", "{tag: a, present: true}"),
        ("tags.a like 'v%.1_'", "{tag: a, matches: '(?s)^v.*\\.1.$'}"),
        ("tags.a ilike 'V%'", "{tag: a, matches: '(?is)^V.*$'}"),
        ("metrics.a <= $limit", "{metric: a, at_most: $limit}"),
        ("tags.a = '$limit'", "{tag: a, equals: $$limit}"),
        ("tags.a = true", "{tag: a, equals: true}"),
        (
            "metrics.a <= 1.1 * baseline.metrics.b",
            "{metric: a, at_most: {baseline.metric: b, times: 1.1}}",
        ),
        (
            "metrics.a <= baseline.metrics.b * 2 - 1",
            "{metric: a, at_most: {baseline.metric: b, times: 2, minus: 1}}",
        ),
        ("metrics.a <= metrics.b + 1", "{metric: a, at_most: {metric: b, plus: 1}}"),
        ("metrics.a <= metrics.b -1", "{metric: a, at_most: {metric: b, plus: -1}}"),
        ("2 * metrics.b > metrics.a", "{metric: a, less_than: {metric: b, times: 2}}"),
        (
            "metrics.a < 1 or metrics.b < 2 and not metrics.c < 3",
            "{any: [{metric: a, less_than: 1}, {all: [{metric: b, less_than: 2},"
            " {not: {metric: c, less_than: 3}}]}]}",
        ),
        (
            "(metrics.a < 1 or metrics.b < 2) and metrics.c < 3 and metrics.d < 4",
            "{all: [{any: [{metric: a, less_than: 1}, {metric: b, less_than: 2}]},"
            " {metric: c, less_than: 3}, {metric: d, less_than: 4}]}",
        ),
    ],
)
def test_an_expression_means_what_its_operators_mean(expression: str, operators: str) -> None:
    assert by_expression(expression) == read(f"c: {operators}\n")


@pytest.mark.parametrize(
    ("expression", "column", "said"),
    [
        ("metrics.a <= ", 29, "is expected here, not the end"),
        ("metrics.a 5", 29, "a comparison"),
        ("metric.a <= 5 metrics.b", 33, "'and', 'or' or the end"),
        ("metrcs.a <= 5", 19, "Did you mean 'metrics'?"),
        ("energy <= 5", 19, "is no fact"),
        ("metrics.a <= 5 and", 34, "not the end"),
        ("(metrics.a <= 5", 33, "')' is expected"),
        ("metrics.a <= 5; drop table runs", 33, "cannot be read from '; drop table runs'"),
        ("__import__('os').system('true')", 35, "cannot be read from"),
        ("read_csv('/etc/passwd') = 1", 19, "is no fact"),
        ("metrics.a <= {0}", 31, "cannot be read"),
        ("1 <= 2", 19, "must be a fact"),
        ("metrics.a * 2 < metrics.b * 2", 19, "must be a fact"),
        ("tags.a like 5", 31, "a pattern in quotes"),
        ("tags.a in ()", 30, "is expected here"),
        ("tags.a = 'x", 27, "cannot be read"),
        ("run.statsu = 'x'", 19, "Did you mean 'status'?"),
        ("metrics.a = 'x'", 31, "is a number"),
    ],
)
def test_a_wrong_expression_is_refused_at_the_column_of_the_fault(
    problems_of: ProblemsOf, expression: str, column: int, said: str
) -> None:
    found = problems_of(policy_text(f"assert: {{expr: {json.dumps(expression)}}}"))
    assert len(found) == 1
    assert found[0].startswith(f"12:{column + 2}: "), found
    assert said in found[0]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        (" and ".join(["metrics.a < 1"] * 3_400), "more than 5,000 words"),
        (" and ".join(["metrics.a<1"] * 1_900), "more than 5,000 words"),
        ("(" * 3_000 + "metrics.a < 1" + ")" * 1_000, "nested deeper than 30 levels"),
        ("not " * 4_000 + "metrics.a < 1", "nested deeper than 30 levels"),
    ],
)
def test_an_expression_without_end_is_refused(
    problems_of: ProblemsOf, expression: str, said: str
) -> None:
    found = problems_of(policy_text(f"assert: {{expr: {json.dumps(expression)}}}"))
    assert any(said in one for one in found), found


KEYS = st.text("abc_/0", min_size=1, max_size=6).map(lambda key: f"k{key}")
NUMBERS = st.one_of(st.integers(-99, 99), st.floats(-99, 99).map(lambda x: round(x, 3)))
TEXTS = st.text(st.characters(codec="ascii", exclude_characters="'\n\r\\", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=8)  # fmt: skip
COMPARED = {"=": "equals", "!=": "not_equals", "<": "less_than", "<=": "at_most", ">": "more_than", ">=": "at_least"}  # fmt: skip


@st.composite
def leaves(draw: st.DrawFn) -> tuple[str, str]:
    """One comparison in both forms."""
    key = draw(KEYS)
    kind = draw(st.sampled_from(["number", "text", "list", "presence", "term"]))
    sign = draw(st.sampled_from(sorted(COMPARED)))
    if kind == "number":
        number = json.dumps(draw(NUMBERS))
        return f"metrics.{key} {sign} {number}", f"{{metric: {key}, {COMPARED[sign]}: {number}}}"
    if kind == "term":
        sign = draw(st.sampled_from(["<", "<=", ">", ">="]))
        other, times = draw(KEYS), draw(st.integers(2, 9))
        term = f"{{metric: {other}, times: {times}}}"
        return (
            f"metrics.{key} {sign} {times} * metrics.{other}",
            f"{{metric: {key}, {COMPARED[sign]}: {term}}}",
        )
    values = draw(
        st.lists(TEXTS.filter(lambda t: t.strip() and t[0] != "$"), min_size=1, max_size=3)
    )
    if kind == "text":
        sign = draw(st.sampled_from(["=", "!="]))
        return (
            f"tags.{key} {sign} '{values[0]}'",
            f"{{tag: {key}, {COMPARED[sign]}: {json.dumps(values[0])}}}",
        )
    if kind == "list":
        listed = ", ".join(f"'{value}'" for value in values)
        return f"tags.{key} in ({listed})", f"{{tag: {key}, one_of: {json.dumps(values)}}}"
    return f"tags.{key} is null", f"{{tag: {key}, absent: true}}"


def joined(
    word: str, group: str, inner: st.SearchStrategy[tuple[str, str]]
) -> st.SearchStrategy[tuple[str, str]]:
    def join(parts: list[tuple[str, str]]) -> tuple[str, str]:
        text = f" {word} ".join(f"({one})" for one, _ in parts)
        return text, f"{{{group}: [{', '.join(other for _, other in parts)}]}}"

    return st.lists(inner, min_size=2, max_size=3).map(join)


CONDITIONS = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        joined("and", "all", inner),
        joined("OR", "any", inner),
        inner.map(lambda pair: (f"not ({pair[0]})", f"{{not: {pair[1]}}}")),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(both=CONDITIONS)
def test_every_expression_reads_as_its_operator_form(both: tuple[str, str]) -> None:
    expression, operators = both
    assert by_expression(expression) == read(f"c: {operators}\n")
