"""An audit of very many runs: every rule at once over columns read straight from MLflow's database.

What is listed one by one (the worst findings, the runs that used most) is read whole and put to
the oracle as well; should it ever answer otherwise than the columns did, the audit stops.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version as installed_version
from typing import TypeGuard

import duckdb

import mlflow_carbon
from mlflow_carbon.audit import assess, totals
from mlflow_carbon.audit.account import energy_row
from mlflow_carbon.audit.digests import write_digests
from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.matrix import (
    SUBJECT_KEYS,
    Cell,
    decoded,
    facts_needed,
    judge,
    tallies,
    write_findings,
)
from mlflow_carbon.audit.seals import Comparisons, in_columns
from mlflow_carbon.audit.select import (
    AuditRequest,
    Progress,
    Registered,
    nothing_to_audit,
    read_registered,
)
from mlflow_carbon.audit.summary import Audit, Selection
from mlflow_carbon.audit.waivers import without_effect
from mlflow_carbon.errors import CarbonError, StoreError
from mlflow_carbon.evidence.facts import moment, run_evidence
from mlflow_carbon.evidence.model import Evidence, Fact
from mlflow_carbon.evidence.query import Store
from mlflow_carbon.evidence.relational import TableStore
from mlflow_carbon.evidence.rows import read_runs, rows_of
from mlflow_carbon.evidence.tables import Selected, load
from mlflow_carbon.evidence.trees import text
from mlflow_carbon.policy.compile import NotInColumnsError
from mlflow_carbon.policy.model import Pack

MANY_RUNS = 1_000
"""From here on ``auto`` reads in columns."""


def suits(store: Store, request: AuditRequest) -> TypeGuard[TableStore]:
    """Whether this audit is to be made in columns.

    Raises:
        StoreError: it was asked for and cannot be.
    """
    query = request.query
    possible = isinstance(store, TableStore) and not query.models_only
    if request.engine == "columns" and not possible:
        raise StoreError(
            f"{store.shown}: --engine columns reads a SQLite or PostgreSQL database, a server or a snapshot, "
            "without --model alone. Leave --engine out: the plain engine gives the same answers."
        )
    if request.engine == "auto" and isinstance(store, TableStore) and possible:
        return request.digests_file is not None or _count(request, store) >= MANY_RUNS
    return request.engine == "columns"


def _count(request: AuditRequest, store: TableStore) -> int:
    ids = [*map(int, store.experiments(request.query))]
    holes = ", ".join("?" * len(ids))
    where = store.where(request.query)
    rows = rows_of(
        store.source,
        "SELECT count(*) AS n FROM (SELECT 1 FROM runs"
        f" WHERE experiment_id IN ({holes}){where.sql} LIMIT {MANY_RUNS}) AS first",
        [*ids, *where.values],
    )
    return int(rows[0]["n"])


def audit_in_columns(
    request: AuditRequest, store: TableStore, as_of: datetime, progress: Progress
) -> Audit | None:
    """The audit, or ``None`` when a rule cannot be put to columns and the plain engine is to do it.

    Raises:
        StoreError: the store cannot be read, or there is nothing to audit.
    """
    with (
        tempfile.TemporaryDirectory(prefix="mlflow-carbon-") as folder,
        columns_engine(request, folder) as con,
    ):
        try:
            return _Columns(request, store, con, as_of, progress).audit()
        except NotInColumnsError as error:
            if request.engine == "columns":
                raise StoreError(
                    f"--engine columns cannot go through {error}. Leave --engine out."
                ) from None
            return None
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise StoreError(
                f"{store.shown}: {request.memory_mb} MB of memory and the room in {folder} are not "
                f"enough ({str(error).splitlines()[0]}). Give more with --memory, or more room for "
                "temporary files with TMPDIR."
            ) from None


@contextmanager
def columns_engine(request: AuditRequest, folder: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own: in memory up to the limit, then in ``folder``."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{request.memory_mb}MB",
        "temp_directory": folder,
        "preserve_insertion_order": False,
        "threads": request.jobs or os.cpu_count() or 1,
    }
    con = duckdb.connect(config=config)
    con.execute("SET enable_progress_bar = false")  # it would go to standard output
    try:
        yield con
    finally:
        con.close()


@dataclass(frozen=True, slots=True)
class _Columns:
    request: AuditRequest
    store: TableStore
    con: duckdb.DuckDBPyConnection
    as_of: datetime
    progress: Progress

    def audit(self) -> Audit:
        experiments = self.store.experiments(self.request.query)
        packs = self.request.packs
        self.progress("Reading runs", 0, None)
        selected = Selected(experiments, self.store.where(self.request.query))
        tables = load(
            self.con, self.store.source, selected, {*facts_needed(packs), *totals.FACTS}, self.as_of
        )
        comparisons = Comparisons(self.request.seals, self.request.attestations)
        seals = comparisons.of_all(self._run_ids(), self.progress)
        if seals is not None or any(one.startswith("seal.") for one in facts_needed(packs)):
            tables = in_columns(tables, seals or ())
        selection = self._selection()
        self.progress("Reading runs", selection.runs_read, selection.runs_read)
        registered = comparisons.of_models(self._registered())
        self.progress("Checking", 0, selection.runs_read)
        cells = judge(tables, packs, self.as_of)
        found = [
            finding
            for subject in registered.subjects(packs, self.as_of)
            for pack in packs
            for finding in assess.assess_subject(pack, subject, self.as_of)
        ]
        counted = assess.tally(found)
        used = {(finding.pack_id, finding.waiver) for finding in found if finding.waiver}
        groups: list[_Group] = []
        for cell, code, count in tallies(self.con, cells):
            state, waiver = decoded(code, cell.pack)
            counted[cell.pack.id, cell.rule.id, state] += count
            used |= {(cell.pack.id, waiver)} if waiver else set()
            order = (assess.badness(state), cell.rule.severity.rank, cell.rule.id)
            groups.append(_Group(order, cell, code, count))
        self.progress("Checking", selection.runs_read, selection.runs_read)
        if self.request.findings_file:
            write_findings(self.con, cells, self.request.findings_file)
        if self.request.digests_file:
            write_digests(tables, self.request.digests_file)
        found += self._listed(
            experiments, sorted(groups, key=lambda group: group.order), comparisons
        )
        found.sort(key=assess.rank)
        energy = totals.Totals(tables)
        energy.prepare()
        datasets, datasets_left_out = energy.datasets()
        trained = registered.trained()
        rows = [
            energy_row(run, trained.get(run.subject.key, ""))
            for run in self._evidence(experiments, energy.listed_runs())
        ]
        return Audit(
            as_of=self.as_of,
            tool_version=mlflow_carbon.__version__,
            mlflow_version=installed_version("mlflow"),
            command=self.request.command,
            packs=packs,
            selection=selection,
            findings=tuple(found),
            rules=assess.summarize(packs, counted),
            energy=energy.account(rows),
            datasets=datasets,
            attestations=assess.attestations(registered),
            unused_waivers=without_effect(packs, used, self.as_of),
            findings_left_out=sum(counted.values()) - len(found),
            datasets_left_out=datasets_left_out,
            seals=seals,
        )

    def _selection(self) -> Selection:
        query = self.request.query
        running = self.con.execute("SELECT run_uuid FROM running ORDER BY 1").fetchall()
        count, first, last = self.con.execute(
            "SELECT count(*), min(start_time), max(start_time) FROM run"
        ).fetchall()[0]
        if not count:
            raise nothing_to_audit(self.store, query, len(running))
        return Selection(
            store=self.store.shown,
            experiments=query.experiments,
            filter=query.filter,
            models=query.models,
            runs_selected=count + len(running),
            runs_read=count,
            failed_to_read=tuple((run_id, "still running") for (run_id,) in running),
            earliest=moment(first),
            latest=moment(last),
            since=query.since,
            until=query.until,
            workspace=query.workspace,
        )

    def _registered(self) -> Registered:
        query = self.request.query
        only: set[str] | None = None
        if query.narrows_runs and not query.models:
            only = set(self._run_ids())
        return read_registered(self.store, self.request, only, self.as_of, self.progress)

    def _run_ids(self) -> list[str]:
        return [run_id for (run_id,) in self.con.execute("SELECT run_uuid FROM run").fetchall()]

    def _evidence(self, experiments: dict[str, str], run_ids: Sequence[str]) -> Iterator[Evidence]:
        """Whole runs, with what the tables know of their datasets' other contents."""
        self.con.execute(
            "CREATE OR REPLACE TEMP TABLE wanted AS SELECT unnest($ids) AS run_uuid",
            {"ids": list(run_ids) or [""]},
        )
        others: dict[str, tuple[str, ...]] = {
            key: tuple(contents)
            for key, contents in self.con.execute(
                "SELECT run_uuid || '/' || raw_name || '/' || raw_digest || '/' || raw_context,"
                " digests FROM wanted JOIN run USING (run_uuid) JOIN used USING (rid)"
                " JOIN (SELECT code, digests FROM digest_list) AS l ON l.code = used.d_other_digests"
            ).fetchall()
        }
        for run in read_runs(self.store.source, run_ids):
            evidence = run_evidence(run, experiments[run.info.experiment_id])
            members = tuple(_aware(one, others) for one in evidence.members["datasets"])
            yield replace(evidence, members={"datasets": members})

    def _listed(
        self, experiments: dict[str, str], groups: Sequence[_Group], comparisons: Comparisons
    ) -> list[Finding]:
        """The findings of the worst groups, explained by the oracle."""
        wanted: dict[str, list[tuple[_Group, str]]] = defaultdict(list)
        room = self.request.listed_findings
        for group in groups:
            for run_id, key in self._keys(group, room):
                wanted[run_id].append((group, key))
                room -= 1
        findings = []
        for done, run in enumerate(self._evidence(experiments, list(wanted))):
            self.progress("Explaining findings", done, len(wanted))
            whole = comparisons.known(run)
            subjects = {one.subject.key: one for one in (whole, *whole.members["datasets"])}
            for group, key in wanted[run.subject.key]:
                findings.append(self._explained(group, subjects[key]))
        return findings

    def _keys(self, group: _Group, room: int) -> list[tuple[str, str]]:
        """(run id, subject key) of the first subjects of a group."""
        cell, joined = group.cell, "JOIN run USING (rid)"
        if cell.table == "used":
            joined += " JOIN used USING (uid)"
        key = SUBJECT_KEYS[cell.table]
        rows = self.con.execute(
            f"SELECT run_uuid, {key} AS key FROM {cell.table}_answer {joined}"
            f" WHERE {cell.name} = $code ORDER BY key LIMIT $room",
            {"code": group.code, "room": room},
        )
        return [(run_id, found) for run_id, found in rows.fetchall()]

    def _explained(self, group: _Group, subject: Evidence) -> Finding:
        cell = group.cell
        single: Pack = replace(cell.pack, rules=(cell.rule,))
        (finding,) = assess.assess_subject(single, subject, self.as_of)
        if (finding.state, finding.waiver) != decoded(group.code, cell.pack):
            raise CarbonError(
                f"rule {cell.rule.id} on {subject.subject.key}: the two engines do not agree "
                f"({finding.state.value}, code {group.code}). The run may have changed during the audit: "
                "try again. If it stays so, use --engine plain and report it."
            )
        return finding


@dataclass(frozen=True, slots=True)
class _Group:
    """The subjects to which one rule gave one answer."""

    order: tuple[int, int, str]
    cell: Cell
    code: int
    count: int


def _aware(dataset: Evidence, others: dict[str, tuple[str, ...]]) -> Evidence:
    if dataset.subject.key not in others or not text(dataset, "dataset.sha256"):
        return dataset
    where = f"the runs read that used a dataset named {text(dataset, 'dataset.name')}"
    fact = Fact(others[dataset.subject.key], where)
    return replace(dataset, facts={**dataset.facts, "dataset.other_digests": fact})
