"""From the text of a condition to its tree, with every fault at its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.policy import expression, facts
from mlflow_carbon.policy.model import All, AnyOf, Compare, Condition, ForEach, Not, Parameter
from mlflow_carbon.policy.operands import OperandReader
from mlflow_carbon.policy.operators import OPERATORS, Takes
from mlflow_carbon.policy.shape import FaultError, Problems, did_you_mean, shown
from mlflow_carbon.policy.yaml_tree import Entries, Items, Node, Scalar

LIMIT_LEAVES = 2_000
"""Comparisons in one condition."""

_GROUPS = ("all", "any", "not", "for_each", "expr")
_WITH_MEMBERS = (SubjectKind.RUN, SubjectKind.MODEL_VERSION, SubjectKind.PAIR)


@dataclass(slots=True)
class Reader:
    """Reads the conditions of one rule; a faulty part goes to ``problems`` and yields ``None``."""

    scope: SubjectKind
    parameters: Mapping[str, Parameter]
    problems: Problems
    inside: str = ""
    leaves: list[int] = field(default_factory=lambda: [0])
    """One counter, shared by the readers of nested conditions."""

    def read(self, node: Node) -> Condition | None:
        """The condition written at ``node``."""
        try:
            return self._condition(node)
        except FaultError as fault:
            self.problems.add(fault.at, fault.message)
            return None

    def _condition(self, node: Node) -> Condition | None:
        if not isinstance(node, Entries) or not node.entries:
            raise FaultError(node.at, f"a condition must be a mapping, not {shown(node)}.")
        group = next((name for name in _GROUPS if name in node.entries), None)
        if group is None:
            return self._leaf(node)
        allowed = {"for_each", "where", "assert"} if group == "for_each" else {group}
        for key, (written, _) in node.entries.items():
            if key not in allowed:
                message = (
                    f"{key[:60]!r} cannot stand beside {group!r}; put both into one 'all:' list."
                )
                raise FaultError(written.at, message)
        below = node.entries[group][1]
        readers = {"expr": self._expression, "not": self._not}
        if group == "for_each":
            return self._for_each(node)
        return readers[group](below) if group in readers else self._group(group, below)

    def _expression(self, node: Node) -> Condition | None:
        if not isinstance(node, Scalar) or not node.text.strip():
            raise FaultError(node.at, f"'expr' must be a text, not {shown(node)}.")
        return self.read(expression.parse(node))

    def _not(self, node: Node) -> Condition | None:
        part = self.read(node)
        return Not(part, node.at) if part else None

    def _group(self, group: str, below: Node) -> Condition | None:
        if not isinstance(below, Items) or not below.items:
            raise FaultError(below.at, f"{group!r} must be a list of conditions, at least one.")
        parts = [self.read(item) for item in below.items]
        sound = tuple(part for part in parts if part is not None)
        if len(sound) < len(parts):
            return None
        return All(sound, below.at) if group == "all" else AnyOf(sound, below.at)

    def _for_each(self, node: Entries) -> Condition | None:
        members = node.entries["for_each"][1]
        if self.inside:
            raise FaultError(members.at, "'for_each' cannot stand inside 'for_each'.")
        if self.scope not in _WITH_MEMBERS:
            message = f"'for_each' has nothing to go over in a {self.scope.value}."
            raise FaultError(members.at, message)
        name, keys = self._members(members)
        if "assert" not in node.entries:
            raise FaultError(node.at, "'for_each' needs an 'assert': what each one must meet.")
        inner = replace(self, inside=name)
        where = inner.read(node.entries["where"][1]) if "where" in node.entries else None
        condition = inner.read(node.entries["assert"][1])
        if condition is None:
            return None
        in_baseline = bool(keys) and self.scope is SubjectKind.PAIR
        return ForEach(name, condition, node.at, where, keys, in_baseline)

    def _members(self, node: Node) -> tuple[str, str]:
        """What is gone through, and the pattern of keys where it is by one."""
        if isinstance(node, Scalar) and node.text in facts.MEMBERS:
            return node.text, ""
        if not isinstance(node, Entries) or len(node.entries) != 1:
            choices = f"{', '.join(facts.MEMBERS)} or a mapping like {{metrics: '^eval/'}}"
            raise FaultError(node.at, f"'for_each' goes over {choices}, not {shown(node)}.")
        name, (written, value) = next(iter(node.entries.items()))
        if name not in facts.MATCHED:
            hint = did_you_mean(name, facts.MATCHED) or f" Known: {', '.join(facts.MATCHED)}."
            raise FaultError(written.at, f"'for_each' cannot go over {name[:60]!r}.{hint}")
        operands = OperandReader(self.scope, self.parameters, self.inside)
        return name, str(operands.operand(value, Takes.PATTERN, "each.name"))

    def _leaf(self, node: Entries) -> Compare | None:
        self.leaves[0] += 1
        if self.leaves[0] > LIMIT_LEAVES:
            raise FaultError(node.at, f"more than {LIMIT_LEAVES:,} comparisons in one rule.")
        operands = OperandReader(self.scope, self.parameters, self.inside)
        names = [key for key in node.entries if key in OPERATORS]
        fact = self._fact(node, operands, names)
        return None if fact is None else self._comparison(node, operands, fact, names)

    def _fact(self, node: Entries, operands: OperandReader, names: list[str]) -> str | None:
        """The fact compared; ``None`` after telling all that is wrong with the keys of the comparison."""
        strangers = list(operands.strangers(node, (*OPERATORS, *_GROUPS)))
        for fault in strangers:
            self.problems.add(fault.at, fault.message)
        try:
            fact = operands.named(node)
        except FaultError as fault:
            if not strangers or fault.at is not node.at:
                self.problems.add(fault.at, fault.message)
            for name in names:  # the parameters in it can be wrong too
                operands.parameters_in(node.entries[name][1])
            return None
        return None if strangers else fact

    def _comparison(
        self, node: Entries, operands: OperandReader, fact: str, names: list[str]
    ) -> Compare:
        if not names:
            raise FaultError(
                node.at, f"the comparison has no operator. Known: {', '.join(OPERATORS)}."
            )
        if len(names) > 1:
            raise FaultError(
                node.at, f"{names[0]!r} and {names[1]!r} in one comparison; use 'all:'."
            )
        written = node.entries[names[0]][1]
        kind = facts.fact_type(fact)
        if kind not in OPERATORS[names[0]].on:
            fits = [name for name, operator in OPERATORS.items() if kind in operator.on]
            message = (
                f"{names[0]!r} does not work on {fact!r}, a {kind.value}. Use {', '.join(fits)}."
            )
            raise FaultError(written.at, message)
        operand = operands.operand(written, OPERATORS[names[0]].takes, fact)
        return Compare(fact=fact, operator=names[0], operand=operand, at=node.at)
