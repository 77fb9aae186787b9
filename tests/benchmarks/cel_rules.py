"""Rules as CEL (Common Expression Language), for the benchmark: what a row-wise evaluator would be given.

CEL and our rules agree on what is unknown: ``false && error`` is false, ``true || error`` is true, and a key
that is missing is an error. So true, false, error are pass, fail, no evidence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.policy.model import (
    All,
    AnyOf,
    Compare,
    Condition,
    FactTerm,
    ForEach,
    Near,
    Not,
    Operand,
    Pack,
    Rule,
)

_SIGNS = {"at_most": "<=", "at_least": ">=", "less_than": "<", "more_than": ">"}
_SCOPES = {SubjectKind.RUN: "run", SubjectKind.DATASET_INPUT: "dataset"}
_NOT_IN_A_ROW = ("dataset.other_digests", "seal.", "lineage.", "policy.")


class NotInCelError(Exception):
    """CEL has no such test, or the fact is not in the row."""


def rules_in_cel(packs: Iterable[Pack]) -> tuple[list[dict[str, str]], list[str]]:
    """Rules on runs and datasets that can be said in CEL, and the ids of those that cannot."""
    said, left_out = list[dict[str, str]](), list[str]()
    for rule in (rule for pack in packs for rule in pack.rules if rule.scope in _SCOPES):
        if found := _rule(rule):
            said.append(found)
        else:
            left_out.append(rule.id)
    return said, left_out


def _rule(rule: Rule) -> dict[str, str] | None:
    if rule.condition is None:
        return None
    try:
        when = _cel(rule.when) if rule.when else "true"
        condition = _cel(rule.condition)
    except NotInCelError:
        return None
    return {"id": rule.id, "scope": _SCOPES[rule.scope], "when": when, "assert": condition}


def _cel(condition: Condition) -> str:
    if isinstance(condition, All):
        return "(" + " && ".join(map(_cel, condition.parts)) + ")"
    if isinstance(condition, AnyOf):
        return "(" + " || ".join(map(_cel, condition.parts)) + ")"
    if isinstance(condition, Not):
        return f"!({_cel(condition.part)})"
    if isinstance(condition, ForEach):
        if condition.members != "datasets":
            raise NotInCelError
        where = f"!({_cel(condition.where)}) || " if condition.where else ""
        return f"(size(datasets) > 0 && datasets.all(dataset, {where}{_cel(condition.condition)}))"
    return _compared(condition)


def _compared(leaf: Compare) -> str:
    if leaf.fact.startswith(_NOT_IN_A_ROW):
        raise NotInCelError
    namespace, _, key = leaf.fact.partition(".")
    there, fact, operand = f"{_text(key)} in {namespace}", _fact(leaf.fact), leaf.operand
    simple = {"present": there, "absent": f"!({there})", "empty": f"size({fact}) == 0"}
    if leaf.operator in simple:
        return simple[leaf.operator]
    if leaf.operator in _SIGNS:
        return f"{_number(fact)} {_SIGNS[leaf.operator]} {_operand(operand)}"
    if leaf.operator == "between" and isinstance(operand, tuple):
        low, high = map(_operand, operand)
        return f"({_number(fact)} >= {low} && {_number(fact)} <= {high})"
    if leaf.operator == "matches":
        return f"string({fact}).matches({_text(operand)})"
    if leaf.operator in ("includes_any", "no_overlap_with"):
        found = f"{fact}.exists(one, one in {json.dumps(operand)})"
        return found if leaf.operator == "includes_any" else f"!{found}"
    return _equal(leaf, fact)


def _equal(leaf: Compare, fact: str) -> str:
    values = leaf.operand if isinstance(leaf.operand, tuple) else (leaf.operand,)
    if leaf.operator not in ("equals", "not_equals", "one_of", "none_of"):
        raise NotInCelError
    same = " || ".join(
        f"{_number(fact)} == {_operand(one)}"
        if isinstance(one, (int, float)) and not isinstance(one, bool)
        else f"string({fact}) == {_text(str(one).lower() if isinstance(one, bool) else one)}"
        for one in values
    )
    return f"({same})" if leaf.operator in ("equals", "one_of") else f"!({same})"


def _fact(name: str) -> str:
    namespace, _, key = name.partition(".")
    return f"{namespace}[{_text(key)}]"


def _number(cel: str) -> str:
    return f"double({cel})"


def _text(value: object) -> str:
    return json.dumps(str(value))


def _operand(operand: Operand | FactTerm | Near) -> str:
    if isinstance(operand, FactTerm):
        return f"({_number(_fact(operand.fact))} * {operand.times!r} + {operand.plus!r})"
    if isinstance(operand, (int, float)) and not isinstance(operand, bool):
        return repr(float(operand))
    raise NotInCelError
