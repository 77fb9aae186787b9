"""Conditions against facts, in Kleene logic: true, false, or unknown; and all that was looked at on the way.

An unknown part leaves the whole unknown unless the other parts decide it. A value of the wrong
type is noted as an error, which the caller must not overlook.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mlflow_carbon.errors import Location
from mlflow_carbon.evidence.keys import pattern
from mlflow_carbon.evidence.model import Evidence, Fact, FactValue
from mlflow_carbon.policy import facts as vocabulary
from mlflow_carbon.policy.model import (
    All,
    Compare,
    Condition,
    FactTerm,
    ForEach,
    Near,
    Not,
    Observation,
)
from mlflow_carbon.policy.operators import (
    OPERATORS,
    PRESENCE,
    MismatchError,
    Takes,
    number,
    shown,
)
from mlflow_carbon.policy.words import fact_name


@dataclass(slots=True)
class Trace:
    """What the evaluation saw on its way."""

    as_of: datetime
    observations: list[Observation] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Facts an answer would have needed."""
    culprits: list[Mapping[str, Fact]] = field(default_factory=list)
    """Facts of the members that did not meet a ``for_each``."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The facts in reach, and whose they are."""

    label: str
    facts: Mapping[str, Fact]
    members: Mapping[str, tuple[Evidence, ...]]
    names: Mapping[str, str] = field(default_factory=dict)
    """``each.value`` -> the metric it stands for."""

    @classmethod
    def of(cls, evidence: Evidence) -> Scene:
        """All that is known about a subject."""
        return cls(evidence.subject.label, evidence.facts, evidence.members)


@dataclass(frozen=True, slots=True)
class Member:
    """One of those a ``for_each`` goes through; ``names`` as in ``Scene``."""

    label: str
    facts: Mapping[str, Fact]
    names: Mapping[str, str]


def is_missing(value: FactValue) -> bool:
    """NaN, infinity and blank text count as not there; an empty list is a value."""
    if isinstance(value, float):
        return not math.isfinite(value)
    return isinstance(value, str) and not value.strip()


def truth(condition: Condition, scene: Scene, trace: Trace) -> bool | None:
    """The answer of a condition; what it looked at, missed and could not compare goes to ``trace``."""
    if isinstance(condition, Compare):
        return _compare(condition, scene, trace)
    if isinstance(condition, Not):
        inner = truth(condition.part, scene, trace)
        return None if inner is None else not inner
    if isinstance(condition, ForEach):
        return _for_each(condition, scene, trace)
    # Every part is looked at, also after the answer is known: the finding shows all that was seen.
    answers = [truth(part, scene, trace) for part in condition.parts]
    return _every(answers) if isinstance(condition, All) else _some(answers)


def _every(answers: list[bool | None]) -> bool | None:
    if False in answers:
        return False
    return None if None in answers else True


def _some(answers: list[bool | None]) -> bool | None:
    if True in answers:
        return True
    return None if None in answers else False


def _for_each(condition: ForEach, scene: Scene, trace: Trace) -> bool | None:
    answers: list[bool | None] = []
    some = False  # one at least is chosen for sure
    for member in members_of(condition, scene):
        inner = inside(member, scene)
        wanted = True
        if condition.where is not None:
            chosen = truth(condition.where, inner, Trace(trace.as_of, errors=trace.errors))
            if chosen is False:
                continue
            wanted = chosen is True
        met = truth(condition.condition, inner, trace)
        some = some or wanted
        answers.append(met if wanted else (True if met else None))
        if met is not True:
            trace.culprits.append(member.facts)
    if some or None in answers:
        return _every(answers)
    what = f"{condition.members} {condition.pattern}".strip()
    trace.missing.append(what)
    expected = "at least one" if condition.where is None else "at least one that matches"
    trace.observations.append(_observed(what, expected, None, scene.label, condition.at))
    return None


def members_of(condition: ForEach, scene: Scene) -> Iterator[Member]:
    """What a ``for_each`` goes through; ``where`` is not applied yet."""
    if condition.members in vocabulary.MEMBERS:
        for member in scene.members.get(condition.members, ()):
            yield Member(member.subject.label, member.facts, {})
        return
    namespace = vocabulary.MATCHED[condition.members]
    prefix = f"{namespace}."
    listed = f"{vocabulary.BASELINE}{prefix}" if condition.in_baseline else prefix
    wanted = pattern(condition.pattern)
    for name in sorted(name for name in scene.facts if name.startswith(listed)):
        key = name[len(listed) :]
        if wanted.search(key) is not None:
            yield _matched(scene, prefix, key)


