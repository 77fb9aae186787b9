"""The part of an audit that is made where the runs are: one bucket of them, or all.

Rules look at one run and what it read; the account at one tree. So a bucket of whole trees is
answered by itself, in this process or on another machine, and ``columnar`` puts the answers together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from mlflow_carbon.audit import assess, totals
from mlflow_carbon.audit.account import energy_row
from mlflow_carbon.audit.digests import write_digests
from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.matrix import (
    SUBJECT_KEYS,
    Cell,
    cells_of,
    decoded,
    facts_needed,
    judge,
    tallies,
    write_findings,
)
from mlflow_carbon.audit.place import Place, columns_engine
from mlflow_carbon.audit.seals import Comparisons, in_columns
from mlflow_carbon.audit.select import AuditRequest
from mlflow_carbon.audit.summary import DatasetRow, RunEnergyRow
from mlflow_carbon.audit.sums import EnergyPart, listed_datasets, make_register
from mlflow_carbon.errors import CarbonError
from mlflow_carbon.evidence.facts import run_evidence
from mlflow_carbon.evidence.filters import Where
from mlflow_carbon.evidence.model import Evidence, Fact
from mlflow_carbon.evidence.rows import read_runs
from mlflow_carbon.evidence.sealed import SealCheck
from mlflow_carbon.evidence.sql import Source
from mlflow_carbon.evidence.store import MAX_OTHER_DIGESTS
from mlflow_carbon.evidence.tables import Selected, Tables, load
from mlflow_carbon.evidence.trees import text
from mlflow_carbon.policy.model import Pack

Contents = Mapping[tuple[str, str], tuple[str, ...]]
"""(name, context) of a dataset -> its contents (SHA-256) in all buckets, the first in order, one more than a rule sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What every place is asked; without ``request.seals`` it can be sent to another machine."""

    request: AuditRequest
    experiments: Mapping[str, str]
    where: Where
    as_of: datetime
    versions: frozenset[str]
    """Runs that registered versions say they come from."""
    comparisons: Comparisons

    def loaded(
        self, con: duckdb.DuckDBPyConnection, source: Source, facts: Iterable[str]
    ) -> Tables:
        """The runs asked for, in columns."""
        selected = Selected(self.experiments, self.where, self.request.later_runs)
        return load(con, source, selected, facts, self.as_of)


@dataclass(frozen=True, slots=True, order=True)
class Answer:
    """One answer of a rule, in the order in which findings are listed."""

    order: tuple[int, int, str]
    cell: int
    code: int
    key: str
    run_id: str = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one place has to say."""

    runs: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    running: tuple[tuple[str, str], ...] = ()
    """(run id, why it is not over, or has not begun)."""
    trained: frozenset[str] = frozenset()
    """Those of the runs that versions come from."""
    tallies: tuple[tuple[int, int, int], ...] = ()
    """(number of the cell, code, how many subjects)."""
    worst: tuple[Answer, ...] = ()
    other_digests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of the datasets of the runs in ``worst``, by subject key."""
    energy: EnergyPart = field(default_factory=EnergyPart)
    register: pa.Table | None = None
    """Of a bucket; where all runs are in one place, ``datasets``."""
    datasets: tuple[tuple[DatasetRow, ...], int] = ((), 0)
    seals: tuple[SealCheck, ...] | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be read whole at one place."""

    answers: tuple[Answer, ...]
    other_digests: Mapping[str, tuple[str, ...]]
    energy: tuple[str, ...]
    """Ids of the runs of which the account has a row."""


@dataclass(frozen=True, slots=True)
class Explained:
    """The findings in the order of the answers, and the rows of the account."""

    findings: tuple[Finding, ...]
    rows: tuple[RunEnergyRow, ...]


def order_of(cell: Cell, code: int) -> tuple[int, int, str]:
    """Worst first."""
    state, _ = decoded(code, cell.pack)
    return assess.badness(state), cell.rule.severity.rank, cell.rule.id


def contents_at(asked: Asked, place: Place, _: None) -> Contents:
    """The contents each dataset name had in the runs of one place."""
    with place.opened() as source, columns_engine(asked.request, source) as con:
        asked.loaded(con, source, ())
        rows = con.execute("SELECT DISTINCT raw_name, raw_context, contents FROM digest_list")
        return {(name, context): tuple(found) for name, context, found in rows.fetchall()}


