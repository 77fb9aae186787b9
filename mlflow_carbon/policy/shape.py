"""What a mapping in a policy file may hold, as data: read by the loader and by the JSON schema alike."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from typing import Any

from mlflow_carbon.errors import Location, Problem
from mlflow_carbon.policy.yaml_tree import Entries, Items, Node, Scalar


class Kind(Enum):
    """What may stand behind a key, in the words of an error message."""

    TEXT = "a text"
    NUMBER = "a number"
    COUNT = "a whole number from 0 to 100,000"
    FLAG = "true or false"
    DATE = "a date such as 2026-12-31"
    TEXTS = "a list of texts"
    VALUE = "a text, a number, true or false, or a list"
    SHAPE = "a mapping"
    SHAPES = "a list of mappings"
    NAMED_SHAPES = "a mapping of names to mappings"
    CONDITION = "a condition"
    FREE = "a mapping of names to values"
    FREE_LISTS = "a mapping of names to lists"


@dataclass(frozen=True, slots=True)
class Field:
    """One key. ``choices`` limits a text; ``shape`` describes what is below."""

    kind: Kind
    describe: str
    required: bool = False
    choices: tuple[str, ...] = ()
    shape: Shape | None = None
    pattern: str = ""
    example: str = ""


Shape = dict[str, Field]

LIMIT_COUNT = 100_000
"""Of days, some 270 years: more would lead off the calendar."""


@dataclass(slots=True)
class Taken:
    """The values of one mapping by key, all of the right kind; what was wrong is in the problems."""

    at: Location
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Location] = field(default_factory=dict)

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or the default where the key is absent or was wrong."""
        return self.values.get(key, default)

    def place(self, key: str) -> Location:
        """Where the value stands; the mapping itself where the key is absent."""
        return self.places.get(key, self.at)


class Problems:
    """Collects what is wrong, so that one reading shows everything."""

    def __init__(self, found: Iterable[Problem] = ()) -> None:
        self.found = list(found)

    def add(self, at: Location, message: str) -> None:
        """Note one fault."""
        self.found.append(Problem(at, message))


