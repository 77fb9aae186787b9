"""``expr:``, conditions on one line, in MLflow's filter syntax with OR, NOT, parentheses and other facts added.

    metrics.accuracy >= 0.9 and (tags.phase = 'test' or not params.`batch size` in (1, 2))
    metrics.joules <= 1.1 * baseline.metrics.joules + 0.5

The line is turned into the same nodes that the operator form is written in, so both are checked
and understood by the same code. Nothing is evaluated here, and nothing is handed to SQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow_carbon.errors import Location
from mlflow_carbon.policy.facts import BASELINE, NAMESPACES
from mlflow_carbon.policy.shape import FaultError, did_you_mean
from mlflow_carbon.policy.yaml_tree import Entries, Items, Node, Scalar

LIMIT_TOKENS = 5_000
LIMIT_DEPTH = 30

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?![\w.]))
    | (?P<text>'[^']*'|"[^"]*")
    | (?P<parameter>\$\{?[A-Za-z_]\w*\}?)
    | (?P<name>[A-Za-z_]\w*(?:\.(?:`[^`]*`|[\w/]+))*)
    | (?P<symbol><=|>=|!=|=|<|>|\(|\)|,|\*|\+|-)
    )""",
    re.VERBOSE | re.ASCII,
)
_WORDS = frozenset({"and", "or", "not", "in", "like", "ilike", "is", "null", "true", "false"})
_OPERATORS = {
    "=": "equals",
    "!=": "not_equals",
    "<": "less_than",
    "<=": "at_most",
    ">": "more_than",
    ">=": "at_least",
}
_FLIPPED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_PLURALS = {
    **{f"{name}s": name for name in NAMESPACES},
    "parameters": "param",
    "attributes": "run",
    "attribute": "run",
}
"""MLflow's names for ours."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: Location


def parse(written: Scalar) -> Node:
    """The condition an expression means, in the nodes of the operator form.

    Raises:
        FaultError: it cannot be read; points into the line.
    """
    tokens = list(_tokens(written))
    if len(tokens) > LIMIT_TOKENS:
        raise FaultError(written.at, f"the expression has more than {LIMIT_TOKENS:,} words.")
    parser = _Parser(tokens, written.at)
    node = parser.either(0)
    parser.end()
    return node


def _tokens(written: Scalar) -> Iterator[_Token]:
    start, text = 0, written.text.rstrip()
    first = written.at.column + (1 if written.quoted else 0)
    while start < len(text):
        match = _TOKEN.match(text, start)
        column = first + start
        if match is None or match.lastgroup is None:
            rest = text[start:].strip()
            message = f"the expression cannot be read from {rest[:40]!r} on."
            raise FaultError(Location(written.at.file, written.at.line, column), message)
        column = first + match.start(match.lastgroup)
        kind, found = match.lastgroup, match[match.lastgroup]
        if kind == "name" and found.lower() in _WORDS:
            kind, found = "word", found.lower()
        yield _Token(kind, found, Location(written.at.file, written.at.line, column))
        start = match.end()


class _Parser:
    """Recursive descent; ``either`` is OR, ``both`` is AND."""

    def __init__(self, tokens: list[_Token], at: Location) -> None:
        self._tokens, self._next = tokens, 0
        self._end = _Token("end", "", tokens[-1].at if tokens else at)

    def _peek(self, ahead: int = 0) -> _Token:
        place = self._next + ahead
        return self._tokens[place] if place < len(self._tokens) else self._end

    def _take(self, text: str) -> bool:
        token = self._peek()
        if token.text == text and token.kind in ("symbol", "word"):
            self._next += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._take(text):
            self._fail(f"{text!r} is expected here")

    def _fail(self, message: str) -> None:
        token = self._peek()
        found = "the end" if token.kind == "end" else repr(token.text[:40])
        raise FaultError(token.at, f"{message}, not {found}.")

    def end(self) -> None:
        """Nothing may follow."""
        if self._peek().kind != "end":
            self._fail("'and', 'or' or the end is expected here")

    def either(self, depth: int) -> Node:
        """``a or b or c``."""
        return self._chain("or", "any", depth)

    def _chain(self, word: str, group: str, depth: int) -> Node:
        at = self._peek().at
        parts = [self._part(word, depth)]
        while self._take(word):
            parts.append(self._part(word, depth))
        if len(parts) == 1:
            return parts[0]
        return _entries(at, {group: Items(tuple(parts), at)})

    def _part(self, word: str, depth: int) -> Node:
        return self._chain("and", "all", depth) if word == "or" else self._negated(depth)

    def _negated(self, depth: int) -> Node:
        if depth > LIMIT_DEPTH:
            raise FaultError(self._peek().at, f"nested deeper than {LIMIT_DEPTH} levels.")
        at = self._peek().at
        if self._take("not"):
            return _entries(at, {"not": self._negated(depth + 1)})
        if self._take("("):
            inner = self.either(depth + 1)
            self._expect(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Node:
        at = self._peek().at
        left = self._term()
        if isinstance(left, Entries) and len(left.entries) == 1:
            listed = self._listed(left, at)
            if listed is not None:
                return listed
        token = self._peek()
        if token.kind != "symbol" or token.text not in _OPERATORS:
            self._fail("a comparison (=, !=, <, <=, >, >=, in, like, is null) is expected here")
        self._next += 1
        right = self._term()
        operator = token.text
        if not (isinstance(left, Entries) and len(left.entries) == 1):
            left, right, operator = right, left, _FLIPPED[operator]
        if not (isinstance(left, Entries) and len(left.entries) == 1):
            raise FaultError(
                at, "one side of the comparison must be a fact as it is, like metrics.x."
            )
        return _beside(left, _OPERATORS[operator], right, at)

    def _listed(self, fact: Entries, at: Location) -> Node | None:
        """``in (...)``, ``not in``, ``like``, ``ilike``, ``is null``, ``is not null``; else nothing."""
        negated = self._peek().text == "not" and self._peek(1).text == "in"
        self._next += 1 if negated else 0
        if self._take("in"):
            return _beside(fact, "none_of" if negated else "one_of", self._values(), at)
        for word, flag in (("like", "(?s)"), ("ilike", "(?is)")):
            if self._take(word):
                return _beside(fact, "matches", self._pattern(flag), at)
        if self._take("is"):
            present = self._take("not")
            self._expect("null")
            true = Scalar("true", quoted=False, at=at)
            return _beside(fact, "present" if present else "absent", true, at)
        return None

    def _values(self) -> Node:
        at = self._peek().at
        if self._peek().kind == "parameter":
            return self._literal()
        self._expect("(")
        values = [self._literal()]
        while self._take(","):
            values.append(self._literal())
        self._expect(")")
        return Items(tuple(values), at)

    def _pattern(self, flag: str) -> Node:
        token = self._peek()
        if token.kind != "text":
            self._fail("a pattern in quotes is expected here")
        self._next += 1
        wild = {"%": ".*", "_": "."}
        body = "".join(wild.get(c, re.escape(c)) for c in token.text[1:-1])
        return Scalar(f"{flag}^{body}$", quoted=True, at=token.at)

    def _literal(self) -> Scalar:
        token = self._peek()
        if token.kind not in ("number", "text", "parameter") and token.text not in (
            "true",
            "false",
        ):
            self._fail("a number, a text in quotes or a parameter is expected here")
        self._next += 1
        if token.kind != "text":
            return Scalar(token.text.lstrip("+"), quoted=False, at=token.at)
        text = token.text[1:-1]
        # A text is a text: "$x" in quotes must not become a parameter.
        return Scalar(f"${text}" if text.startswith("$") else text, quoted=True, at=token.at)

    def _term(self) -> Node:
        """A literal, or a fact with ``number *`` before or ``* number`` and ``+ number`` behind it."""
        if self._peek().kind == "name":
            fact = self._fact()
            times = self._literal() if self._take("*") else None
        else:
            value = self._literal()
            if not self._take("*"):
                return value
            fact, times = self._fact(), value
        entries: dict[str, Node] = {key: node for key, (_, node) in fact.entries.items()}
        if times is not None:
            entries["times"] = times
        if self._peek().kind == "number" and self._peek().text[0] in "+-":
            entries["plus"] = self._literal()  # "a -1" is read as a and the number -1
        elif self._take("+"):
            entries["plus"] = self._literal()
        elif self._take("-"):
            entries["minus"] = self._literal()
        return _entries(fact.at, entries)

    def _fact(self) -> Entries:
        token = self._peek()
        if token.kind != "name":
            self._fail("a fact like metrics.x is expected here")
        self._next += 1
        name = token.text
        prefix = BASELINE if name.startswith(BASELINE) else ""
        head, _, key = name.removeprefix(prefix).partition(".")
        namespace = _PLURALS.get(head, head)
        if namespace not in NAMESPACES or not key:
            hint = did_you_mean(head, [*_PLURALS, *NAMESPACES]) or " Write it like metrics.x."
            raise FaultError(token.at, f"{name[:60]!r} is no fact.{hint}")
        return _entries(
            token.at, {prefix + namespace: Scalar(key.replace("`", ""), True, token.at)}
        )


def _entries(at: Location, nodes: dict[str, Node]) -> Entries:
    return Entries({key: (Scalar(key, False, at), node) for key, node in nodes.items()}, at)


def _beside(fact: Entries, operator: str, operand: Node, at: Location) -> Entries:
    written = (Scalar(operator, False, at), operand)
    return Entries({**fact.entries, operator: written}, at)
