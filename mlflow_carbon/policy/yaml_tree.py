"""A policy file as a tree of texts with their places, and nothing more.

PyYAML only splits the text into events; values are read here, so that none of the
surprises of YAML 1.1 apply: ``NO`` and ``on`` are texts, ``010`` is a text, ``12:30`` is a text.
Anchors, aliases, tags, merge keys and second documents are refused: a policy means what it says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from mlflow_carbon.errors import Location, PolicyError, Problem

LIMIT_BYTES = 2_000_000
LIMIT_DEPTH = 40
LIMIT_NODES = 100_000
"""Values, keys and brackets; the largest shipped pack has some 5,000."""

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z")
_DECIMAL = re.compile(
    r"[-+]?(?:(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][-+]?[0-9]{1,3})?\Z"
)
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, slots=True)
class Scalar:
    """One written value. ``quoted`` ones are always text."""

    text: str
    quoted: bool
    at: Location

    @property
    def value(self) -> bool | int | float | str | None:
        """What was written: text, a decimal number, ``true``, ``false`` or nothing (``null``)."""
        if self.quoted:
            return self.text
        if self.text in _WORDS:
            return _WORDS[self.text]
        if _INTEGER.match(self.text):
            return int(self.text)
        if _DECIMAL.match(self.text):
            number = float(self.text)
            return number if abs(number) != float("inf") else self.text
        return self.text


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Node, ...]
    at: Location


@dataclass(frozen=True, slots=True)
class Entries:
    """A mapping; keys are unique texts."""

    entries: dict[str, tuple[Scalar, Node]]
    at: Location


Node = Scalar | Items | Entries


def read_tree(text: str, file: str) -> tuple[Entries, list[Problem]]:
    """The tree of a policy file, and the problems that do not stop the reading (duplicate keys).

    Raises:
        PolicyError: the text is not one YAML mapping within the limits.
    """
    start = Location(file, 1, 1)
    if len(text.encode("utf-8", "surrogatepass")) > LIMIT_BYTES:
        message = f"the file is larger than {LIMIT_BYTES:,} bytes; split it into several policies."
        raise PolicyError([Problem(start, message)])
    reader = _Reader(file)
    try:
        tree = reader.document(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = Location(file, mark.line + 1, mark.column + 1) if mark else start
        begun = error.context_mark.line + 1 if error.context_mark else at.line
        why = _plainly(error.problem or error.context or "unreadable", begun)
        raise PolicyError([Problem(at, f"not readable as YAML: {why}.{_hint(text, at)}")]) from None
    except yaml.reader.ReaderError as error:
        raise PolicyError([Problem(start, f"not readable as YAML: {error.reason}.")]) from None
    if not isinstance(tree, Entries):
        message = (
            "a policy file is a mapping; this is not. "
            "`mlflow-carbon policy new FILE` writes one to start from."
        )
        raise PolicyError([Problem(start, message)])
    return tree, reader.problems


_PLAIN = (
    ("mapping values are not allowed", "a second ': ' in one value; put the text in quotes"),
    (
        "expected <block end>",
        "this does not go on with what begins on line {line}; look at the spaces at the start of "
        "the line, at a '- ' that is missing, and at quotes inside quotes",
    ),
    (
        "expected ',' or",
        "the bracket opened on line {line} does not end, or a text inside it needs quotes",
    ),
    ("could not find expected ':'", "a key without ': ' behind it"),
    ("found unexpected end of stream", "the quote opened on line {line} does not end"),
    ("found unknown escape", "inside \"...\" a backslash is special; put the text into '...'"),
    ("expected alphabetic or numeric", "a value that begins with * or & needs quotes"),
    ("block sequence entries are not allowed", "a '- ' cannot stand here; begin a new line"),
)
"""What PyYAML says -> what a person who writes no YAML every day can act on."""


def _plainly(problem: str, line: int) -> str:
    """``line``: where the part that could not be read begins."""
    for said, plain in _PLAIN:
        if said in problem:
            return plain.format(line=line)
    return problem


def _hint(text: str, at: Location) -> str:
    lines = text.splitlines()
    line = lines[at.line - 1] if at.line <= len(lines) else ""
    if "\t" in line:
        return " The line has a tab; indent with spaces."
    if "${" in line:
        return ' Inside {...} write a parameter as "${name}" in quotes, or as $name.'
    return ""


class _Reader:
    """Builds the tree from PyYAML's events; the depth limit keeps the recursion small."""

    def __init__(self, file: str) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._start = Location(file, 1, 1)
        self._nodes = 0

    def document(self, text: str) -> Node | None:
        self._events = yaml.parse(text, Loader=yaml.SafeLoader)
        tree: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if tree is not None:
                    self._refuse(event, "a policy file holds one document; remove the second '---'")
                tree = self._node(next(self._events), 1)
        return tree

    def _at(self, event: yaml.Event) -> Location:
        mark = event.start_mark
        return Location(self._file, mark.line + 1, mark.column + 1) if mark else self._start

    def _refuse(self, event: yaml.Event, message: str) -> None:
        raise PolicyError([Problem(self._at(event), f"{message}.")])

    def _node(self, event: yaml.Event, depth: int) -> Node:
        self._nodes += 1
        if self._nodes > LIMIT_NODES:
            self._refuse(event, f"more than {LIMIT_NODES:,} values in one file")
        if depth > LIMIT_DEPTH:
            self._refuse(event, f"nested deeper than {LIMIT_DEPTH} levels")
        if getattr(event, "anchor", None):
            self._refuse(event, "anchors (&) and aliases (*) are not allowed; use a parameter")
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._refuse(
                event, f"the tag {str(tag)[:60]!r} is not allowed; tags (!) have no use here"
            )
        at = self._at(event)
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(event.value, event.style is not None, at)
        if isinstance(event, yaml.SequenceStartEvent):
            return Items(tuple(self._items(depth)), at)
        return self._entries(at, depth)

    def _items(self, depth: int) -> list[Node]:
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return items

    def _entries(self, at: Location, depth: int) -> Entries:
        entries: dict[str, tuple[Scalar, Node]] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if not isinstance(key, Scalar):
                self.problems.append(Problem(key.at, "a key must be a text."))
            elif key.text in entries:
                first = entries[key.text][0].at.line
                message = (
                    f"the key {key.text!r} stands here twice (first on line {first}). Remove one."
                )
                self.problems.append(Problem(key.at, message))
            else:
                entries[key.text] = (key, value)
        return Entries(entries, at)
