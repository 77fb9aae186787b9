"""A pack that extends another one: other values, other severities, rules switched off for a reason.

Making a pack stricter needs no word. Whatever makes it laxer, or cannot be told to make it
stricter, is listed in ``Pack.loosened`` and stands in every report.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow_carbon.policy.model import (
    All,
    AnyOf,
    Compare,
    Condition,
    ForEach,
    Near,
    Not,
    OnMissing,
    Pack,
    Rule,
    Severity,
)
from mlflow_carbon.policy.shape import FaultError, Problems, Taken, did_you_mean, plain
from mlflow_carbon.policy.words import comparison, fact_name
from mlflow_carbon.policy.yaml_tree import Entries

_REF = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)@(?P<version>\d+\.\d+\.\d+)(?:#(?P<sha256>[0-9a-f]{64}))?"
)

ReadPack = Callable[[Path, Mapping[str, object]], Pack]


def extended(
    taken: Taken, problems: Problems, shipped: Mapping[str, Path], read: ReadPack
) -> Pack | None:
    """The pack named under ``extends`` as the overlay wants it; ``None`` after noting what is wrong."""
    try:
        path, match = _source(taken, shipped)
        before = read(path, {})
        _same_text(before, match, taken)
        after = read(path, _values(taken, before))
    except FaultError as fault:
        problems.add(fault.at, fault.message)
        return None
    rules, laxer = _adjusted(after, taken, problems)
    changed = [
        sentence
        for old, new in zip(before.rules, after.rules, strict=True)
        for sentence in loosened(old, new)
    ]
    return replace(after, rules=rules, loosened=(*after.loosened, *changed, *laxer))


def _source(taken: Taken, shipped: Mapping[str, Path]) -> tuple[Path, re.Match[str]]:
    at, ref = taken.place("extends"), str(taken.get("extends"))
    match = _REF.fullmatch(ref)
    if match is None:
        raise FaultError(
            at,
            f"{ref[:80]!r} names no pack; write it like 'baseline@1.0.0' or with '#' and its SHA-256.",
        )
    name = match["name"]
    # A pack beside this one, or a shipped one: what a policy says must not make us open other files.
    beside = Path(at.file).resolve().parent / name
    path = shipped.get(name, beside)
    if not path.is_file():
        hint = did_you_mean(name, shipped)
        raise FaultError(
            at, f"{name!r} is neither a shipped pack nor a file beside this one.{hint}"
        )
    return path, match


def _same_text(pack: Pack, match: re.Match[str], taken: Taken) -> None:
    at = taken.place("extends")
    if pack.version != match["version"]:
        message = f"{match['name']} is version {pack.version} here, not {match['version']}; read what changed, then name the new one."
        raise FaultError(at, message)
    if match["sha256"] not in (None, pack.sha256):
        raise FaultError(
            at, f"the text of {match['name']} is not the one named: its SHA-256 is {pack.sha256}."
        )


def _values(taken: Taken, pack: Pack) -> dict[str, object]:
    node = taken.get("set")
    values: dict[str, object] = {}
    if not isinstance(node, Entries):
        return values
    for name, (written, value) in node.entries.items():
        if name not in pack.parameters:
            hint = did_you_mean(name, pack.parameters)
            raise FaultError(written.at, f"{pack.id} has no parameter {name[:60]!r}.{hint}")
        values[name] = plain(value)
    return values


def _adjusted(pack: Pack, taken: Taken, problems: Problems) -> tuple[tuple[Rule, ...], list[str]]:
    rules = {rule.id: rule for rule in pack.rules}
    laxer = []
    for entry in taken.get("adjust", []):
        rule = rules.get(entry.get("rule", ""))
        if rule is None:
            hint = did_you_mean(str(entry.get("rule", "")), rules)
            problems.add(entry.place("rule"), f"{pack.id} has no such rule.{hint}")
            continue
        because = entry.get("because", "")
        if entry.get("disable"):
            del rules[rule.id]
            laxer.append(f"{rule.id} is switched off: {because}")
        elif {"severity", "on_missing"} & entry.values.keys():
            rules[rule.id] = changed = _changed(rule, entry)
            laxer += [f"{sentence}: {because}" for sentence in _laxer(rule, changed)]
        else:
            message = "an adjustment sets 'severity', 'on_missing' or 'disable: true'."
            problems.add(entry.at, message)
    return tuple(rules.values()), laxer


def _changed(rule: Rule, entry: Taken) -> Rule:
    return replace(
        rule,
        severity=Severity(entry.get("severity", rule.severity.value)),
        on_missing=OnMissing(entry.get("on_missing", rule.on_missing.value)),
    )


def _laxer(old: Rule, new: Rule) -> Iterator[str]:
    if new.severity.rank > old.severity.rank:
        yield f"{new.id} is {new.severity.value}, not {old.severity.value}"
    if new.on_missing.rank > old.on_missing.rank:
        yield f"{new.id} is {new.on_missing.value}, not {old.on_missing.value}, if evidence is missing"


def loosened(old: Rule, new: Rule) -> Iterator[str]:
    """In which comparisons ``new``, the same rule with other parameters, is not stricter than ``old``."""
    pairs = [
        *_pairs(old.condition, new.condition, upward=True),
        *_pairs(old.when, new.when, upward=None),
    ]
    for before, after, upward in pairs:
        if before.operand != after.operand and not _stricter(before, after, upward):
            was, is_ = comparison(before), comparison(after)
            yield f"{new.id}: {is_} (was: {was.removeprefix(fact_name(before.fact)).strip()})"
    if old.attest is not None and new.attest is not None:
        was_days, is_days = old.attest.max_age_days, new.attest.max_age_days
        if was_days is not None and (is_days is None or is_days > was_days):
            yield f"{new.id}: the statement holds {is_days or 'any number of'} days (was: {was_days})"


def _pairs(
    old: Condition | None, new: Condition | None, *, upward: bool | None
) -> Iterator[tuple[Compare, Compare, bool | None]]:
    """The comparisons side by side; ``upward`` is false below ``not``, ``None`` where no side is stricter."""
    if isinstance(old, Compare) and isinstance(new, Compare):
        yield old, new, upward
    elif isinstance(old, (All, AnyOf)) and isinstance(new, (All, AnyOf)):
        for before, after in zip(old.parts, new.parts, strict=True):
            yield from _pairs(before, after, upward=upward)
    elif isinstance(old, Not) and isinstance(new, Not):
        yield from _pairs(old.part, new.part, upward=None if upward is None else not upward)
    elif isinstance(old, ForEach) and isinstance(new, ForEach):
        selected = None if old.pattern != new.pattern else upward
        yield from _pairs(old.where, new.where, upward=None)
        yield from _pairs(old.condition, new.condition, upward=selected)


def _stricter(old: Compare, new: Compare, upward: bool | None) -> bool:
    """Whether the new operand leaves less room. Where that cannot be told, it does not."""
    tighter = _TIGHTER.get(old.operator)
    if upward is None or tighter is None:
        return False
    before, after = (old.operand, new.operand) if upward else (new.operand, old.operand)
    return tighter(before, after)


def _size(operand: Any) -> float:
    """NaN, which compares with nothing, for what has no size."""
    value = operand.percent if isinstance(operand, Near) else operand
    return float(value) if isinstance(value, (int, float)) else math.nan


def _smaller(before: Any, after: Any) -> bool:
    return _size(after) <= _size(before)


def _larger(before: Any, after: Any) -> bool:
    return _size(after) >= _size(before)


def _fewer(before: Any, after: Any) -> bool:
    return set(after) <= set(before)


def _more(before: Any, after: Any) -> bool:
    return set(after) >= set(before)


def _inside(before: Any, after: Any) -> bool:
    return bool(before[0] <= after[0] and after[1] <= before[1])


_TIGHTER: dict[str, Callable[[Any, Any], bool]] = {
    **dict.fromkeys(("at_most", "less_than", "within_percent_of", "newer_than"), _smaller),
    **dict.fromkeys(("at_least", "more_than"), _larger),
    **dict.fromkeys(("one_of", "includes_any"), _fewer),
    **dict.fromkeys(("none_of", "no_overlap_with", "avoids_licenses"), _more),
    "between": _inside,
}
"""Operator -> whether going from the first operand to the second leaves less room."""
