"""An audit: read what is selected, put every rule to every subject, count what came out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version as installed_version

import mlflow_carbon
from mlflow_carbon.audit import columnar
from mlflow_carbon.audit.account import dataset_register, energy_account
from mlflow_carbon.audit.assess import assess_subject, attestations, rank, summarize, tally
from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.power import power_curves
from mlflow_carbon.audit.seals import Comparisons
from mlflow_carbon.audit.select import (
    AuditRequest,
    Progress,
    Registered,
    begun,
    nothing_to_audit,
    read_registered,
)
from mlflow_carbon.audit.summary import Audit, Selection
from mlflow_carbon.audit.waivers import without_effect
from mlflow_carbon.evidence.model import Evidence
from mlflow_carbon.evidence.query import Remote, Store
from mlflow_carbon.evidence.store import has_ended, open_store, why_open, with_other_digests
from mlflow_carbon.evidence.trees import moment_of


@dataclass(frozen=True, slots=True)
class _Read:
    runs: list[Evidence]
    registered: Registered
    running: tuple[tuple[str, str], ...]
    """(run id, why it is not over, or has not begun)."""


def run_audit(
    request: AuditRequest, as_of: datetime, progress: Progress = lambda *_: None
) -> Audit:
    """Audit a store as of a moment.

    Raises:
        StoreError: the store cannot be read, or nothing in it has been selected or has ended.
    """
    store = open_store(
        request.store,
        through_mlflow=request.engine == "plain",
        deadline_s=request.deadline_s,
        apart=request.engine in ("columns", "spark"),
    )
    try:
        audit = _audit(request, store, as_of, progress)
        return replace(audit, power=power_curves(audit.energy.rows, store.series))
    finally:
        store.close()


def _audit(request: AuditRequest, store: Store, as_of: datetime, progress: Progress) -> Audit:
    if isinstance(store, Remote) and not request.query.models_only and request.engine != "spark":
        with store.fetched(
            request.query, lambda count: progress("Fetching runs", count, None)
        ) as fetched:
            return _audit(request, fetched, as_of, progress)
    if columnar.suits(store, request):
        audit = columnar.audit_in_columns(request, store, as_of, progress)
        if audit is not None:
            return audit
    return _run_by_run(request, store, as_of, progress)


def _run_by_run(request: AuditRequest, store: Store, as_of: datetime, progress: Progress) -> Audit:
    read = _read(store, request, as_of, progress)
    comparisons = Comparisons(request.seals, request.attestations)
    seals = comparisons.of_all((run.subject.key for run in read.runs), progress)
    subjects = [
        *(
            subject
            for run in map(comparisons.known, read.runs)
            for subject in (run, *run.members["datasets"])
        ),
        *comparisons.of_models(read.registered).subjects(request.packs, as_of),
    ]
    findings: list[Finding] = []
    for done, subject in enumerate(subjects):
        progress("Checking", done, len(subjects))
        for pack in request.packs:
            findings.extend(assess_subject(pack, subject, as_of))
    progress("Checking", len(subjects), len(subjects))
    findings.sort(key=rank)
    used = {(finding.pack_id, finding.waiver) for finding in findings if finding.waiver}
    return Audit(
        as_of=as_of,
        tool_version=mlflow_carbon.__version__,
        mlflow_version=installed_version("mlflow"),
        command=request.command,
        packs=request.packs,
        selection=_selection(store, request, read),
        findings=tuple(findings),
        rules=summarize(request.packs, tally(findings)),
        energy=energy_account(read.runs, read.registered.trained()),
        datasets=dataset_register(read.runs),
        attestations=attestations(read.registered),
        unused_waivers=without_effect(request.packs, used, as_of),
        seals=seals,
    )


def _read(store: Store, request: AuditRequest, as_of: datetime, progress: Progress) -> _Read:
    """What was there as of the moment: later versions are left out, as if not yet made, and so are later runs, unless asked for."""
    query = request.query
    runs: dict[str, Evidence] = {}
    for run in () if query.models_only else store.runs(query):
        if _selected(run, request, as_of):
            runs[run.subject.key] = run
        if len(runs) % 100 == 0:
            progress("Reading runs", len(runs), None)
    progress("Reading runs", len(runs), len(runs))
    only = runs if query.narrows_runs and not query.models else None
    registered = read_registered(store, request, only, as_of, progress)
    if query.models_only:
        for version in registered.versions:
            behind = version.members["lineage"]
            runs.update((one.subject.key, one) for one in behind if _selected(one, request, as_of))
    over = {key: _over(run, as_of) for key, run in runs.items()}
    ended = [run for key, run in runs.items() if over[key]]
    running = sorted((key, why_open(run, as_of)) for key, run in runs.items() if not over[key])
    if not ended:
        raise nothing_to_audit(store, query, running, as_of)
    return _Read(with_other_digests(ended), registered, tuple(running))


def _selected(run: Evidence, request: AuditRequest, as_of: datetime) -> bool:
    return request.later_runs or begun(run, "run.start_time", as_of)


def _over(run: Evidence, as_of: datetime) -> bool:
    return begun(run, "run.start_time", as_of) and has_ended(run, as_of)


def _selection(store: Store, request: AuditRequest, read: _Read) -> Selection:
    starts = [start for run in read.runs if (start := moment_of(run, "run.start_time"))]
    return Selection(
        store=store.shown,
        experiments=request.query.experiments,
        filter=request.query.filter,
        models=request.query.models,
        runs_selected=len(read.runs) + len(read.running),
        runs_read=len(read.runs),
        failed_to_read=read.running,
        earliest=min(starts, default=None),
        latest=max(starts, default=None),
        since=request.query.since,
        until=request.query.until,
        workspace=request.query.workspace,
    )
