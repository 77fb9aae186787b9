"""Rules as SQL over columns: the same answers as ``policy.evaluate``, for a million subjects at once.

SQL's own three-valued logic is Kleene's. A comparison of plain numbers or texts becomes SQL; every
other leaf is put to ``policy.truth`` once for each distinct value there is, so that licenses, patterns,
dates and casts mean exactly the same here and there. Values are bound, never written into the text.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

from mlflow_carbon.evidence.columns import THERE, Column, Kind
from mlflow_carbon.evidence.keys import NotInColumnsError as NotInColumnsError
from mlflow_carbon.evidence.keys import pattern
from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.policy import facts as vocabulary
from mlflow_carbon.policy.model import (
    All,
    Compare,
    Condition,
    FactTerm,
    ForEach,
    Near,
    Not,
    Operand,
    Pack,
    Rule,
    State,
    Waiver,
)
from mlflow_carbon.policy.operators import PRESENCE

CODES: Mapping[State, int] = {state: number for number, state in enumerate(State)}
"""How a state is written in a column; ``WAIVED`` adds ``WAIVER`` times the number of its waiver."""
WAIVER = 16

_COMPARED = {"at_most": "<=", "at_least": ">=", "less_than": "<", "more_than": ">"}
_EXACT_INTEGER = 2**53
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Tri:
    """SQL of a condition: its truth (TRUE, FALSE, NULL) and whether a value was of the wrong type (never NULL)."""

    truth: str
    error: str = "false"


@dataclass(frozen=True, slots=True)
class Lookup:
    """A leaf answered value by value; its answers stand in the columns ``<name>_t`` and ``<name>_e``."""

    name: str
    leaf: Compare
    facts: tuple[str, ...]
    columns: tuple[Column, ...]
    table: str


@dataclass(frozen=True, slots=True)
class Gathering:
    """A ``for_each``: its answers for each run stand in ``<name>_t`` and ``<name>_e``."""

    name: str
    truth: str
    error: str


@dataclass(slots=True)
class Compiler:
    """Compiles the rules of an audit; ``values`` are to be bound by name."""

    columns: Mapping[str, Column]
    as_of: datetime
    values: dict[str, object] = field(default_factory=dict)
    lookups: dict[tuple[str, object], Lookup] = field(default_factory=dict)
    gatherings: list[Gathering] = field(default_factory=list)
    rules: int = 0

    def condition(self, condition: Condition, *, inside: bool) -> Tri:
        """``inside``: in the scene of a dataset, which has no members of its own.

        Raises:
            NotInColumnsError: see there.
        """
        if isinstance(condition, Compare):
            return self._leaf(condition)
        if isinstance(condition, Not):
            part = self.condition(condition.part, inside=inside)
            return Tri(f"(NOT {part.truth})", part.error)
        if isinstance(condition, ForEach):
            return self._for_each(condition, inside=inside)
        parts = [self.condition(part, inside=inside) for part in condition.parts]
        word = " AND " if isinstance(condition, All) else " OR "
        return Tri(f"({word.join(p.truth for p in parts)})", _any(p.error for p in parts))

    def bind(self, value: object) -> str:
        """The place of a value in SQL."""
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f"${name}"

    def _number(self, value: float) -> str:
        return f"{self.bind(float(value))}::DOUBLE"

    def _leaf(self, leaf: Compare) -> Tri:
        column = self.columns.get(leaf.fact)
        if column is None:
            raise NotInColumnsError(leaf.fact)
        if leaf.operator in PRESENCE and not isinstance(leaf.operand, FactTerm | Near):
            there = "NOT NULL" if leaf.operator == "present" else "NULL"
            return Tri(f"({column.name} IS {there})")
        if column.empty and not isinstance(leaf.operand, FactTerm | Near):
            return Tri("NULL::BOOLEAN")
        if column.kind is Kind.NUMBER and (found := self._numeric(leaf, column)):
            return found
        if column.kind is Kind.TEXT and (found := self._textual(leaf, column)):
            return found
        if column.kind is Kind.TIME and leaf.operator == "newer_than":
            return self._recent(leaf, column)
        return self._lookup(leaf)

    def _numeric(self, leaf: Compare, column: Column) -> Tri | None:
        """Comparisons of doubles with finite constants, or with another double."""
        x, operand = column.name, leaf.operand
        if isinstance(operand, FactTerm):
            return self._against(leaf, column, operand)
        numbers = operand if isinstance(operand, tuple) else (operand,)
        if not all(map(_is_plain_number, numbers)):
            return None
        bound = [self._number(n) for n in numbers if isinstance(n, int | float)]
        if leaf.operator in _COMPARED:
            return Tri(f"({x} {_COMPARED[leaf.operator]} {bound[0]})")
        if leaf.operator == "between":
            return Tri(f"({x} BETWEEN {bound[0]} AND {bound[1]})")
        return _membership(leaf.operator, x, bound)

    def _against(self, leaf: Compare, column: Column, term: FactTerm) -> Tri | None:
        other = self.columns.get(term.fact)
        if other is None or other.kind is not Kind.NUMBER or leaf.operator not in _COMPARED:
            return None
        if not (math.isfinite(term.times) and math.isfinite(term.plus)):
            return None
        y = f"({other.name} * {self._number(term.times)} + {self._number(term.plus)})"
        # No comparison with NaN holds; DuckDB alone would sort it above everything.
        return Tri(f"({column.name} {_COMPARED[leaf.operator]} {y} AND NOT isnan({y}))")

    def _textual(self, leaf: Compare, column: Column) -> Tri | None:
        operand = leaf.operand
        if not isinstance(operand, str | tuple) or leaf.operator == "matches":
            return None
        texts = operand if isinstance(operand, tuple) else (operand,)
        if not all(isinstance(text, str) for text in texts):
            return None
        return _membership(leaf.operator, column.name, [self.bind(text) for text in texts])

    def _recent(self, leaf: Compare, column: Column) -> Tri:
        """In whole milliseconds: that is what MLflow stores."""
        if isinstance(leaf.operand, bool) or not isinstance(leaf.operand, int | float):
            return self._lookup(leaf)
        now, millisecond = self.as_of - _EPOCH, timedelta(milliseconds=1)
        oldest = -(-(now - timedelta(days=leaf.operand)) // millisecond)
        newest = (now + timedelta(days=1)) // millisecond
        future = f"COALESCE({column.name} > {self.bind(newest)}, false)"
        truth = f"(CASE WHEN {future} THEN NULL ELSE {column.name} >= {self.bind(oldest)} END)"
        return Tri(truth, future)

    def _lookup(self, leaf: Compare) -> Tri:
        facts = [leaf.fact]
        operand = leaf.operand.of if isinstance(leaf.operand, Near) else leaf.operand
        if isinstance(operand, FactTerm):
            facts.append(operand.fact)
        found = tuple(self.columns[fact] for fact in facts if fact in self.columns)
        if len(found) < len(facts):
            raise NotInColumnsError(facts[-1])
        table = "used" if any(one.table == "used" for one in found) else "run"
        key = (f"{leaf.fact} {leaf.operator}", repr(leaf.operand))
        if key not in self.lookups:
            self.lookups[key] = Lookup(f"l{len(self.lookups)}", leaf, tuple(facts), found, table)
        name = self.lookups[key].name
        return Tri(f"{name}_t", f"{name}_e")

    def _for_each(self, each: ForEach, *, inside: bool) -> Tri:
        if each.members in vocabulary.MATCHED:
            return self._for_each_key(each, inside=inside)
        if inside:
            return Tri("NULL::BOOLEAN")
        met = self.condition(each.condition, inside=True)
        chosen = Tri("true") if each.where is None else self.condition(each.where, inside=True)
        counts = f"({chosen.truth} IS DISTINCT FROM false)"
        answer = f"(CASE WHEN {chosen.truth} OR {met.truth} THEN {met.truth} END)"
        truth = (
            f"CASE WHEN bool_or({answer} = false) FILTER ({counts}) THEN false"
            f" WHEN count(*) FILTER ({counts} AND {answer} IS NULL) > 0 THEN NULL"
            f" WHEN count(*) FILTER ({chosen.truth}) > 0 THEN true END"
        )
        error = f"COALESCE(bool_or({chosen.error} OR ({counts} AND {met.error})), false)"
        name = f"g{len(self.gatherings)}"
        self.gatherings.append(Gathering(name, truth, error))
        return Tri(f"{name}_t", f"COALESCE({name}_e, false)")

    def _for_each_key(self, each: ForEach, *, inside: bool) -> Tri:
        """One term for each key of the store that matches; a run that lacks the key does not count it."""
        namespace = vocabulary.MATCHED[each.members]
        if keys_of(each) not in self.columns:
            raise NotInColumnsError(f"{each.members} that match {each.pattern!r}")
        prefix = f"{THERE}{namespace}."
        codes, errors = ["0"], list[str]()
        for name, column in self.columns.items():
            key = name.removeprefix(prefix)
            if key == name or column.empty or pattern(each.pattern).search(key) is None:
                continue
            one = replace(self, columns=_with_key(self.columns, namespace, key))
            where = each.where and substituted(each.where, namespace, key)
            met = one.condition(substituted(each.condition, namespace, key), inside=inside)
            chosen = Tri("true") if where is None else one.condition(where, inside=inside)
            there = f"{column.name} IS NOT NULL"
            codes.append(
                f"CASE WHEN NOT ({there}) OR {chosen.truth} = false THEN 0"
                f" WHEN {met.truth} THEN CASE WHEN {chosen.truth} THEN 1 ELSE 0 END"
                f" WHEN {met.truth} = false AND {chosen.truth} THEN 3 ELSE 2 END"
            )
            if _any((chosen.error, met.error)) != "false":
                counts = f"{chosen.truth} IS DISTINCT FROM false"
                errors.append(f"({there} AND ({chosen.error} OR ({counts} AND {met.error})))")
        worst = f"greatest({', '.join(codes)})"
        return Tri(f"(CASE {worst} WHEN 3 THEN false WHEN 1 THEN true END)", _any(errors))

    def rule(
        self, pack: Pack, rule: Rule, waivers: Iterable[tuple[int, Waiver]]
    ) -> tuple[str, str]:
        """SQL of a rule in two layers: columns of its parts (named after the rule's number), and its code.

        ``waivers``: number (from 1) and waiver of those in force for this rule.

        Raises:
            NotInColumnsError: see there.
        """
        if rule.condition is None:
            raise NotInColumnsError(f"attestations ({pack.id} {rule.id})")
        inside = rule.scope is SubjectKind.DATASET_INPUT
        name = f"r{self.rules}"
        self.rules += 1
        holds = self.condition(rule.condition, inside=inside)
        when = Tri("true") if rule.when is None else self.condition(rule.when, inside=inside)
        layer = [
            f"{when.truth} AS {name}_w, {when.error} AS {name}_f",
            f"{holds.truth} AS {name}_h, {holds.error} AS {name}_e",
        ]
        covered = ""
        for number, waiver in waivers:
            match = (
                Tri("true") if waiver.match is None else self.condition(waiver.match, inside=inside)
            )
            layer.append(f"({match.truth} AND NOT {match.error}) AS {name}_m{number}")
            code = CODES[State.WAIVED] + WAIVER * number
            covered += f" WHEN {name}_m{number} THEN {code}::SMALLINT"
        return ", ".join(layer), _code(name, rule, covered)


def _code(name: str, rule: Rule, covered: str) -> str:
    def waivable(state: State) -> str:
        return (
            f"CASE{covered} ELSE {CODES[state]}::SMALLINT END"
            if covered
            else f"{CODES[state]}::SMALLINT"
        )

    return (
        f"CASE WHEN {name}_w = false AND NOT {name}_f THEN {CODES[State.NOT_APPLICABLE]}::SMALLINT"
        f" WHEN {name}_f OR {name}_e THEN {CODES[State.ERROR]}::SMALLINT"
        f" WHEN {name}_h THEN {CODES[State.PASS]}::SMALLINT"
        f" WHEN {name}_h = false AND {name}_w THEN {waivable(State.FAIL)}"
        f" ELSE {waivable(rule.on_missing.state)} END"
    )


def _any(errors: Iterable[str]) -> str:
    real = dict.fromkeys(error for error in errors if error != "false")
    return f"({' OR '.join(real)})" if real else "false"


def _is_plain_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and abs(value) <= _EXACT_INTEGER


def _membership(operator: str, column: str, bound: list[str]) -> Tri | None:
    listed = ", ".join(bound)
    if operator in ("equals", "one_of"):
        return Tri(f"({column} IN ({listed}))")
    if operator in ("not_equals", "none_of"):
        return Tri(f"({column} NOT IN ({listed}))")
    return None


def keys_of(each: ForEach) -> str:
    """The keys a ``for_each`` goes through by a pattern, as ``evidence.tables.load`` takes them for a fact."""
    return f"{each.members} {each.pattern}"


def _with_key(columns: Mapping[str, Column], namespace: str, key: str) -> Mapping[str, Column]:
    """The columns there are for a condition about one key."""
    quoted = "'" + key.replace("'", "''") + "'"
    name = Column("run", quoted, Kind.TEXT, literal=True)
    nothing = Column("run", "NULL::VARCHAR", Kind.TEXT, empty=True)
    own = {f"each.name {key}": name if key.strip() else nothing}
    own[f"each.baseline {namespace}.{key}"] = nothing  # only pairs have one
    return ChainMap(own, dict(columns))


def substituted(condition: Condition, namespace: str, key: str) -> Condition:
    """A condition about ``each.*`` as one about a certain key."""
    value = "each.value" if namespace == "metric" else "each.text"
    names = {
        value: f"{namespace}.{key}",
        "each.name": f"each.name {key}",
        "each.baseline": f"each.baseline {namespace}.{key}",
    }

    def put(part: Condition) -> Condition:
        if isinstance(part, Compare):
            return replace(
                part, fact=names.get(part.fact, part.fact), operand=operand(part.operand)
            )
        if isinstance(part, Not):
            return replace(part, part=put(part.part))
        if isinstance(part, ForEach):
            raise NotInColumnsError("a for_each inside a for_each")
        return replace(part, parts=tuple(map(put, part.parts)))

    def operand(given: Operand | FactTerm | Near) -> Operand | FactTerm | Near:
        if isinstance(given, FactTerm):
            return replace(given, fact=names.get(given.fact, given.fact))
        if isinstance(given, Near) and isinstance(given.of, FactTerm):
            return replace(
                given, of=replace(given.of, fact=names.get(given.of.fact, given.of.fact))
            )
        return given

    return put(condition)


def facts_of(condition: Condition | None) -> set[str]:
    """Every fact a condition reads, by its name; those a ``for_each`` goes through as ``keys_of`` has them."""
    if condition is None:
        return set()
    if isinstance(condition, Compare):
        operand = condition.operand.of if isinstance(condition.operand, Near) else condition.operand
        return {condition.fact, *([operand.fact] if isinstance(operand, FactTerm) else [])}
    if isinstance(condition, Not):
        return facts_of(condition.part)
    if isinstance(condition, ForEach):
        keys = {keys_of(condition)} if condition.members in vocabulary.MATCHED else set()
        return keys | facts_of(condition.condition) | facts_of(condition.where)
    return set().union(*map(facts_of, condition.parts))
