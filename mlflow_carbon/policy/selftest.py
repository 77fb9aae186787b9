"""The cases inside a pack, run: does every rule answer as its author says, also when evidence is missing?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from mlflow_carbon.evidence.model import Evidence, Fact, FactValue, Subject, SubjectKind
from mlflow_carbon.policy.evaluate import Answer, evaluate
from mlflow_carbon.policy.model import (
    All,
    AnyOf,
    Compare,
    Condition,
    ForEach,
    Not,
    Pack,
    Rule,
    RuleTest,
    State,
)

_WITHOUT = "the test of a policy"
_UNMET = (State.FAIL, State.NEEDS_ATTESTATION)
_MISSING = (State.NO_EVIDENCE, State.FAIL, State.NEEDS_ATTESTATION)


@dataclass(frozen=True, slots=True)
class Case:
    """One case and what the rule answered."""

    rule: Rule
    test: RuleTest
    answer: Answer

    @property
    def passed(self) -> bool:
        """Whether the answer is the expected one."""
        return self.answer.state is self.test.expect


@dataclass(frozen=True, slots=True)
class SelfTest:
    """All cases of a pack, and what the cases leave open, one sentence each."""

    cases: tuple[Case, ...]
    gaps: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every case answered as expected and nothing is left open."""
        return not self.gaps and all(case.passed for case in self.cases)


def run_tests(pack: Pack) -> SelfTest:
    """Run the cases of every rule written in the pack (rules taken over are tested where they are written)."""
    written = [rule for rule in pack.rules if rule.at.file == pack.file]
    cases = tuple(
        Case(rule, test, evaluate(rule, given(rule, test), test.as_of))
        for rule in written
        for test in rule.tests
    )
    gaps = [gap for rule in written for gap in _gaps(rule)]
    return SelfTest(cases, tuple(gaps))


def given(rule: Rule, test: RuleTest) -> Evidence:
    """The evidence a case describes."""
    subject = Subject(rule.scope, "test", test.name)
    members = {
        name: tuple(
            Evidence(Subject(SubjectKind.DATASET_INPUT, f"test/{n}", f"{name} {n}"), _facts(one))
            for n, one in enumerate(listed, 1)
        )
        for name, listed in test.members.items()
    }
    return Evidence(subject, _facts(test.given), members, test.attested)


def _facts(values: Mapping[str, FactValue]) -> dict[str, Fact]:
    return {name: Fact(value, _WITHOUT) for name, value in values.items()}


def _gaps(rule: Rule) -> Iterator[str]:
    expected = {test.expect for test in rule.tests}
    if State.PASS not in expected:
        yield f"{rule.id} has no case that passes."
    if not expected & set(_UNMET):
        yield f"{rule.id} has no case that fails."
    if not any(test.expect in _MISSING and _misses(rule, test) for test in rule.tests):
        yield f"{rule.id} has no case where evidence is missing."
    decided = [test for test in rule.tests if test.expect not in (State.NO_EVIDENCE, State.ERROR)]
    for leaf in leaves(rule.condition):
        weaker = replace(rule, condition=_always(rule.condition, leaf))
        if all(_state(weaker, test) is _state(rule, test) for test in decided):
            yield (
                f"{rule.id} (line {leaf.at.line}): no case depends on '{leaf.fact} {leaf.operator}'; "
                "the rule answers the same without it."
            )


def _state(rule: Rule, test: RuleTest) -> State:
    return evaluate(rule, given(rule, test), test.as_of).state


def _always(condition: Condition | None, target: Compare) -> Condition | None:
    """The condition with one comparison taken as always true (an empty ``all``)."""
    if condition is target:
        return All((), target.at)
    if isinstance(condition, (All, AnyOf)):
        parts = tuple(part for old in condition.parts if (part := _always(old, target)) is not None)
        return replace(condition, parts=parts)
    if isinstance(condition, Not):
        part = _always(condition.part, target)
        return Not(part, condition.at) if part is not None else None
    if isinstance(condition, ForEach):
        below = _always(condition.condition, target) or condition.condition
        return replace(condition, condition=below, where=_always(condition.where, target))
    return condition


def _misses(rule: Rule, test: RuleTest) -> bool:
    """Whether something the rule looks at is not there in the case."""
    seen = evaluate(rule, given(rule, test), test.as_of).observations
    return any(observation.observed is None for observation in seen)


def leaves(condition: Condition | None) -> Iterator[Compare]:
    """Every comparison of a condition."""
    if isinstance(condition, Compare):
        yield condition
    elif isinstance(condition, (All, AnyOf)):
        for part in condition.parts:
            yield from leaves(part)
    elif isinstance(condition, Not):
        yield from leaves(condition.part)
    elif isinstance(condition, ForEach):
        yield from leaves(condition.where)
        yield from leaves(condition.condition)
