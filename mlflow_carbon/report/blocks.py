"""The pieces a report is made of. A renderer knows these and nothing about audits.

All text is plain: what comes from a store or a policy is never markup.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_carbon.policy.model import Severity, State


@dataclass(frozen=True, slots=True)
class Code:
    """An identifier, a path or a key, as it stands in the store."""

    text: str


@dataclass(frozen=True, slots=True)
class Strong:
    """Words that carry the sentence."""

    text: str


@dataclass(frozen=True, slots=True)
class Whole:
    """Words that stand on one line where it is long enough, such as the bounds of a figure."""

    text: str


@dataclass(frozen=True, slots=True)
class StateMark:
    """A state: icon, word and colour; ``word`` is in the reader's language."""

    state: State
    word: str


@dataclass(frozen=True, slots=True)
class SeverityMark:
    """A severity: word and weight."""

    severity: Severity
    word: str


Inline = str | Code | Strong | Whole | StateMark | SeverityMark
Line = tuple[Inline, ...]


def line(*parts: Inline) -> Line:
    """One line of running text."""
    return parts


def prose(text: str) -> Line:
    """Running text of a policy, in which `words between backticks` are code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # one is left over: it means itself
        return (text,)
    marked = (Code(piece) if place % 2 else piece for place, piece in enumerate(pieces))
    return tuple(piece for piece in marked if piece not in ("", Code("")))


def cells(*values: Inline | Line) -> tuple[Line, ...]:
    """One row of a table."""
    return tuple(value if isinstance(value, tuple) else (value,) for value in values)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text; ``style`` is "", ``lead`` or ``note``."""

    line: Line
    style: str = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading inside a part; ``level`` 3 or 4 (a part's own heading is 2)."""

    text: Line
    level: int = 3


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values, for reference."""

    rows: tuple[tuple[str, Line], ...]


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list; ``ordered`` where the order means something, ``dense`` for many short entries in columns."""

    items: tuple[Line, ...]
    ordered: bool = False
    dense: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, its share of the width in percent, and whether it holds numbers."""

    heading: str
    width: int
    number: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table. The first column heads its row. ``omitted`` says what was left out, if anything."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Line, ...], ...]
    omitted: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing; ``alt`` says what it shows to somebody who does not see it."""

    name: str
    title: str
    svg: str
    alt: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """The states with their counts, as a strip."""

    label: str
    items: tuple[tuple[StateMark, int, str], ...]
    """(state, count, share as text)."""


@dataclass(frozen=True, slots=True)
class Callout:
    """A boxed statement that must not be missed."""

    heading: str
    items: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A command line to copy."""

    text: str


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """One rule with the subjects that share a state: what filters and bookmarks work on."""

    anchor: str
    state: StateMark
    severity: SeverityMark
    rule_id: str
    title: str
    count: str
    """``3 of 12 runs``."""
    facts: Facts
    table: Table


@dataclass(frozen=True, slots=True)
class SignOff:
    """Lines to be signed: (role, name, date, signature labels)."""

    heading: str
    statement: str
    labels: tuple[str, str, str]


Block = (
    Paragraph
    | Heading
    | Facts
    | Bullets
    | Table
    | Figure
    | Tally
    | Callout
    | Command
    | RuleGroup
    | SignOff
)


@dataclass(frozen=True, slots=True)
class Part:
    """One numbered part of the report."""

    id: str
    number: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Cover:
    """The first page."""

    kicker: str
    title: str
    subtitle: str
    facts: Facts
    notice: tuple[Callout, Callout]
    """What this report is; what it is not."""


@dataclass(frozen=True, slots=True)
class Document:
    """A report, ready for any renderer."""

    language: str
    title: str
    subject: str
    classification: str
    as_of: str
    cover: Cover
    parts: tuple[Part, ...]
