"""An audit of very many runs: every rule at once over columns, and the parts put together.

All runs at one place, or the buckets of a snapshot one after another, or each a task of Spark: the
parts are made by the same code, and adding them up depends on no order. What is listed one by one
(the worst findings, the runs that used most) is read whole and put to the oracle as well; should it
ever answer otherwise than the columns did, the audit stops.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from importlib.metadata import version as installed_version
from typing import TypeGuard

import mlflow_carbon
from mlflow_carbon.audit import assess
from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.matrix import cells_of, decoded, facts_needed
from mlflow_carbon.audit.part import (
    Answer,
    Asked,
    Contents,
    Part,
    Wanted,
    contents_at,
    explained_at,
    part_at,
)
from mlflow_carbon.audit.seals import Comparisons
from mlflow_carbon.audit.select import (
    AuditRequest,
    Progress,
    Registered,
    nothing_to_audit,
    read_registered,
)
from mlflow_carbon.audit.spread import Spread, outputs, spread
from mlflow_carbon.audit.summary import Audit, DatasetRow, RunEnergyRow, Selection
from mlflow_carbon.audit.sums import account, one_register, together
from mlflow_carbon.audit.waivers import without_effect
from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence.facts import moment
from mlflow_carbon.evidence.query import Store
from mlflow_carbon.evidence.relational import TableStore
from mlflow_carbon.evidence.rows import rows_of
from mlflow_carbon.evidence.sealed import SealCheck
from mlflow_carbon.evidence.snapshot import Snapshot
from mlflow_carbon.evidence.store import MAX_OTHER_DIGESTS
from mlflow_carbon.policy.compile import NotInColumnsError

MANY_RUNS = 1_000
"""From here on ``auto`` reads in columns."""


def suits(store: Store, request: AuditRequest) -> TypeGuard[TableStore]:
    """Whether this audit is to be made in columns.

    Raises:
        StoreError: it was asked for and cannot be.
    """
    query = request.query
    possible = isinstance(store, TableStore) and not query.models_only
    if request.engine == "spark":
        _check_for_spark(store, request, possible)
    if request.engine == "columns" and not possible:
        raise StoreError(
            f"{store.shown}: --engine columns reads a SQLite or PostgreSQL database, a server or a snapshot, "
            "without --model alone. Leave --engine out: the plain engine gives the same answers."
        )
    if request.engine == "auto" and isinstance(store, TableStore) and possible:
        return request.digests_file is not None or _count(request, store) >= MANY_RUNS
    return request.engine in ("columns", "spark")


def _check_for_spark(store: Store, request: AuditRequest, possible: bool) -> None:
    """Refuse what Spark's executors could not read."""
    source = store.source if isinstance(store, TableStore) else None
    if not isinstance(source, Snapshot):
        raise StoreError(
            f"{store.shown}: --engine spark reads a snapshot in buckets, which every executor finds at the same "
            "path. Write one: mlflow-carbon export evidence FOLDER --store STORE --buckets N"
        )
    if source.buckets == 1:
        raise StoreError(
            f"{store.shown}: is not divided, and --engine spark gives each bucket to a task. Write it again "
            "with --buckets N, two to four for each core of the cluster, or leave --engine out."
        )
    if not possible or request.seals is not None:
        what = "--seals and --ledger" if request.seals is not None else "--model alone"
        raise StoreError(f"{store.shown}: --engine spark does not go with {what}.")


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
    asked = Asked(
        request=request,
        experiments=store.experiments(request.query),
        where=store.where(request.query),
        as_of=as_of,
        versions=_of_versions(store, request),
        comparisons=Comparisons(request.seals, request.attestations),
    )
    try:
        with outputs(request, store.source) as into, spread(request, store.source, progress) as at:
            return _Columns(replace(asked, request=into), store, at, progress).audit()
    except NotInColumnsError as error:
        if request.engine in ("columns", "spark"):
            raise StoreError(
                f"--engine {request.engine} cannot go through {error}. Leave --engine out."
            ) from None
        return None


def _of_versions(store: TableStore, request: AuditRequest) -> frozenset[str]:
    """The runs versions come from, where only those of runs that were asked for are."""
    if not _only_of_runs(request):
        return frozenset()
    models = store.models(request.query)
    return frozenset(run_id for model in models for run_id in model.versions.values())


def _only_of_runs(request: AuditRequest) -> bool:
    return request.query.narrows_runs and not request.query.models


