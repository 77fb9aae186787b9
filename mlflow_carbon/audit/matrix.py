"""Every rule on every run and dataset at once: one table of answers, one column for each rule."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from mlflow_carbon.audit.place import write_parquet
from mlflow_carbon.audit.waivers import in_force
from mlflow_carbon.errors import CarbonError
from mlflow_carbon.evidence.columns import Column, Kind, python_value
from mlflow_carbon.evidence.facts import moment
from mlflow_carbon.evidence.model import Fact, SubjectKind
from mlflow_carbon.evidence.tables import Tables
from mlflow_carbon.policy.compile import CODES, WAIVER, Compiler, Gathering, Lookup, facts_of
from mlflow_carbon.policy.model import Pack, Rule, State
from mlflow_carbon.policy.truth import Scene, Trace, truth

SCOPES: Mapping[SubjectKind, str] = {SubjectKind.RUN: "run", SubjectKind.DATASET_INPUT: "used"}
"""The subjects there are many of, and their table."""

SUBJECT_KEYS = {
    "run": "run_uuid",
    "used": "run_uuid || '/' || raw_name || '/' || raw_digest || '/' || raw_context",
}
"""The key of a subject, from its table and ``run``."""

_CHUNK = 10_000
_TRUTH, _ERROR = {None: 0, False: 1, True: 2}, 4
"""How the answer to a value is written in a byte; ``_ERROR`` is added where it was of the wrong type."""
_STATES = {code: state for state, code in CODES.items()}
_VALUE = re.compile(r"\$(v\d+)\b")


@dataclass(frozen=True, slots=True)
class Cell:
    """Where the answers of a rule stand: table ``<table>_answer``, column ``name``."""

    pack: Pack
    rule: Rule
    table: str
    name: str


def facts_needed(packs: Sequence[Pack]) -> set[str]:
    """Every fact the rules about runs and datasets read, and the waivers of their packs."""
    found: set[str] = set()
    for pack in packs:
        for rule in pack.rules:
            if rule.scope in SCOPES:
                found |= facts_of(rule.when) | facts_of(rule.condition)
        for waiver in pack.waivers:
            found |= facts_of(waiver.match)
    return found


def cells_of(packs: Sequence[Pack]) -> tuple[Cell, ...]:
    """Every rule about runs and datasets, and where its answers will stand."""
    rules = [(pack, rule) for pack in packs for rule in pack.rules if rule.scope in SCOPES]
    return tuple(
        Cell(pack, rule, SCOPES[rule.scope], f"a{number}")
        for number, (pack, rule) in enumerate(rules)
    )


def judge(tables: Tables, packs: Sequence[Pack], as_of: datetime) -> tuple[Cell, ...]:
    """Put every rule about runs and datasets to all of them.

    Raises:
        NotInColumnsError: a rule cannot be put to columns; nothing was judged.
    """
    compiler = Compiler(tables.columns, as_of)
    cells = cells_of(packs)
    layers: dict[str, list[tuple[str, str, str]]] = {table: [] for table in SCOPES.values()}
    for cell in cells:
        force = [
            (number, waiver)
            for number, waiver in enumerate(cell.pack.waivers, start=1)
            if in_force(waiver, cell.rule, as_of)
        ]
        layer, code = compiler.rule(cell.pack, cell.rule, force)
        layers[cell.table].append((cell.name, layer, code))
    _Judge(tables, compiler).answer(layers)
    return cells


@dataclass(frozen=True, slots=True)
class _Judge:
    tables: Tables
    compiler: Compiler

    @property
    def con(self) -> duckdb.DuckDBPyConnection:
        return self.tables.con

    def answer(self, layers: Mapping[str, Sequence[tuple[str, str, str]]]) -> None:
        lookups = list(self.compiler.lookups.values())
        self._widen("run", "run_seen", [one for one in lookups if one.table == "run"])
        self.con.execute(
            "CREATE VIEW used_run AS SELECT used.*, run_seen.* EXCLUDE (rid)"
            " FROM used JOIN run_seen USING (rid)"
        )
        self._widen("used_run", "used_seen", [one for one in lookups if one.table == "used"])
        self._gather(self.compiler.gatherings)
        self._verdicts("run_answer", "run_gathered", "rid", layers["run"])
        self._verdicts("used_answer", "used_seen", "uid, rid", layers["used"])

    def _execute(self, query: str) -> None:
        names = dict.fromkeys(_VALUE.findall(query))
        self.con.execute(query, {name: self.compiler.values[name] for name in names})

    def _widen(self, table: str, wider: str, lookups: Sequence[Lookup]) -> None:
        """``wider``: the table with the answers of its lookups beside each row."""
        columns, joins = "", ""
        for lookup in lookups:
            keys = lookup.columns
            self._look_up(lookup, table)
            same = " AND ".join(
                f"{lookup.name}.k{i} IS NOT DISTINCT FROM {key.of(table)}"
                for i, key in enumerate(keys)
            )
            joins += f" LEFT JOIN {lookup.name} ON {same}"
            columns += f", {lookup.name}.t AS {lookup.name}_t, {lookup.name}.e AS {lookup.name}_e"
        self.con.execute(f"CREATE VIEW {wider} AS SELECT {table}.*{columns} FROM {table}{joins}")

    def _look_up(self, lookup: Lookup, table: str) -> None:
        """Ask the oracle once for each distinct value."""
        keys = lookup.columns
        if all(key.table == lookup.table for key in keys):
            table = lookup.table  # what a dataset alone says is not looked for in its run
        picked = ", ".join(f"{key.name} AS k{i}" for i, key in enumerate(keys))
        self.con.execute(
            f"CREATE TABLE {lookup.name}_key AS SELECT row_number() OVER () AS id, * FROM"
            f" (SELECT DISTINCT {picked} FROM {table})"
        )
        told = ", ".join(_told(f"k{i}", key.kind) for i, key in enumerate(keys))
        rows = self.con.execute(f"SELECT id, {told} FROM {lookup.name}_key ORDER BY id")
        ids, codes = array("q"), bytearray()
        while chunk := rows.fetchmany(_CHUNK):
            for number, *stored in chunk:
                ids.append(number)
                codes.append(self._ask(lookup, stored))
        self.con.register("answers", _answer_table(ids, codes))
        self.con.execute(
            f"CREATE TABLE {lookup.name} AS SELECT {lookup.name}_key.* EXCLUDE (id),"
            f" CASE code % {_ERROR} WHEN {_TRUTH[True]} THEN true WHEN {_TRUTH[False]} THEN false END AS t,"
            f" code >= {_ERROR} AS e FROM {lookup.name}_key JOIN answers USING (id)"
        )
        self.con.unregister("answers")
        self.con.execute(f"DROP TABLE {lookup.name}_key")

    def _ask(self, lookup: Lookup, stored: Sequence[Any]) -> int:
        facts = {
            fact: Fact(_fact_value(key, value), "")
            for fact, key, value in zip(lookup.facts, lookup.columns, stored, strict=True)
            if value is not None
        }
        trace = Trace(self.compiler.as_of)
        answer = truth(lookup.leaf, Scene("", facts, {}), trace)
        return _TRUTH[answer] + (_ERROR if trace.errors else 0)

    def _gather(self, gatherings: Sequence[Gathering]) -> None:
        if not gatherings:
            self.con.execute("CREATE VIEW run_gathered AS SELECT * FROM run_seen")
            return
        columns = ", ".join(
            f"{one.truth} AS {one.name}_t, {one.error} AS {one.name}_e" for one in gatherings
        )
        self._execute(f"CREATE TABLE gathered AS SELECT rid, {columns} FROM used_seen GROUP BY rid")
        self.con.execute(
            "CREATE VIEW run_gathered AS SELECT run_seen.*, gathered.* EXCLUDE (rid)"
            " FROM run_seen LEFT JOIN gathered USING (rid)"
        )

    def _verdicts(
        self, answer: str, table: str, keys: str, layers: Sequence[tuple[str, str, str]]
    ) -> None:
        parts = "".join(f", {layer}" for _, layer, _ in layers)
        codes = "".join(f", {code} AS {name}" for name, _, code in layers)
        self._execute(
            f"CREATE TABLE {answer} AS SELECT {keys}{codes} FROM (SELECT {keys}{parts} FROM {table})"
        )


def _told(name: str, kind: Kind) -> str:
    if kind is Kind.LISTED:
        return f"(SELECT digests FROM digest_list WHERE code = {name}) AS {name}"
    return name


def _fact_value(key: Column, stored: Any) -> Any:
    return moment(stored) if key.kind is Kind.TIME else python_value(key.kind, stored)


def _answer_table(ids: array[int], codes: bytearray) -> pa.Table:
    """From their bytes: ``pa.array`` would import pandas."""
    buffers = {"id": (pa.int64(), ids), "code": (pa.uint8(), codes)}
    columns = [
        pa.Array.from_buffers(kind, len(ids), [None, pa.py_buffer(content)])
        for kind, content in buffers.values()
    ]
    return pa.Table.from_arrays(columns, names=list(buffers))


def decoded(code: int, pack: Pack) -> tuple[State, str]:
    """The state a code stands for, and the id of the waiver if there is one."""
    state, number = _STATES[code % WAIVER], code // WAIVER
    return state, pack.waivers[number - 1].id if number else ""


def tallies(
    con: duckdb.DuckDBPyConnection, cells: Sequence[Cell]
) -> Iterator[tuple[Cell, int, int]]:
    """(cell, code, how many subjects) for every code that occurs."""
    for cell in cells:
        query = f"SELECT {cell.name}, count(*) FROM {cell.table}_answer GROUP BY 1 ORDER BY 1"
        for code, count in con.execute(query).fetchall():
            if code is None:
                raise CarbonError(
                    f"rule {cell.rule.id} has no answer for {count} subjects; please report it"
                )
            yield cell, code, count


def write_findings(con: duckdb.DuckDBPyConnection, cells: Sequence[Cell], file: Path) -> None:
    """Every answer on runs and datasets as one row of a Parquet file, streamed and never held in memory.

    Columns: ``pack_id``, ``rule_id``, ``subject_kind``, ``subject_key``, ``state``, ``waiver``.
    """
    meaning = [
        (cell.name, code, cell.pack.id, cell.rule.id, *map(str, _worded(code, cell.pack)))
        for cell, code, _ in tallies(con, cells)
    ]
    names = ("cell", "code", "pack_id", "rule_id", "state", "waiver")
    columns = zip(*meaning, strict=True) if meaning else ((),) * len(names)
    con.execute(
        "CREATE OR REPLACE TEMP TABLE meaning AS SELECT "
        + ", ".join(f"unnest(${name}) AS {name}" for name in names),
        dict(zip(names, map(list, columns), strict=True)),
    )
    parts = []
    for kind, table in SCOPES.items():
        asked = [cell.name for cell in cells if cell.table == table]
        if not asked:
            continue
        used = "" if table == "run" else " JOIN used USING (uid)"
        parts.append(
            f"SELECT pack_id, rule_id, '{kind.value}' AS subject_kind, {SUBJECT_KEYS[table]} AS subject_key,"
            f" state, waiver FROM (UNPIVOT {table}_answer ON {', '.join(asked)} INTO NAME cell VALUE code)"
            f" AS a JOIN meaning USING (cell, code) JOIN run ON run.rid = a.rid{used}"
        )
    write_parquet(con, " UNION ALL ".join(parts), file, ", COMPRESSION zstd")
    con.execute("DROP TABLE meaning")


def _worded(code: int, pack: Pack) -> tuple[str, str]:
    state, waiver = decoded(code, pack)
    return state.value, waiver
