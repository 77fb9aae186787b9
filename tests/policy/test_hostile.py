"""Policies written to harm: refused or harmless, and never a traceback."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlflow_carbon.errors import PolicyError
from mlflow_carbon.policy.evaluate import evaluate
from mlflow_carbon.policy.load import read_pack, shipped_packs
from mlflow_carbon.policy.model import State
from tests.policy.conftest import AS_OF, Answered, PackOf, ProblemsOf, evidence, policy_text

CANARY = "canary-7f3a"


def accepted(text: str) -> bool:
    """Whether the text is a policy; whatever else happens must be a ``PolicyError``."""
    try:
        read_pack(text.encode("utf-8", "surrogatepass"), "p.yaml", {})
    except PolicyError as error:
        problems = error.problems
    else:
        return True
    assert problems
    assert all(problem.at.line >= 1 and problem.at.column >= 1 for problem in problems)
    return False


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=200))
@example("{")
@example("? [a]: b")
@example("\ufeff")
@example("%YAML 3.0\n---\na: b")
@example("\ud800")
def test_any_text_is_read_or_refused(text: str) -> None:
    assert not accepted(text)


_LINES = shipped_packs()["baseline"].read_text(encoding="utf-8").splitlines()[:75]
_BITS = st.sampled_from(
    [
        "[",
        "]",
        "{",
        "}",
        ":",
        "- ",
        "&a ",
        "*a",
        "!x ",
        "'",
        '"',
        "$",
        "${",
        "|",
        ">",
        "#",
        "\t",
        "\0",
        "é",
        "null",
        "~",
        "1e999",
        "..",
        "%",
    ]
)


@settings(max_examples=120, deadline=None)
@given(
    line=st.integers(0, len(_LINES) - 1),
    column=st.integers(0, 60),
    bit=_BITS,
    cut=st.integers(0, 10),
)
def test_a_damaged_pack_is_read_or_refused(line: int, column: int, bit: str, cut: int) -> None:
    lines = list(_LINES)
    lines[line] = lines[line][:column] + bit + lines[line][column + cut :]
    accepted("\n".join(lines))


_WORDS = st.sampled_from(
    [
        "metrics.a",
        "tags.b",
        "params.`x",
        "y`",
        "baseline.metrics.c",
        "<=",
        "=",
        "!=",
        "in",
        "like",
        "is",
        "not",
        "null",
        "and",
        "or",
        "(",
        ")",
        ",",
        "*",
        "+",
        "-",
        "1",
        "2.5",
        "'x'",
        "$p",
        "true",
    ]
)


@settings(max_examples=300, deadline=None)
@given(words=st.lists(_WORDS, max_size=15))
def test_any_row_of_words_is_an_expression_or_is_refused(words: list[str]) -> None:
    expression = " ".join(words).replace("\\", "").replace('"', "")
    accepted(policy_text(f'assert: {{expr: "{expression}"}}'))


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n",
        "a: " + "{a: " * 5_000,
        "- " * 20_000 + "x",
        "a: [" + "x," * 400_000 + "]",
        "a: " + "!!python/name:os.system ''",
        "a: !!timestamp 2026-01-01",
        "<<: {a: 1}\n",
    ],
)
def test_a_bomb_is_refused_in_little_time(text: str) -> None:
    begun = time.process_time()
    assert not accepted(text)
    assert time.process_time() - begun < 20


def test_a_condition_of_ten_thousand_parts_is_refused(problems_of: ProblemsOf) -> None:
    parts = ", ".join(["{metric: a, at_most: 1}"] * 10_000)
    found = problems_of(policy_text(f"assert: {{all: [{parts}]}}"))
    assert any("more than 2,000 comparisons" in one for one in found)


def test_an_expression_of_ten_thousand_parts_is_refused(problems_of: ProblemsOf) -> None:
    long = " and ".join(["metrics.a <= 1"] * 10_000)
    deep = "(" * 10_000 + "metrics.a <= 1" + ")" * 10_000
    for expression in (long, deep, "not " * 10_000 + "metrics.a <= 1"):
        begun = time.process_time()
        assert problems_of(policy_text(f'assert: {{expr: "{expression}"}}'))
        assert time.process_time() - begun < 20


def test_a_pattern_made_to_run_for_ever_ends_at_once(answered: Answered) -> None:
    begun = time.process_time()
    answer = answered("assert: {tag: a, matches: '^(a+)+$'}", {"tag.a": "a" * 8_000 + "!"})
    assert answer.state is State.FAIL
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    "hostile",
    [
        "{{7*7}}",
        "{0.__class__.__mro__}",
        "%(x)s",
        "${jndi:ldap://127.0.0.1/a}",
        "'; DROP TABLE runs; --",
        "<script>alert(1)</script>",
        "file:///etc/passwd",
        "!!python/object/apply:os.system",
        "=cmd|'/c calc'!A1",
        "\u202eevil",
        "\x00\x1b[2J",
    ],
)
def test_hostile_values_on_a_run_are_only_text(answered: Answered, hostile: str) -> None:
    facts = {"tag.a": hostile, "tag.secret": CANARY}
    answer = answered("assert: {tag: a, equals: x}", facts, finding="Saw {tag:a}.")
    assert answer.state is State.FAIL
    assert CANARY not in answer.message
    assert answer.message.startswith("Saw ")
    assert answer.message.isprintable()


@pytest.mark.parametrize("field", ["title", "rationale", "remediation", "does_not_show", "finding"])
def test_no_text_of_a_policy_is_ever_formatted_or_opened(
    pack_of: PackOf, tmp_path: Path, field: str
) -> None:
    canary = tmp_path / "canary.txt"
    canary.write_text(CANARY)
    hostile = f"'%s %(a)s include {canary} file://{canary} $HOME $(id)'"
    lines = policy_text("assert: {metric: a, at_most: 1}").splitlines()
    text = "\n".join(
        line.split(":")[0] + f": {hostile}" if line.strip().startswith(f"{field}:") else line
        for line in lines
    )
    rule = pack_of(text).rules[0]
    answer = evaluate(rule, evidence({"metric.a": 2.0}), AS_OF)
    assert getattr(rule, field) == hostile.strip("'")
    assert CANARY not in answer.message


def test_a_parameter_cannot_put_places_into_a_sentence(pack_of: PackOf) -> None:
    head = "parameters: {p: {type: text, default: '{tag:secret}'}}\n"
    text = policy_text("assert: {tag: a, equals: $p}", head=head, finding="Want {parameter:p}.")
    answer = evaluate(pack_of(text).rules[0], evidence({"tag.a": "x", "tag.secret": CANARY}), AS_OF)
    assert answer.message == "Want (tag:secret)."


WHOLE = """apiVersion: mlflow-carbon/v1
kind: PolicyPack
metadata: {id: org.example, version: 1.0.0, title: X, owner: X, describe: X}
frameworks: [nist-ai-rmf@1.0, X]
extends: X
set: {p: X}
adjust: [{rule: X, because: X}]
use: [{rule: X}]
parameters: {p: {type: text, default: X, unit: X, describe: X}}
gate: {aliases: [X], stages: [X], models: [X], auditors: [X], approvers: [X], link: X}
rules:
  - id: ENE-900
    title: X
    severity: high
    scope: model_version
    rationale: X
    controls: [{ref: X, relation: supports}]
    when: {tag: X, matches: X}
    assert:
      all:
        - {expr: X}
        - {metric: X, at_most: X}
        - {tag: a, one_of: [X]}
        - {for_each: {metrics: X}, assert: {each: name, equals: X}}
    finding: X
    remediation: X
    does_not_show: X
    baseline: X
    tests: [{name: X, given: {tag.a: X}, attested: [{statement: X, by: X, made_on: 2026-01-01}], expect: pass}]
  - id: ENE-901
    title: X
    severity: high
    scope: model_version
    rationale: X
    controls: [{ref: nist-ai-rmf/MEASURE-2.12, relation: supports}]
    attest: {statement: X, asks: X, max_age_days: X}
    finding: X
    remediation: X
    does_not_show: X
