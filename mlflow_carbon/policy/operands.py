"""The leaves of a condition: the fact a comparison is about, and what it is compared with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_carbon.evidence.keys import pattern
from mlflow_carbon.evidence.model import FactType, SubjectKind
from mlflow_carbon.policy import facts
from mlflow_carbon.policy.model import FactTerm, Near, Operand, Parameter
from mlflow_carbon.policy.operators import PATTERN_LIMIT, Takes
from mlflow_carbon.policy.shape import LIMIT_COUNT, FaultError, did_you_mean, shown
from mlflow_carbon.policy.yaml_tree import Entries, Items, Node, Scalar

_PARAMETER = re.compile(r"\$(?:\{([^{}]{1,100})\}|([A-Za-z_][A-Za-z0-9_-]*))")
_AGE = re.compile(r"(\d{1,5}) (days?|hours?)")
_MEANT = {
    sign: f" Did you mean {word!r}?"
    for word, signs in {
        "at_most": "<= max maximum",
        "at_least": ">= min minimum",
        "less_than": "< below",
        "more_than": "> above",
        "equals": "= == is",
        "not_equals": "!= <> is_not",
        "one_of": "in",
        "none_of": "not_in",
        "matches": "like regex pattern contains",
        "present": "exists",
        "absent": "missing",
    }.items()
    for sign in signs.split()
}
"""What other languages call our operators."""
_FIGURE = re.compile(r"[-+]?[0-9]+([.,][0-9]+)?")
_TERM_KEYS = ("times", "plus", "minus")


@dataclass(frozen=True, slots=True)
class OperandReader:
    """Reads facts and operands; every method raises ``FaultError`` where something is wrong."""

    scope: SubjectKind
    parameters: Mapping[str, Parameter]
    inside: str

    def fact(self, node: Entries, others: Iterable[str]) -> str:
        """The one fact a mapping names, as ``namespace: key``; keys in ``others`` may stand beside it."""
        for fault in self.strangers(node, others):
            raise fault
        return self.named(node)

    def strangers(self, node: Entries, others: Iterable[str]) -> Iterator[FaultError]:
        """What is wrong with each key that is neither a fact's namespace nor one of ``others``."""
        known = tuple(others)
        # Whoever has named a fact was looking for an operator.
        named = any(map(_names_fact, node.entries))
        words = (
            f"Operators: {', '.join(known)}" if named else f"Facts: {', '.join(facts.NAMESPACES)}"
        )
        for key, (written, _) in node.entries.items():
            if not _names_fact(key) and key not in known:
                meant = _MEANT.get(key.lower()) or did_you_mean(key, (*facts.NAMESPACES, *known))
                hint = meant or f" {words}."
                message = f"{key[:60]!r} is neither a fact nor an operator.{hint}"
                yield FaultError(written.at, message)

    def named(self, node: Entries) -> str:
        """The one fact a mapping names, whatever else stands in it."""
        found = [
            (f"{key}.{value.text if isinstance(value, Scalar) else ''}", value)
            for key, (_, value) in node.entries.items()
            if _names_fact(key)
        ]
        if len(found) != 1:
            what = "names no fact" if not found else "names two facts; use 'all:'"
            raise FaultError(
                node.at, f"the comparison {what} (one is written like 'metric: accuracy')."
            )
        name, value = found[0]
        if wrong := facts.fault(name, self.scope, inside=self.inside):
            raise FaultError(value.at, wrong)
        return name

    def operand(self, node: Node, takes: Takes, fact: str) -> Operand | FactTerm | Near:
        """What stands behind an operator, parameters put in."""
        if takes is Takes.NEAR:
            return self._near(node)
        if isinstance(node, Entries) and takes in (Takes.NUMBER, Takes.VALUE):
            return self._term(node, takes, fact)
        checked: Operand | None = _CHECK[takes](self.value(node))
        if checked is None:
            hint = _WRITTEN[takes](node) if takes in _WRITTEN else ""
            raise FaultError(node.at, f"needs {takes.value}, not {shown(node)}.{hint}")
        if takes is Takes.PATTERN:
            _usable(str(checked), node)
        if takes in (Takes.VALUE, Takes.LIST) and facts.fact_type(fact) is FactType.NUMBER:
            each = checked if isinstance(checked, tuple) else (checked,)
            if not all(_is_number(item) for item in each):
                raise FaultError(node.at, f"{fact!r} is a number; {shown(node)} is not.")
        return checked

    def value(self, node: Node) -> Any:
        """A written value with parameters put in."""
        if isinstance(node, Items):
            each = (self.value(item) for item in node.items)
            flat = (item if isinstance(item, tuple) else (item,) for item in each)
            return tuple(item for items in flat for item in items)
        if not isinstance(node, Scalar) or node.value is None:
            raise FaultError(node.at, f"a value is needed here, not {shown(node)}.")
        if node.text.startswith("$$"):
            return node.text[1:]
        if match := _PARAMETER.fullmatch(node.text):
            return self._parameter(match[1] or match[2], node)
        return node.value

    def parameters_in(self, node: Node) -> None:
        """Refuse a parameter that is not declared, whatever else is wrong."""
        if isinstance(node, Items) or (
            isinstance(node, Scalar) and _PARAMETER.fullmatch(node.text)
        ):
            self.value(node)

    def _parameter(self, name: str, node: Node) -> Operand:
        if name in self.parameters:
            return self.parameters[name].value
        hint = did_you_mean(name, self.parameters) or " Declare it under 'parameters:'."
        raise FaultError(node.at, f"no parameter is called {name[:60]!r}.{hint}")

    def _number(self, node: Entries, key: str) -> float:
        value = self.value(node.entries[key][1])
        if not _is_number(value):
            raise FaultError(node.entries[key][1].at, f"{key!r} needs a number.")
        return float(value)

    def _term(self, node: Entries, takes: Takes, of: str) -> FactTerm:
        """Another fact: with ``equals`` of the same type and as it is, else as a number."""
        fact = self.fact(node, _TERM_KEYS if takes is Takes.NUMBER else ())
        kind = facts.fact_type(fact)
        if takes is Takes.VALUE and kind is not facts.fact_type(of):
            message = f"{fact!r} is a {kind.value}; {of!r} is a {facts.fact_type(of).value}."
            raise FaultError(node.at, message)
        if kind not in (FactType.NUMBER, FactType.TEXT):
            raise FaultError(node.at, f"{fact!r} is not a number.")
        numbers = {key: self._number(node, key) for key in _TERM_KEYS if key in node.entries}
        plus = numbers.get("plus", 0.0) - numbers.get("minus", 0.0)
        return FactTerm(fact, numbers.get("times", 1.0), plus)

    def _near(self, node: Node) -> Near:
        if not isinstance(node, Entries) or "percent" not in node.entries:
            raise FaultError(
                node.at, "needs {percent: 10, of: 5.0} or {percent: 10, metric: NAME}."
            )
        percent = self._number(node, "percent")
        if percent < 0:
            raise FaultError(node.entries["percent"][1].at, "'percent' must be at least 0.")
        rest = Entries({k: v for k, v in node.entries.items() if k != "percent"}, node.at)
        if "of" not in rest.entries:
            return Near(percent, self._term(rest, Takes.NUMBER, ""))
        if len(rest.entries) > 1:
            raise FaultError(node.at, "'of' stands alone beside 'percent'.")
        return Near(percent, self._number(rest, "of"))