@dataclass(frozen=True, slots=True)
class _Columns:
    asked: Asked
    store: TableStore
    spread: Spread
    progress: Progress

    def audit(self) -> Audit:
        request, as_of = self.asked.request, self.asked.as_of
        packs, comparisons = request.packs, self.asked.comparisons
        parts = self._parts()
        selection = self._selection(parts.values())
        self.progress("Reading runs", selection.runs_read, selection.runs_read)
        registered = comparisons.of_models(self._registered(parts.values()))
        found = [
            finding
            for subject in registered.subjects(packs, as_of)
            for pack in packs
            for finding in assess.assess_subject(pack, subject, as_of)
        ]
        counted = assess.tally(found)
        used = {(finding.pack_id, finding.waiver) for finding in found if finding.waiver}
        cells = cells_of(packs)
        for (number, code), count in _tallies(parts.values()).items():
            cell = cells[number]
            state, waiver = decoded(code, cell.pack)
            counted[cell.pack.id, cell.rule.id, state] += count
            used |= {(cell.pack.id, waiver)} if waiver else set()
        energy = together(part.energy for part in parts.values())
        listed, rows = self._explained(parts, [run_id for _, run_id in energy.most])
        found += listed
        found.sort(key=assess.rank)
        trained = registered.trained()
        rows = [replace(row, model_name=trained.get(row.run_id, "")) for row in rows]
        datasets, datasets_left_out = _register([*parts.values()])
        return Audit(
            as_of=as_of,
            tool_version=mlflow_carbon.__version__,
            mlflow_version=installed_version("mlflow"),
            command=request.command,
            packs=packs,
            selection=selection,
            findings=tuple(found),
            rules=assess.summarize(packs, counted),
            energy=account(energy, rows),
            datasets=datasets,
            attestations=assess.attestations(registered),
            unused_waivers=without_effect(packs, used, as_of),
            findings_left_out=sum(counted.values()) - len(found),
            datasets_left_out=datasets_left_out,
            seals=_seals(parts.values()),
        )

    def _parts(self) -> dict[int, Part]:
        everywhere = range(len(self.spread.places))
        contents: dict[int, Contents] = {}
        if len(everywhere) > 1 and "dataset.other_digests" in facts_needed(
            self.asked.request.packs
        ):
            nothing = dict.fromkeys(everywhere)
            contents = _of_all(self.spread.each(partial(contents_at, self.asked), nothing))
        given = {index: contents.get(index, {}) for index in everywhere}
        return self.spread.each(partial(part_at, self.asked), given)

    def _selection(self, parts: Iterable[Part]) -> Selection:
        query = self.asked.request.query
        running = sorted(one for part in parts for one in part.running)
        count = sum(part.runs for part in parts)
        if not count:
            raise nothing_to_audit(self.store, query, running, self.asked.as_of)
        firsts = [part.first_ms for part in parts if part.first_ms is not None]
        lasts = [part.last_ms for part in parts if part.last_ms is not None]
        return Selection(
            store=self.store.shown,
            experiments=query.experiments,
            filter=query.filter,
            models=query.models,
            runs_selected=count + len(running),
            runs_read=count,
            failed_to_read=tuple(running),
            earliest=moment(min(firsts, default=None)),
            latest=moment(max(lasts, default=None)),
            since=query.since,
            until=query.until,
            workspace=query.workspace,
        )

    def _registered(self, parts: Iterable[Part]) -> Registered:
        request, only = self.asked.request, None
        if _only_of_runs(request):
            only = frozenset[str]().union(*(part.trained for part in parts))
        return read_registered(self.store, request, only, self.asked.as_of, self.progress)

    def _explained(
        self, parts: Mapping[int, Part], most: Sequence[str]
    ) -> tuple[list[Finding], list[RunEnergyRow]]:
        """The worst findings and the runs that used most, each read where it is."""
        room = self.asked.request.listed_findings
        worst = heapq.merge(
            *([(answer, index) for answer in part.worst] for index, part in parts.items())
        )
        listed = [one for _, one in zip(range(room), worst, strict=False)]
        answers: defaultdict[int, list[Answer]] = defaultdict(list)
        for answer, index in listed:
            answers[index].append(answer)
        among = frozenset(most)
        of_most = {
            index: tuple(run_id for _, run_id in part.energy.most if run_id in among)
            for index, part in parts.items()
        }
        wanted = {
            index: Wanted(tuple(answers[index]), part.other_digests, of_most[index])
            for index, part in parts.items()
            if answers[index] or of_most[index]
        }
        found = self.spread.each(partial(explained_at, self.asked), wanted)
        rows = {row.run_id: row for one in found.values() for row in one.rows}
        findings = {index: iter(one.findings) for index, one in found.items()}
        return [next(findings[index]) for _, index in listed], [rows[run_id] for run_id in most]


def _of_all(own: Mapping[int, Contents]) -> dict[int, Contents]:
    """For each place the contents everywhere of those of its names that had others elsewhere."""
    everywhere: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for contents in own.values():
        for name, found in contents.items():
            everywhere[name].update(found)
    first = {
        name: tuple(heapq.nsmallest(MAX_OTHER_DIGESTS + 1, found))
        for name, found in everywhere.items()
    }
    return {
        index: {name: first[name] for name, found in contents.items() if found != first[name]}
        for index, contents in own.items()
    }


def _tallies(parts: Iterable[Part]) -> Counter[tuple[int, int]]:
    """(number of the cell, code) -> how many subjects."""
    counted: Counter[tuple[int, int]] = Counter()
    for part in parts:
        for cell, code, count in part.tallies:
            counted[cell, code] += count
    return counted


def _register(parts: Sequence[Part]) -> tuple[tuple[DatasetRow, ...], int]:
    if len(parts) == 1:
        return parts[0].datasets
    return one_register([part.register for part in parts if part.register is not None])


def _seals(parts: Iterable[Part]) -> tuple[SealCheck, ...] | None:
    made = [part.seals for part in parts if part.seals is not None]
    if not made:
        return None
    return tuple(sorted((one for some in made for one in some), key=lambda one: one.run_id))