waivers:
  - {id: X, rules: [X], match: {tag: X, equals: X}, reason: X, requested_by: X, approved_by: X,
     approved_on: 2026-01-01, expires: 2026-02-01, ticket: X, compensating_control: X}
"""
_FORBIDDEN = ("exec", "os.system", "os.exec", "subprocess.Popen", "socket.", "sqlite3.", "ctypes.")
_seen: list[str] | None = None


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook of Python; it cannot be taken away again, so it looks at nothing unless asked to."""
    if _seen is None:
        return
    opened = event in ("open", "import") and CANARY in str(arguments[0])
    if opened or (event.startswith(_FORBIDDEN) and "policy" not in str(arguments[:1])):
        _seen.append(f"{event} {arguments}")


sys.addaudithook(_watch)


@pytest.mark.parametrize("place", range(WHOLE.count("X")))
def test_no_field_of_a_policy_runs_code_or_opens_a_file(tmp_path: Path, place: int) -> None:
    global _seen  # noqa: PLW0603 - a hook of the interpreter has nothing else to tell by
    canary = tmp_path / f"{CANARY}.yaml"
    canary.write_text(f"{CANARY}-inside")
    parts = WHOLE.split("X")
    for hostile in (
        f"{canary}@1.0.0",
        f"../{canary.name}@1.0.0",
        f"__import__('os').system('touch {canary}.run')",
        f"{{{{open('{canary}').read()}}}}",
        f"{{0.__class__.__init__.__globals__}}$(cat {canary})",
        f"'; ATTACH '{canary}' AS x; DROP TABLE runs; --",
        f"read_csv('{canary}')",
        f"(a+)+$ file://{canary}",
    ):
        written = "'" + hostile.replace("'", "''") + "'"
        text = "words".join(parts[: place + 1]) + written + "words".join(parts[place + 1 :])
        _seen = []
        try:
            read_pack(text.encode(), str(tmp_path / "p.yaml"), {})
            said = ""
        except PolicyError as error:
            said = str(error)
        finally:
            found, _seen = _seen, None
        assert found == []
        assert f"{CANARY}-inside" not in said
    assert [path.name for path in tmp_path.iterdir()] == [canary.name]


def test_the_watch_over_files_and_code_sees_them(tmp_path: Path) -> None:
    global _seen  # noqa: PLW0603 - as above
    canary = tmp_path / f"{CANARY}.txt"
    canary.write_text("x")
    _seen = []
    canary.read_text()
    exec("1 + 1")
    found, _seen = _seen, None
    assert [event.split()[0] for event in found] == ["open", "exec"]
