"""What a new text of a policy changes: in its rules, and in the verdicts on evidence at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlflow_carbon.policy.model import Pack, Rule, State
from mlflow_carbon.policy.words import condition_lines

Verdicts = Mapping[tuple[str, str], State]
"""(rule id, subject kind and key) -> state."""


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One rule that is new, gone or different; ``what`` says in which way."""

    rule: str
    what: str


def changed_rules(old: Pack, new: Pack) -> tuple[Change, ...]:
    """Every rule that is new, gone or different in meaning; the text around it does not count."""
    before, after = ({rule.id: rule for rule in pack.rules} for pack in (old, new))
    changes = [Change(rule, "removed") for rule in before if rule not in after]
    changes += [Change(rule, "new") for rule in after if rule not in before]
    for rule in before.keys() & after.keys():
        changes += [Change(rule, what) for what in _differences(before[rule], after[rule])]
    return tuple(sorted(changes))


def _differences(old: Rule, new: Rule) -> Iterator[str]:
    for name in ("severity", "scope", "on_missing", "baseline_alias"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield f"{name} {getattr(before, 'value', before)} -> {getattr(after, 'value', after)}"
    if _meaning(old) != _meaning(new):
        yield "what it asks"
    if set(old.controls) != set(new.controls):
        yield "its controls"


def _meaning(rule: Rule) -> tuple[object, ...]:
    """What a rule asks, without the places it is written at."""
    conditions = tuple(
        tuple(condition_lines(part)) if part is not None else ()
        for part in (rule.when, rule.condition)
    )
    attest = rule.attest
    return (*conditions, attest and (attest.statement, attest.asks, attest.max_age_days))


def changed_verdicts(old: Verdicts, new: Verdicts) -> Sequence[tuple[str, str, str, str]]:
    """(rule, subject, state before, state after) wherever the answer changed; ``-`` where there was none."""
    return [
        (rule, subject, _shown(old.get((rule, subject))), _shown(new.get((rule, subject))))
        for rule, subject in sorted(old.keys() | new.keys())
        if old.get((rule, subject)) is not new.get((rule, subject))
    ]


def _shown(state: State | None) -> str:
    return "-" if state is None else state.value
