"""Where a fact stands in the tables of many runs, and how its values are to be taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from mlflow_carbon.evidence.facts import whole_number
from mlflow_carbon.evidence.model import FactValue


class Kind(Enum):
    """How the values of a column are to be taken."""

    NUMBER = "DOUBLE"
    TEXT = "VARCHAR"
    TIME = "BIGINT"
    """Milliseconds since 1970."""
    LIST = "VARCHAR[]"
    COUNT = "COUNT"
    """Text that is a whole number where it can be read as one."""
    LISTED = "LISTED"
    """Number of a list in the table ``digest_list``: many datasets share one list."""


@dataclass(frozen=True, slots=True)
class Column:
    """Where a fact stands."""

    table: str
    name: str
    kind: Kind
    empty: bool = False
    """No subject has the fact; ``name`` is NULL of the right type."""
    literal: bool = False
    """Every subject has the same; ``name`` is a literal."""

    def of(self, alias: str) -> str:
        """SQL of the value in the table that is called ``alias`` there."""
        return self.name if self.empty or self.literal else f"{alias}.{self.name}"


THERE = "there "
"""Before the name of a fact: the column that is not NULL where the run has the key, if only with NaN or blank."""


def python_value(kind: Kind, stored: object) -> FactValue:
    """A stored value of a column as the fact it is."""
    if kind is Kind.COUNT:
        return whole_number(str(stored))
    if kind in (Kind.LIST, Kind.LISTED) and isinstance(stored, Sequence):
        return tuple(map(str, stored))
    if isinstance(stored, bool | int | float | str):
        return stored
    raise TypeError(f"{stored!r} is no value of a {kind.name} column")