def inside(member: Member, scene: Scene) -> Scene:
    """What is in reach of a condition about one member: its facts before the subject's."""
    facts = ChainMap(dict(member.facts), dict(scene.facts))
    return Scene(member.label, facts, {}, member.names)


def _matched(scene: Scene, prefix: str, key: str) -> Member:
    """One metric, param or tag as ``each.name``, ``each.value`` or ``each.text``, ``each.baseline``."""
    value = "each.value" if prefix == "metric." else "each.text"
    names = {value: prefix + key, "each.baseline": f"{vocabulary.BASELINE}{prefix}{key}"}
    known = {name: scene.facts[of] for name, of in names.items() if of in scene.facts}
    return Member(scene.label, {"each.name": Fact(key, scene.label), **known}, names)


def _compare(leaf: Compare, scene: Scene, trace: Trace) -> bool | None:
    operator = OPERATORS[leaf.operator]
    name = scene.names.get(leaf.fact, leaf.fact)
    fact = scene.facts.get(leaf.fact)
    there = fact is not None and not is_missing(fact.value)
    operand, expected = _operand(leaf, scene, trace)
    seen = shown(fact.value) if fact is not None and there else None
    origin = fact.read_from if fact is not None else scene.label
    trace.observations.append(_observed(name, expected, seen, origin, leaf.at))
    if leaf.operator in PRESENCE:
        return there is (leaf.operator == "present")
    if fact is None or not there or operand is None:
        trace.missing.extend([] if there else [name])
        return None
    try:
        return operator.test(*_alike(leaf, fact.value, operand), trace.as_of)
    except MismatchError as mismatch:
        trace.errors.append(f"{fact_name(name)}: {mismatch}")
        return None


def _alike(leaf: Compare, value: FactValue, operand: object) -> tuple[FactValue, object]:
    """Two texts on record are names of people and things: case and blanks around make no difference."""
    if isinstance(leaf.operand, FactTerm) and isinstance(value, str) and isinstance(operand, str):
        return value.strip().casefold(), operand.strip().casefold()
    return value, operand


def _observed(fact: str, expected: str, seen: str | None, origin: str, at: Location) -> Observation:
    return Observation(fact=fact, expected=expected, observed=seen, read_from=origin, at=at)


def _operand(leaf: Compare, scene: Scene, trace: Trace) -> tuple[object, str]:
    """The operand with other facts put in (``None``: one is missing), and how it reads."""
    says = OPERATORS[leaf.operator].says
    if isinstance(leaf.operand, FactTerm):
        value = _term(leaf, leaf.operand, scene, trace)
        return value, says.format(_term_text(leaf.operand, value, scene))
    if isinstance(leaf.operand, Near):
        of = leaf.operand.of
        near = _term(leaf, of, scene, trace) if isinstance(of, FactTerm) else of
        what = _term_text(of, near, scene) if isinstance(of, FactTerm) else shown(of)
        text = says.format(f"{leaf.operand.percent:g} % of {what}")
        return (None if near is None else (leaf.operand.percent, near)), text
    if leaf.operator == "between" and isinstance(leaf.operand, tuple):
        return leaf.operand, says.format(" and ".join(shown(item) for item in leaf.operand))
    return leaf.operand, says.format(shown(leaf.operand))


def _term_text(term: FactTerm, value: FactValue | None, scene: Scene) -> str:
    times = f"{term.times:g} x " if term.times != 1 else ""
    plus = f" {'+' if term.plus > 0 else '-'} {abs(term.plus):g}" if term.plus else ""
    known = f" ({shown(value)})" if value is not None else ""
    return f"{times}{fact_name(scene.names.get(term.fact, term.fact))}{plus}{known}"


def _term(leaf: Compare, term: FactTerm, scene: Scene, trace: Trace) -> FactValue | None:
    name = scene.names.get(term.fact, term.fact)
    fact = scene.facts.get(term.fact)
    there = fact is not None and not is_missing(fact.value)
    if fact is None or not there:
        trace.missing.append(name)
        trace.observations.append(_observed(name, "on record", None, scene.label, leaf.at))
        return None
    seen = shown(fact.value)
    trace.observations.append(_observed(name, "on record", seen, fact.read_from, leaf.at))
    if OPERATORS[leaf.operator].takes is Takes.VALUE:
        return fact.value
    try:
        return number(fact.value) * term.times + term.plus
    except MismatchError as mismatch:
        trace.errors.append(f"{fact_name(name)}: {mismatch}")
        return None
