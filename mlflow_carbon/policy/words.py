"""Rules and packs in plain words, for a terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Iterator

from mlflow_carbon.policy.model import (
    All,
    AnyOf,
    Compare,
    Condition,
    FactTerm,
    Near,
    Not,
    Pack,
    Rule,
)
from mlflow_carbon.policy.operators import OPERATORS, shown


def condition_lines(condition: Condition, depth: int = 0) -> Iterator[str]:
    """The condition as indented lines."""
    indent = "  " * depth
    if isinstance(condition, Compare):
        yield f"{indent}- {comparison(condition)}"
    elif isinstance(condition, (All, AnyOf)):
        yield f"{indent}- {'all' if isinstance(condition, All) else 'at least one'} of:"
        for part in condition.parts:
            yield from condition_lines(part, depth + 1)
    elif isinstance(condition, Not):
        yield f"{indent}- not:"
        yield from condition_lines(condition.part, depth + 1)
    else:
        chosen = " for which this holds:" if condition.where else ":"
        matching = f" matching {condition.pattern}" if condition.pattern else ""
        whose = "the baseline's " if condition.in_baseline else "the "
        yield f"{indent}- each of {whose}{condition.members}{matching}{chosen}"
        if condition.where:
            yield from condition_lines(condition.where, depth + 1)
            yield f"{indent}  must meet:"
        yield from condition_lines(condition.condition, depth + 1)


def comparison(leaf: Compare) -> str:
    """One comparison as words: ``metric accuracy is at least 0.9``."""
    return f"{fact_name(leaf.fact)} is {OPERATORS[leaf.operator].says.format(_operand(leaf))}"


def fact_name(fact: str) -> str:
    """``metric accuracy`` for ``metric.accuracy``."""
    if fact.startswith("baseline."):
        return "the baseline's " + fact_name(fact.removeprefix("baseline."))
    return fact.replace(".", " ", 1)


def term(of: FactTerm) -> str:
    """``1.1 x metric loss + 2``."""
    times = f"{of.times:g} x " if of.times != 1 else ""
    plus = f" {'+' if of.plus > 0 else '-'} {abs(of.plus):g}" if of.plus else ""
    return f"{times}{fact_name(of.fact)}{plus}"


def _operand(leaf: Compare) -> str:
    if isinstance(leaf.operand, FactTerm):
        return term(leaf.operand)
    if isinstance(leaf.operand, Near):
        of = leaf.operand.of
        return (
            f"{leaf.operand.percent:g} % of {term(of) if isinstance(of, FactTerm) else shown(of)}"
        )
    if leaf.operator == "between" and isinstance(leaf.operand, tuple):
        return " and ".join(shown(item) for item in leaf.operand)
    return shown(leaf.operand)


def rule_text(rule: Rule) -> str:
    """All of a rule that a reader needs, as lines."""
    lines = [
        f"{rule.id}  {rule.title}",
        "",
        f"Severity: {rule.severity.value}. About: {about(rule)}.",
    ]
    lines += ["", f"Why: {rule.rationale}", ""]
    if rule.when is not None:
        lines += ["Applies when:", *condition_lines(rule.when), ""]
    if rule.condition is not None:
        lines += ["Passes when:", *condition_lines(rule.condition), ""]
    if rule.attest is not None:
        lines += [f"A named person attests ({rule.attest.statement}): {rule.attest.asks}", ""]
    lines += [f"If evidence is missing: {rule.on_missing.value}", ""]
    lines += ["Evidence for:"]
    lines += [f"- {c.framework} {c.control} ({c.relation.value})" for c in rule.controls]
    lines += [
        "",
        f"What to do: {rule.remediation}",
        "",
        f"A pass does not show: {rule.does_not_show}",
    ]
    lines += ["", f"Written in {rule.at}"]
    return "\n".join(lines)


def about(rule: Rule) -> str:
    """What the rule is about: ``run``, ``pair, against the alias champion``."""
    what = rule.scope.value.replace("_", " ")
    return f"{what}, against the alias {rule.baseline_alias}" if rule.baseline_alias else what


def pack_text(pack: Pack) -> str:
    """A pack's rules as a list, with its parameters and its gate."""
    lines = [f"{pack.title}", f"{pack.id} {pack.version}, owner {pack.owner}, {pack.file}"]
    lines += ["", pack.describe] if pack.describe else []
    lines += ["", "Parameters:"] if pack.parameters else []
    for parameter in pack.parameters.values():
        unit = f" {parameter.unit}" if parameter.unit else ""
        lines.append(f"- {parameter.name} = {shown(parameter.value)}{unit}  {parameter.describe}")
    if pack.gate is not None:
        protected = ", ".join([*pack.gate.aliases, *pack.gate.stages, *pack.gate.models])
        lines += [
            "",
            f"Gate: protects {protected}; blocks from severity {pack.gate.blocks_at.value}",
        ]
    lines += ["", "Rules:"]
    lines += [f"- {rule.id:8} {rule.severity.value:8} {rule.title}" for rule in pack.rules]
    lines += [f"- looser: {sentence}" for sentence in pack.loosened]
    return "\n".join(lines)