def part_at(asked: Asked, place: Place, contents: Contents) -> Part:
    """Every rule put to the runs of one place, and their energy added up.

    ``contents``: of names that had others elsewhere.

    Raises:
        NotInColumnsError: a rule cannot be put to columns.
    """
    with place.opened() as source, columns_engine(asked.request, source) as con:
        return _Judged(asked, place, con).part(source, contents)


@dataclass(frozen=True, slots=True)
class _Judged:
    asked: Asked
    place: Place
    con: duckdb.DuckDBPyConnection

    def part(self, source: Source, contents: Contents) -> Part:
        asked, request = self.asked, self.asked.request
        facts = facts_needed(request.packs)
        self.place.progress("Reading runs", 0, None)
        tables = asked.loaded(self.con, source, {*facts, *totals.FACTS})
        _add_contents(self.con, contents)
        running = self.con.execute("SELECT run_uuid, why FROM running ORDER BY 1").fetchall()
        compared = self._run_ids() if request.seals is not None else ()
        seals = asked.comparisons.of_all(compared, self.place.progress)
        if seals is not None or any(one.startswith("seal.") for one in facts):
            tables = in_columns(tables, seals or ())
        ((count, first, last),) = self.con.execute(
            "SELECT count(*), min(start_time), max(start_time) FROM run"
        ).fetchall()
        part = Part(
            runs=count,
            first_ms=first,
            last_ms=last,
            running=tuple((run_id, why) for run_id, why in running),
            trained=asked.versions.intersection(
                (*self._run_ids(), *(run_id for run_id, _ in running)) if asked.versions else ()
            ),
            seals=seals,
        )
        if not count:
            return part
        self.place.progress("Reading runs", count, count)
        self.place.progress("Checking", 0, count)
        part = self._answered(tables, part)
        self.place.progress("Checking", count, count)
        self._write(tables)
        energy = totals.Totals(tables)
        energy.prepare()
        part = replace(part, energy=energy.part())
        make_register(self.con)
        if self.place.number is None:
            return replace(part, datasets=listed_datasets(self.con))
        return replace(part, register=self.con.table("register").to_arrow_table())

    def _run_ids(self) -> list[str]:
        return [run_id for (run_id,) in self.con.execute("SELECT run_uuid FROM run").fetchall()]

    def _answered(self, tables: Tables, part: Part) -> Part:
        cells = judge(tables, self.asked.request.packs, self.asked.as_of)
        found = [(cells.index(cell), code, count) for cell, code, count in tallies(self.con, cells)]
        groups = sorted((order_of(cells[n], code), n, code, count) for n, code, count in found)
        room = self.asked.request.listed_findings
        worst: list[Answer] = []
        for order, number, code, count in groups:
            if room <= 0:
                break
            worst += [
                Answer(order, number, code, key, run_id)
                for run_id, key in self._keys(cells[number], code, room)
            ]
            room -= count
        return replace(
            part,
            tallies=tuple(found),
            worst=tuple(worst),
            other_digests=self._other_digests({one.run_id for one in worst}),
        )

    def _keys(self, cell: Cell, code: int, room: int) -> list[tuple[str, str]]:
        """(run id, subject key) of the first subjects with this answer."""
        joined = "JOIN run USING (rid)"
        if cell.table == "used":
            joined += " JOIN used USING (uid)"
        rows = self.con.execute(
            f"SELECT run_uuid, {SUBJECT_KEYS[cell.table]} AS key FROM {cell.table}_answer {joined}"
            f" WHERE {cell.name} = $code ORDER BY key LIMIT $room",
            {"code": code, "room": room},
        )
        return rows.fetchall()

    def _other_digests(self, run_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
        rows = self.con.execute(
            f"SELECT {SUBJECT_KEYS['used']}, digests FROM (SELECT unnest($ids) AS run_uuid)"
            " JOIN run USING (run_uuid) JOIN used USING (rid)"
            " JOIN (SELECT code, digests FROM digest_list) AS l ON l.code = used.d_other_digests",
            {"ids": sorted(run_ids) or [""]},
        )
        return {key: tuple(digests) for key, digests in rows.fetchall()}

    def _write(self, tables: Tables) -> None:
        request = self.asked.request
        if request.findings_file:
            cells = cells_of(request.packs)
            write_findings(self.con, cells, self._file(request.findings_file))
        if request.digests_file:
            write_digests(tables, self._file(request.digests_file))

    def _file(self, path: Path) -> Path:
        """Of all runs the file itself, of a bucket one in the folder."""
        number = self.place.number
        return path if number is None else path / f"part-{number:05d}.parquet"


def _add_contents(con: duckdb.DuckDBPyConnection, contents: Contents) -> None:
    """Let the datasets know what their names were elsewhere."""
    if not contents:
        return
    con.execute(
        "CREATE TABLE elsewhere AS SELECT unnest($names::VARCHAR[]) AS raw_name,"
        " unnest($contexts::VARCHAR[]) AS raw_context, unnest($contents::VARCHAR[][]) AS everywhere",
        {
            "names": [name for name, _ in contents],
            "contexts": [context for _, context in contents],
            "contents": [list(found) for found in contents.values()],
        },
    )
    con.execute(
        "CREATE OR REPLACE TABLE digest_list AS SELECT * EXCLUDE (everywhere) REPLACE (CASE WHEN"
        " everywhere IS NULL THEN digests"
        " ELSE list_slice(list_filter(everywhere, lambda x: x <> d_sha256), 1, $most) END AS digests)"
        " FROM digest_list LEFT JOIN elsewhere USING (raw_name, raw_context)",
        {"most": MAX_OTHER_DIGESTS},
    )


def explained_at(asked: Asked, place: Place, wanted: Wanted) -> Explained:
    """What is listed one by one is read whole, and findings are put to the oracle.

    Raises:
        CarbonError: the oracle answers otherwise than the columns did.
    """
    by_run: dict[str, list[int]] = {}
    for number, answer in enumerate(wanted.answers):
        by_run.setdefault(answer.run_id, []).append(number)
    cells = cells_of(asked.request.packs)
    findings: dict[int, Finding] = {}
    with place.opened() as source:
        for done, run in enumerate(_evidence(asked, source, list(by_run))):
            place.progress("Explaining findings", done, len(by_run))
            whole = asked.comparisons.known(_aware(run, wanted.other_digests))
            subjects = {one.subject.key: one for one in (whole, *whole.members["datasets"])}
            for number in by_run[run.subject.key]:
                answer = wanted.answers[number]
                subject = subjects[answer.key]
                findings[number] = _explained(cells[answer.cell], answer, subject, asked.as_of)
        rows = tuple(energy_row(run, "") for run in _evidence(asked, source, wanted.energy))
    return Explained(tuple(findings[number] for number in range(len(wanted.answers))), rows)


def _evidence(asked: Asked, source: Source, run_ids: Sequence[str]) -> Iterator[Evidence]:
    for run in read_runs(source, run_ids):
        yield run_evidence(run, asked.experiments[run.info.experiment_id])


def _aware(run: Evidence, others: Mapping[str, tuple[str, ...]]) -> Evidence:
    """The run with what the tables know of its datasets' other contents."""

    def told(dataset: Evidence) -> Evidence:
        if dataset.subject.key not in others or not text(dataset, "dataset.sha256"):
            return dataset
        where = f"the runs read that used a dataset named {text(dataset, 'dataset.name')}"
        fact = Fact(others[dataset.subject.key], where)
        return replace(dataset, facts={**dataset.facts, "dataset.other_digests": fact})

    return replace(run, members={"datasets": tuple(map(told, run.members["datasets"]))})


def _explained(cell: Cell, answer: Answer, subject: Evidence, as_of: datetime) -> Finding:
    single: Pack = replace(cell.pack, rules=(cell.rule,))
    (finding,) = assess.assess_subject(single, subject, as_of)
    if (finding.state, finding.waiver) != decoded(answer.code, cell.pack):
        raise CarbonError(
            f"rule {cell.rule.id} on {answer.key}: the two engines do not agree "
            f"({finding.state.value}, code {answer.code}). The run may have changed during the audit: "
            "try again. If it stays so, use --engine plain and report it."
        )
    return finding