def _names_fact(key: str) -> bool:
    return key.removeprefix(facts.BASELINE) in facts.NAMESPACES


def _usable(text: str, node: Node) -> None:
    try:
        pattern(text)
    except ValueError as error:
        raise FaultError(node.at, f"not a usable pattern: {error}.") from None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _bare(node: Node) -> str:
    """What to write where somebody gave a number with its unit or a decimal comma."""
    found = _FIGURE.match(node.text) if isinstance(node, Scalar) else None
    if found is None:
        return ""
    return f" Write {found[0].replace(',', '.')}: a plain number, no quotes, no unit."


def _interval(value: Any) -> Any:
    sound = isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))
    return value if sound and value[0] <= value[1] else None


def _age(value: Any) -> float | None:
    if _is_number(value):
        return float(value) if 0 <= value <= LIMIT_COUNT else None
    match = _AGE.fullmatch(value) if isinstance(value, str) else None
    return int(match[1]) / (24 if match[2].startswith("hour") else 1) if match else None


def _texts(value: Any) -> tuple[str, ...] | None:
    sound = isinstance(value, tuple) and value and all(isinstance(item, str) for item in value)
    return value if sound else None


_WRITTEN = {Takes.NUMBER: _bare}
_CHECK = {
    Takes.NUMBER: lambda v: v if _is_number(v) else None,
    Takes.VALUE: lambda v: v if isinstance(v, (str, int, float)) else None,
    Takes.LIST: lambda v: v if isinstance(v, tuple) and v else None,
    Takes.TEXTS: _texts,
    Takes.INTERVAL: _interval,
    Takes.PATTERN: lambda v: v if isinstance(v, str) and 0 < len(v) <= PATTERN_LIMIT else None,
    Takes.TRUE: lambda v: True if v is True else None,
    Takes.AGE: _age,
}