class FaultError(Exception):
    """Stops the reading of one part of a file; becomes a problem of the file."""

    def __init__(self, at: Location, message: str) -> None:
        """Keep the place and the message."""
        super().__init__(message)
        self.at, self.message = at, message


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` where something similar is known, else nothing."""
    choices = sorted(set(known))
    lowered = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(word.lower()[:200], lowered, n=1, cutoff=0.6)
    return f" Did you mean {lowered[close[0]]!r}?" if close else ""


def shown(node: Node) -> str:
    """What was written, short enough for an error message."""
    if isinstance(node, Scalar):
        return repr(node.text if len(node.text) <= 60 else node.text[:57] + "...")
    return "a list" if isinstance(node, Items) else "a mapping"


def take(node: Node, shape: Shape, problems: Problems, what: str) -> Taken:
    """The values of a mapping, checked against its shape; ``what`` names it in messages."""
    taken = Taken(node.at)
    if not isinstance(node, Entries):
        problems.add(node.at, f"{what} must be a mapping, not {shown(node)}.")
        return taken
    for key, (written, value) in node.entries.items():
        if key not in shape:
            hint = did_you_mean(key, shape) or f" Known keys: {', '.join(shape)}."
            problems.add(written.at, f"{what} has no key {key[:60]!r}.{hint}")
            continue
        checked = _READ[shape[key].kind](value, shape[key], problems, f"{key!r} of {what}")
        if checked is not None:
            taken.values[key], taken.places[key] = checked, value.at
    for key, wanted in shape.items():
        if wanted.required and key not in node.entries:
            problems.add(node.at, f"{what} lacks the key {key!r}: {wanted.describe}")
    return taken


def _wrong(node: Node, kind: Kind, problems: Problems, what: str) -> None:
    problems.add(node.at, f"{what} must be {kind.value}, not {shown(node)}.")


def _text(node: Node, wanted: Field, problems: Problems, what: str) -> str | None:
    if (
        not isinstance(node, Scalar)
        or (not node.quoted and node.value is None)
        or not node.text.strip()
    ):
        _wrong(node, Kind.TEXT, problems, what)
        return None
    text = node.text.strip()
    if wanted.choices and text not in wanted.choices:
        hint = did_you_mean(text, wanted.choices)
        problems.add(
            node.at,
            f"{what} is {shown(node)}; it must be one of {', '.join(wanted.choices)}.{hint}",
        )
        return None
    if wanted.pattern and not re.fullmatch(wanted.pattern, text):
        problems.add(node.at, f"{what} is {shown(node)}; write it like {wanted.example!r}.")
        return None
    return text


def _number(node: Node, _: Field, problems: Problems, what: str) -> float | int | None:
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    _wrong(node, Kind.NUMBER, problems, what)
    return None


def _count(node: Node, _: Field, problems: Problems, what: str) -> int | None:
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LIMIT_COUNT:
        return value
    _wrong(node, Kind.COUNT, problems, what)
    return None


def _flag(node: Node, _: Field, problems: Problems, what: str) -> bool | None:
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, bool):
        return value
    _wrong(node, Kind.FLAG, problems, what)
    return None


def _date(node: Node, _: Field, problems: Problems, what: str) -> date | None:
    if isinstance(node, Scalar) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", node.text):
        try:
            return date.fromisoformat(node.text)
        except ValueError:
            pass
    _wrong(node, Kind.DATE, problems, what)
    return None


def _texts(node: Node, wanted: Field, problems: Problems, what: str) -> tuple[str, ...] | None:
    if not isinstance(node, Items):
        _wrong(node, Kind.TEXTS, problems, what)
        return None
    read = (_text(item, wanted, problems, f"an item of {what}") for item in node.items)
    return tuple(item for item in read if item is not None)


def _value(node: Node, _: Field, problems: Problems, what: str) -> object:
    value = plain(node)
    if value is None:
        _wrong(node, Kind.VALUE, problems, what)
    return value


def plain(node: Node) -> bool | int | float | str | tuple[Any, ...] | None:
    """A scalar's value or a list of them as a tuple; ``None`` for anything else."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Items) and all(
        isinstance(i, Scalar) and i.value is not None for i in node.items
    ):
        return tuple(i.value for i in node.items if isinstance(i, Scalar))
    return None


def _shape(node: Node, wanted: Field, problems: Problems, what: str) -> Taken | None:
    return take(node, wanted.shape or {}, problems, _key(what))


def _key(what: str) -> str:
    """``'controls'`` for ``'controls' of rule 'X-1'``: a message has its line and needs no long name."""
    return what.partition(" of ")[0]


def _item(node: Node, what: str) -> str:
    """How messages call one item of a list: by the name it has, as ``rule 'X-1'``."""
    for key in ("id", "name", "rule", "ref", "statement"):
        named = node.entries.get(key) if isinstance(node, Entries) else None
        if named is not None and isinstance(named[1], Scalar) and named[1].text.strip():
            return f"{_key(what).strip(chr(39)).removesuffix('s')} {shown(named[1])}"
    return f"an item of {_key(what)}"


def _shapes(node: Node, wanted: Field, problems: Problems, what: str) -> list[Taken] | None:
    if not isinstance(node, Items):
        _wrong(node, Kind.SHAPES, problems, what)
        return None
    return [take(item, wanted.shape or {}, problems, _item(item, what)) for item in node.items]


def _named_shapes(
    node: Node, wanted: Field, problems: Problems, what: str
) -> dict[str, Taken] | None:
    if not isinstance(node, Entries):
        _wrong(node, Kind.NAMED_SHAPES, problems, what)
        return None
    return {
        name: take(below, wanted.shape or {}, problems, f"{name[:60]!r} in {_key(what)}")
        for name, (_, below) in node.entries.items()
    }


def _node(node: Node, wanted: Field, problems: Problems, what: str) -> Node | None:
    if isinstance(node, Entries):
        return node
    _wrong(node, wanted.kind, problems, what)
    return None


_READ: dict[Kind, Callable[[Node, Field, Problems, str], Any]] = {
    Kind.TEXT: _text,
    Kind.NUMBER: _number,
    Kind.COUNT: _count,
    Kind.FLAG: _flag,
    Kind.DATE: _date,
    Kind.TEXTS: _texts,
    Kind.VALUE: _value,
    Kind.SHAPE: _shape,
    Kind.SHAPES: _shapes,
    Kind.NAMED_SHAPES: _named_shapes,
    Kind.CONDITION: _node,
    Kind.FREE: _node,
    Kind.FREE_LISTS: _node,
}
