"""The word operators: what each accepts, what it asks, and how it reads in a sentence.

``test`` functions get values that are there; missing ones never reach them. A value that
cannot be compared raises ``MismatchError``, which becomes the state ``error``: a wrong type is no "no".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

from mlflow_carbon.evidence.keys import pattern
from mlflow_carbon.evidence.model import FactType, FactValue
from mlflow_carbon.policy.licenses import avoids, is_spdx

PATTERN_LIMIT = 1_000
"""Characters of a pattern."""


class MismatchError(Exception):
    """A value is not of the kind the operator compares."""


class Takes(Enum):
    """What stands behind an operator in a policy."""

    NUMBER = "a number"
    VALUE = "a text, a number, or true or false"
    LIST = "a list of texts or numbers"
    TEXTS = "a list of texts; put numbers, true and false in quotes"
    INTERVAL = "a list of two numbers, the smaller first"
    PATTERN = "a regular expression"
    TRUE = "true"
    AGE = "an age such as 30 days"
    NEAR = "a mapping {percent: ..., of: ...}"


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator; ``says`` has one ``{}`` for the operand."""

    takes: Takes
    on: frozenset[FactType]
    test: Callable[[FactValue, Any, datetime], bool]
    says: str


def number(value: FactValue) -> float:
    """A number; texts (tags and params are texts) are read as decimal numbers.

    Raises:
        MismatchError: it is not one.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    try:
        read = float(value) if isinstance(value, str) and "_" not in value else math.nan
    except ValueError:
        read = math.nan
    if not math.isfinite(read):
        raise MismatchError(f"{shown(value)} is not a number")
    return read


def _flag(value: FactValue) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in {"true", "false"}:
        return value.strip().lower() == "true"
    raise MismatchError(f"{shown(value)} is neither true nor false")


def _text(value: FactValue) -> str:
    if isinstance(value, str):
        return value
    raise MismatchError(f"{shown(value)} is not a text")


def _list(value: FactValue) -> tuple[str, ...]:
    if isinstance(value, tuple):
        return value
    raise MismatchError(f"{shown(value)} is not a list")


def _moment(value: FactValue) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        except ValueError:
            raise MismatchError(f"{shown(value)} is not a date or time (ISO 8601)") from None
    if not isinstance(value, datetime):
        raise MismatchError(f"{shown(value)} is not a date or time")
    return value if value.tzinfo else value.replace(tzinfo=timezone.utc)


def shown(value: object) -> str:
    """A value as it stands in a sentence: printable, at most 120 characters."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M UTC")
    if isinstance(value, float):
        return f"{value:.6g}"
    text = ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= 120 else text[:117] + "..."


def _equals(value: FactValue, operand: Any, _: datetime) -> bool:
    if isinstance(operand, bool):
        return _flag(value) is operand
    if isinstance(operand, (int, float)):
        return number(value) == operand
    return _text(value) == str(operand)


def _newer(value: FactValue, days: Any, as_of: datetime) -> bool:
    moment = _moment(value)
    if moment > as_of + timedelta(days=1):
        raise MismatchError(f"{shown(moment)} lies after the date of the audit, {shown(as_of)}")
    return as_of - moment <= timedelta(days=days)


def _near(value: FactValue, operand: Any, _: datetime) -> bool:
    percent, of = operand
    # The percentage first: the product of two large numbers would be infinite, and everything near it.
    return abs(number(value) - float(of)) <= abs(float(of)) * (float(percent) / 100.0)


_NUMERIC = frozenset({FactType.NUMBER, FactType.TEXT})
_PLAIN = frozenset({FactType.NUMBER, FactType.TEXT, FactType.FLAG})
_WRITTEN = frozenset({FactType.TEXT})
_LISTED = frozenset({FactType.LIST})
_TIMED = frozenset({FactType.TIME, FactType.TEXT})
_ANY = frozenset(FactType)

OPERATORS: dict[str, Operator] = {
    "at_most": Operator(Takes.NUMBER, _NUMERIC, lambda v, o, _: number(v) <= o, "at most {}"),
    "at_least": Operator(Takes.NUMBER, _NUMERIC, lambda v, o, _: number(v) >= o, "at least {}"),
    "less_than": Operator(Takes.NUMBER, _NUMERIC, lambda v, o, _: number(v) < o, "less than {}"),
    "more_than": Operator(Takes.NUMBER, _NUMERIC, lambda v, o, _: number(v) > o, "more than {}"),
    "between": Operator(
        Takes.INTERVAL, _NUMERIC, lambda v, o, _: o[0] <= number(v) <= o[1], "between {}"
    ),
    "within_percent_of": Operator(Takes.NEAR, _NUMERIC, _near, "within {}"),
    "equals": Operator(Takes.VALUE, _PLAIN, _equals, "{}"),
    "not_equals": Operator(
        Takes.VALUE, _PLAIN, lambda v, o, at: not _equals(v, o, at), "anything but {}"
    ),
    "one_of": Operator(
        Takes.LIST, _PLAIN, lambda v, o, at: any(_equals(v, i, at) for i in o), "one of {}"
    ),
    "none_of": Operator(
        Takes.LIST, _PLAIN, lambda v, o, at: not any(_equals(v, i, at) for i in o), "none of {}"
    ),
    "matches": Operator(
        Takes.PATTERN,
        _WRITTEN,
        lambda v, o, _: pattern(o).search(_text(v)) is not None,
        "a match of {}",
    ),
    "present": Operator(Takes.TRUE, _ANY, lambda *_: True, "on record"),
    "absent": Operator(Takes.TRUE, _ANY, lambda *_: False, "not on record"),
    "newer_than": Operator(Takes.AGE, _TIMED, _newer, "not older than {} days"),
    "valid_spdx": Operator(
        Takes.TRUE, _WRITTEN, lambda v, *_: is_spdx(_text(v)), "an SPDX license expression"
    ),
    "avoids_licenses": Operator(
        Takes.TEXTS,
        _WRITTEN,
        lambda v, o, _: avoids(_text(v), o),
        "usable without accepting {}",
    ),
    "includes_any": Operator(
        Takes.TEXTS, _LISTED, lambda v, o, _: bool(set(_list(v)) & set(o)), "including one of {}"
    ),
    "no_overlap_with": Operator(
        Takes.TEXTS, _LISTED, lambda v, o, _: not set(_list(v)) & set(o), "none of {}"
    ),
    "empty": Operator(Takes.TRUE, _LISTED, lambda v, *_: not _list(v), "an empty list"),
}

PRESENCE = frozenset({"present", "absent"})
"""They ask whether a fact is there, so a missing one is an answer and not an unknown."""
