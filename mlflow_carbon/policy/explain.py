"""Why a rule answers as it does: its tree, each part with its answer, its value, its source and its line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePath

from mlflow_carbon.errors import Location
from mlflow_carbon.evidence.model import Evidence
from mlflow_carbon.policy.evaluate import evaluate
from mlflow_carbon.policy.model import (
    All,
    AnyOf,
    Compare,
    Condition,
    ForEach,
    Not,
    Observation,
    Rule,
)
from mlflow_carbon.policy.truth import Scene, Trace, inside, members_of, truth
from mlflow_carbon.policy.words import fact_name

_SHOWN = {True: "true   ", False: "false  ", None: "unknown"}
_MEMBERS_AT_MOST = 50


def explain(rule: Rule, evidence: Evidence, as_of: datetime) -> Iterator[str]:
    """The explanation as lines."""
    answer = evaluate(rule, evidence, as_of)
    yield f"{rule.id} on {evidence.subject.label} ({evidence.subject.kind.value}): {answer.state.value}"
    yield f"  {answer.message}"
    scene = Scene.of(evidence)
    for name, condition in (("when", rule.when), ("assert", rule.condition)):
        if condition is not None:
            yield f"  {name}:"
            yield from _lines(condition, scene, as_of, 2)
    if rule.attest is not None:
        made = answer.observations[-1]
        yield f"  attest {rule.attest.statement}: {made.observed or 'nobody'}   {_place(rule.attest.at)}"
    yield f"  rule written at {rule.at}"


def _lines(condition: Condition, scene: Scene, as_of: datetime, depth: int) -> Iterator[str]:
    trace = Trace(as_of)
    answer = truth(condition, scene, trace)
    shown = "error  " if trace.errors else _SHOWN[answer]
    start = f"{'  ' * depth}[{shown}] "
    if isinstance(condition, Compare):
        *compared_with, asked = trace.observations
        yield f"{start}{_seen(asked)}   {_place(condition.at)}"
        for other in compared_with:
            yield f"{'  ' * (depth + 5)}beside it, {_seen(other)}"
        for error in trace.errors:
            yield f"{'  ' * (depth + 1)}{error}"
    elif isinstance(condition, (All, AnyOf)):
        word = "all of" if isinstance(condition, All) else "at least one of"
        yield f"{start}{word}   {_place(condition.at)}"
        for part in condition.parts:
            yield from _lines(part, scene, as_of, depth + 1)
    elif isinstance(condition, Not):
        yield f"{start}not   {_place(condition.at)}"
        yield from _lines(condition.part, scene, as_of, depth + 1)
    else:
        yield f"{start}each of the {condition.members} {condition.pattern}   {_place(condition.at)}"
        yield from _each(condition, scene, as_of, depth + 1)


def _each(condition: ForEach, scene: Scene, as_of: datetime, depth: int) -> Iterator[str]:
    members = list(members_of(condition, scene))
    if not members:
        yield f"{'  ' * depth}there is none, so nothing was checked"
    for member in members[:_MEMBERS_AT_MOST]:
        inner = inside(member, scene)
        name = member.facts["each.name"].value if "each.name" in member.facts else member.label
        yield f"{'  ' * depth}{name}:"
        if condition.where is not None:
            yield from _lines(condition.where, inner, as_of, depth + 1)
        yield from _lines(condition.condition, inner, as_of, depth + 1)
    if len(members) > _MEMBERS_AT_MOST:
        yield f"{'  ' * depth}and {len(members) - _MEMBERS_AT_MOST} more"


def _seen(o: Observation) -> str:
    if o.observed is None:
        return f"{fact_name(o.fact)} is not on record (asked: {o.expected}; looked for in {o.read_from})"
    return f"{fact_name(o.fact)} is {o.observed} (asked: {o.expected}; {o.read_from})"


def _place(at: Location) -> str:
    return f"{PurePath(at.file).name}:{at.line}"
