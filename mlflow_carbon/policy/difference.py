"""What a new text of a policy changes: in its rules, and in the verdicts on evidence at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from mlflow_carbon.policy.model import Condition, Pack, Rule, State
from mlflow_carbon.policy.words import condition_lines


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What an audit answered: each subject's state as far as listed, and every rule's counts, which are whole."""

    states: Mapping[tuple[str, str], State]
    """(rule id, subject in words) -> state."""
    counts: Mapping[str, Mapping[State, int]]
    left_out: int = 0
    """Answers that are counted but not listed."""


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
    for name, asked, asks in (
        ("when", old.when, new.when),
        ("assert", old.condition, new.condition),
    ):
        yield from (f"{name}: {change}" for change in _reworded(asked, asks))
    if _stated(old) != _stated(new):
        yield "what a person must state"
    if set(old.controls) != set(new.controls):
        yield "its controls"


def _reworded(old: Condition | None, new: Condition | None) -> Iterator[str]:
    """The lines of a condition that differ, without the places they are written at."""
    before, after = (list(condition_lines(part)) if part else [] for part in (old, new))
    for same, i1, i2, j1, j2 in SequenceMatcher(None, before, after, False).get_opcodes():
        if same != "equal":
            yield f"{_told(before[i1:i2])} -> {_told(after[j1:j2])}"


def _told(lines: Sequence[str]) -> str:
    return "; ".join(line.strip().removeprefix("- ").rstrip(":") for line in lines) or "nothing"


def _stated(rule: Rule) -> tuple[object, ...] | None:
    of = rule.attest
    return None if of is None else (of.statement, of.asks, of.max_age_days, of.signed)


def changed_verdicts(old: Verdicts, new: Verdicts) -> Sequence[tuple[str, str, str, str]]:
    """(rule, subject, state before, state after) wherever the answer changed; ``-`` where there was none.

    Where not all answers are listed, only subjects listed on both sides are compared: the others may be the same.
    """
    keys = old.states.keys() | new.states.keys()
    if old.left_out or new.left_out:
        keys = old.states.keys() & new.states.keys()
    return [
        (rule, subject, _shown(before), _shown(after))
        for rule, subject in sorted(keys)
        if (before := old.states.get((rule, subject)))
        is not (after := new.states.get((rule, subject)))
    ]


def changed_counts(old: Verdicts, new: Verdicts) -> Sequence[tuple[str, str, str]]:
    """(rule, counts before, counts after) of every rule whose counts changed: ``3 fail, 1 pass``."""
    return [
        (rule, before, after)
        for rule in sorted(old.counts.keys() | new.counts.keys())
        if (before := _counted(old.counts.get(rule, {})))
        != (after := _counted(new.counts.get(rule, {})))
    ]


def _counted(counts: Mapping[State, int]) -> str:
    return ", ".join(f"{counts[s]} {s.value}" for s in State if counts.get(s)) or "nothing"


def _shown(state: State | None) -> str:
    return "-" if state is None else state.value
