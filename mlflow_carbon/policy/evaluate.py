"""One rule against the evidence on one subject: one of seven states, and a sentence for a reader.

``not when or assert`` in Kleene logic: a rule whose ``when`` is unknown can pass but not fail. A value
of the wrong type makes the state ``error``, whatever the other parts say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from mlflow_carbon.evidence.model import Attestation, Evidence, FactValue
from mlflow_carbon.policy.message import render
from mlflow_carbon.policy.model import Attest, Observation, OnMissing, Rule, State
from mlflow_carbon.policy.operators import shown
from mlflow_carbon.policy.truth import Scene, Trace, is_missing, truth
from mlflow_carbon.policy.words import fact_name

_NAMED_AT_MOST = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rule says about a subject. ``truth`` is ``None`` where the evidence does not decide."""

    state: State
    truth: bool | None
    observations: tuple[Observation, ...]
    message: str


def evaluate(rule: Rule, evidence: Evidence, as_of: datetime) -> Answer:
    """The answer of ``rule`` on ``evidence`` at the moment ``as_of`` (aware UTC)."""
    trace = Trace(as_of)
    scene = Scene.of(evidence)
    applies = True if rule.when is None else truth(rule.when, scene, trace)
    if applies is False and not trace.errors:
        return _answer(
            State.NOT_APPLICABLE, None, trace, f"Does not apply: {_seen(trace.observations)}."
        )
    if rule.attest is not None:
        return _attested(rule.attest, applies, evidence, trace)
    if rule.condition is None:
        raise ValueError(f"rule {rule.id} has neither a condition nor an attest section")
    holds = truth(rule.condition, scene, trace)
    if trace.errors:
        message = f"Could not be evaluated: {'; '.join(trace.errors[:_NAMED_AT_MOST])}."
        return _answer(State.ERROR, None, trace, message)
    decided = holds if applies else (True if holds else None)
    if decided is None:
        return _unknown(rule, applies, trace)
    if decided:
        return _answer(State.PASS, True, trace, f"{rule.title}: {_seen(trace.observations)}.")
    return _answer(State.FAIL, False, trace, _finding(rule, scene, trace))


def _answer(state: State, value: bool | None, trace: Trace, message: str) -> Answer:
    return Answer(state, value, tuple(trace.observations), message)


def _unknown(rule: Rule, applies: bool | None, trace: Trace) -> Answer:
    missing = dict.fromkeys(map(fact_name, trace.missing))
    what = ", ".join(missing) or "what the rule reads"
    message = f"Not decided ({rule.title}): not on record: {what}."
    if applies is None:
        message += " Whether the rule applies is not on record either."
    return _answer(rule.on_missing.state, None, trace, noted(rule, message))


def noted(rule: Rule, message: str) -> str:
    """The sentence about an answer that evidence does not decide, with the policy's word on it."""
    lets_pass = rule.on_missing is OnMissing.PASS_WITH_NOTE
    return f"{message} The policy lets this pass with a note." if lets_pass else message


def _finding(rule: Rule, scene: Scene, trace: Trace) -> str:
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
        f"{fact_name(o.fact)} is {o.observed if o.observed is not None else 'not on record'}"
        for o in observations
    ]
    distinct = list(dict.fromkeys(parts))
    more = f" and {len(distinct) - _NAMED_AT_MOST} more" if len(distinct) > _NAMED_AT_MOST else ""
    return "; ".join(distinct[:_NAMED_AT_MOST]) + more


def _attested(attest: Attest, applies: bool | None, evidence: Evidence, trace: Trace) -> Answer:
    made = [a for a in evidence.attestations if a.statement == attest.statement]
    good = [a for a in made if _why_not(a, attest, trace.as_of) is None]
    newest = max(good or made, key=lambda a: a.made_at, default=None)
    where = evidence.subject.label
    seen = f"by {newest.by} on {newest.made_at:%Y-%m-%d}" if newest else None
    expected = "a named person's statement in force"
    trace.observations.append(
        Observation(
            fact=f"attestation.{attest.statement}",
            expected=expected,
            observed=seen,
            read_from=where,
            at=attest.at,
        )
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
    if attest.signed and not made.signed_by:
        return f"the one of {shown(made.by)} is not signed with a trusted key"
    if made.made_at > as_of:
        return f"the one of {shown(made.by)} is dated {made.made_at:%Y-%m-%d}, after the audit"
    if made.expires_at is not None and made.expires_at < as_of:
        return f"the one of {shown(made.by)} expired on {made.expires_at:%Y-%m-%d}"
    age = attest.max_age_days
    if age is not None and as_of - made.made_at > timedelta(days=age):
        return f"the one of {shown(made.by)} of {made.made_at:%Y-%m-%d} is older than {age} days"
    return None
