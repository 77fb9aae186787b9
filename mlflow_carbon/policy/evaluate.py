"""One rule against the evidence on one subject: three-valued, and it says what it looked at.

Kleene logic: an unknown part leaves the whole unknown unless the other parts decide it. A value
of the wrong type makes the state ``error``, whatever the other parts say.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mlflow_carbon.errors import Location
from mlflow_carbon.evidence.model import Attestation, Evidence, Fact, FactValue
from mlflow_carbon.policy.message import render
from mlflow_carbon.policy.model import (
    All,
    Attest,
    Compare,
    Condition,
    FactTerm,
    ForEach,
    Near,
    Not,
    Observation,
    Rule,
    State,
)
from mlflow_carbon.policy.operators import OPERATORS, PRESENCE, MismatchError, number, shown

_NAMED_AT_MOST = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rule says about a subject. ``truth`` is ``None`` where the evidence does not decide."""

    state: State
    truth: bool | None
    observations: tuple[Observation, ...]
    message: str


@dataclass(slots=True)
class _Trace:
    """What the evaluation saw on its way."""

    as_of: datetime
    observations: list[Observation] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Facts an answer would have needed."""
    culprits: list[Mapping[str, Fact]] = field(default_factory=list)
    """Facts of the members that did not meet a ``for_each``."""


@dataclass(frozen=True, slots=True)
class _Scene:
    """The facts in reach, and whose they are."""

    label: str
    facts: Mapping[str, Fact]
    members: Mapping[str, tuple[Evidence, ...]]


def evaluate(rule: Rule, evidence: Evidence, as_of: datetime) -> Answer:
    """The answer of ``rule`` on ``evidence`` at the moment ``as_of`` (aware UTC)."""
    trace = _Trace(as_of)
    scene = _Scene(evidence.subject.label, evidence.facts, evidence.members)
    applies = True if rule.when is None else _truth(rule.when, scene, trace)
    if applies is False and not trace.errors:
        return _answer(
            State.NOT_APPLICABLE, None, trace, f"Does not apply: {_seen(trace.observations)}."
        )
    if rule.attest is not None:
        return _attested(rule.attest, applies, evidence, trace)
    if rule.condition is None:
        raise ValueError(f"rule {rule.id} has neither a condition nor an attest section")
    holds = _truth(rule.condition, scene, trace)
    if trace.errors:
        message = f"Could not be evaluated: {'; '.join(trace.errors[:_NAMED_AT_MOST])}."
        return _answer(State.ERROR, None, trace, message)
    truth = holds if applies else (True if holds else None)
    if truth is None:
        return _unknown(rule, applies, trace)
    if truth:
        return _answer(State.PASS, True, trace, f"{rule.title}: {_seen(trace.observations)}.")
    return _answer(State.FAIL, False, trace, _finding(rule, scene, trace))


def _answer(state: State, truth: bool | None, trace: _Trace, message: str) -> Answer:
    return Answer(state, truth, tuple(trace.observations), message)


def _unknown(rule: Rule, applies: bool | None, trace: _Trace) -> Answer:
    missing = dict.fromkeys(name.replace(".", " ", 1) for name in trace.missing)
    what = ", ".join(missing) or "what the rule reads"
    message = f"Not decided ({rule.title}): not on record: {what}."
    if applies is None:
        message += " Whether the rule applies is not on record either."
    return _answer(rule.on_missing, None, trace, message)


def _finding(rule: Rule, scene: _Scene, trace: _Trace) -> str:
    def value_of(namespace: str, key: str) -> FactValue | None:
        name = f"{namespace}.{key}"
        own = scene.facts.get(name)
        if own is not None and not is_missing(own.value):
            return own.value
        seen = [
            f[name].value for f in trace.culprits if name in f and not is_missing(f[name].value)
        ]
        distinct = list(dict.fromkeys(shown(value) for value in seen))
        more = (
            f" and {len(distinct) - _NAMED_AT_MOST} more" if len(distinct) > _NAMED_AT_MOST else ""
        )
        return ", ".join(distinct[:_NAMED_AT_MOST]) + more or None

    return render(rule.finding, value_of)


def _seen(observations: Iterable[Observation]) -> str:
    parts = [
        f"{o.fact.replace('.', ' ', 1)} is {o.observed if o.observed is not None else 'not on record'}"
        for o in observations
    ]
    distinct = list(dict.fromkeys(parts))
    more = f" and {len(distinct) - _NAMED_AT_MOST} more" if len(distinct) > _NAMED_AT_MOST else ""
    return "; ".join(distinct[:_NAMED_AT_MOST]) + more


def is_missing(value: FactValue) -> bool:
    """NaN, infinity and blank text count as not there; an empty list is a value."""
    if isinstance(value, float):
        return not math.isfinite(value)
    return isinstance(value, str) and not value.strip()


def _truth(condition: Condition, scene: _Scene, trace: _Trace) -> bool | None:
    if isinstance(condition, Compare):
        return _compare(condition, scene, trace)
    if isinstance(condition, Not):
        inner = _truth(condition.part, scene, trace)
        return None if inner is None else not inner
    if isinstance(condition, ForEach):
        return _for_each(condition, scene, trace)
    # Every part is looked at, also after the answer is known: the finding shows all that was seen.
    answers = [_truth(part, scene, trace) for part in condition.parts]
    return _every(answers) if isinstance(condition, All) else _some(answers)


def _every(answers: list[bool | None]) -> bool | None:
    if False in answers:
        return False
    return None if None in answers else True


def _some(answers: list[bool | None]) -> bool | None:
    if True in answers:
        return True
    return None if None in answers else False


def _for_each(condition: ForEach, scene: _Scene, trace: _Trace) -> bool | None:
    answers: list[bool | None] = []
    for member in scene.members.get(condition.members, ()):
        facts = ChainMap(dict(member.facts), dict(scene.facts))
        inner = _Scene(member.subject.label, facts, {})
        wanted = True
        if condition.where is not None:
            chosen = _truth(condition.where, inner, _Trace(trace.as_of, errors=trace.errors))
            if chosen is False:
                continue
            wanted = chosen is True
        met = _truth(condition.condition, inner, trace)
        answers.append(met if wanted else (True if met else None))
        if met is not True:
            trace.culprits.append(member.facts)
    if answers:
        return _every(answers)
    trace.missing.append(condition.members)
    expected = "at least one" if condition.where is None else "at least one that matches"
    trace.observations.append(
        _observed(condition.members, expected, None, scene.label, condition.at)
    )
    return None


def _compare(leaf: Compare, scene: _Scene, trace: _Trace) -> bool | None:
    operator = OPERATORS[leaf.operator]
    fact = scene.facts.get(leaf.fact)
    there = fact is not None and not is_missing(fact.value)
    operand, expected = _operand(leaf, scene, trace)
    seen = shown(fact.value) if fact is not None and there else None
    origin = fact.read_from if fact is not None else scene.label
    trace.observations.append(_observed(leaf.fact, expected, seen, origin, leaf.at))
    if leaf.operator in PRESENCE:
        return there is (leaf.operator == "present")
    if fact is None or not there or operand is None:
        trace.missing.extend([] if there else [leaf.fact])
        return None
    try:
        return operator.test(fact.value, operand, trace.as_of)
    except MismatchError as mismatch:
        trace.errors.append(f"{leaf.fact.replace('.', ' ', 1)}: {mismatch}")
        return None


def _observed(fact: str, expected: str, seen: str | None, origin: str, at: Location) -> Observation:
    return Observation(fact=fact, expected=expected, observed=seen, read_from=origin, at=at)


def _operand(leaf: Compare, scene: _Scene, trace: _Trace) -> tuple[object, str]:
    """The operand with other facts put in (``None``: one is missing), and how it reads."""
    says = OPERATORS[leaf.operator].says
    if isinstance(leaf.operand, FactTerm):
        value = _term(leaf.operand, leaf.at, scene, trace)
        return value, says.format(_term_text(leaf.operand, value))
    if isinstance(leaf.operand, Near):
        of = leaf.operand.of
        value = _term(of, leaf.at, scene, trace) if isinstance(of, FactTerm) else of
        what = _term_text(of, value) if isinstance(of, FactTerm) else shown(of)
        text = says.format(f"{leaf.operand.percent:g} % of {what}")
        return (None if value is None else (leaf.operand.percent, value)), text
    if leaf.operator == "between" and isinstance(leaf.operand, tuple):
        return leaf.operand, says.format(" and ".join(shown(item) for item in leaf.operand))
    return leaf.operand, says.format(shown(leaf.operand))


def _term_text(term: FactTerm, value: float | None) -> str:
    times = f"{term.times:g} x " if term.times != 1 else ""
    plus = f" {'+' if term.plus > 0 else '-'} {abs(term.plus):g}" if term.plus else ""
    known = f" ({value:.6g})" if value is not None else ""
    return f"{times}{term.fact.replace('.', ' ', 1)}{plus}{known}"


def _term(term: FactTerm, at: Location, scene: _Scene, trace: _Trace) -> float | None:
    fact = scene.facts.get(term.fact)
    if fact is None or is_missing(fact.value):
        trace.missing.append(term.fact)
        trace.observations.append(_observed(term.fact, "on record", None, scene.label, at))
        return None
    trace.observations.append(
        _observed(term.fact, "on record", shown(fact.value), fact.read_from, at)
    )
    try:
        return number(fact.value) * term.times + term.plus
    except MismatchError as mismatch:
        trace.errors.append(f"{term.fact.replace('.', ' ', 1)}: {mismatch}")
        return None


def _attested(attest: Attest, applies: bool | None, evidence: Evidence, trace: _Trace) -> Answer:
    made = [a for a in evidence.attestations if a.statement == attest.statement]
    good = [a for a in made if _why_not(a, attest, trace.as_of) is None]
    newest = max(good or made, key=lambda a: a.made_at, default=None)
    where = evidence.subject.label
    seen = f"by {newest.by} on {newest.made_at:%Y-%m-%d}" if newest else None
    expected = "a named person's statement in force"
    trace.observations.append(
        _observed(f"attestation.{attest.statement}", expected, seen, where, attest.at)
    )
    if trace.errors:
        return _answer(
            State.ERROR, None, trace, f"Could not be evaluated: {'; '.join(trace.errors)}."
        )
    if newest is not None and good:
        who = f"{newest.by} ({newest.role})" if newest.role else newest.by
        message = (
            f"Attested by {shown(who)} on {newest.made_at:%Y-%m-%d}, not verified: {attest.asks}"
        )
        return _answer(State.PASS, True, trace, message)
    why = _why_not(newest, attest, trace.as_of) if newest else "nobody has made it"
    doubt = " Whether the rule applies is not on record." if applies is None else ""
    message = f"Needs the attestation {attest.statement!r}: {why}. It says: {attest.asks}{doubt}"
    return _answer(State.NEEDS_ATTESTATION, None, trace, message)


def _why_not(made: Attestation, attest: Attest, as_of: datetime) -> str | None:
    """Why an attestation has no force at ``as_of``; ``None``: it has."""
    if made.made_at > as_of:
        return f"the one of {shown(made.by)} is dated {made.made_at:%Y-%m-%d}, after the audit"
    if made.expires_at is not None and made.expires_at < as_of:
        return f"the one of {shown(made.by)} expired on {made.expires_at:%Y-%m-%d}"
    age = attest.max_age_days
    if age is not None and as_of - made.made_at > timedelta(days=age):
        return f"the one of {shown(made.by)} of {made.made_at:%Y-%m-%d} is older than {age} days"
    return None
