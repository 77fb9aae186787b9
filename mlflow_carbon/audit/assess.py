"""An audit: read what is selected, put every rule to every subject, count what came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version as installed_version

import mlflow_carbon
from mlflow_carbon.audit.account import dataset_register, energy_account
from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.select import (
    AuditRequest,
    Progress,
    Registered,
    begun,
    nothing_to_audit,
    read_registered,
)
from mlflow_carbon.audit.summary import Audit, RuleSummary, Selection
from mlflow_carbon.audit.waivers import in_force, without_effect
from mlflow_carbon.evidence.model import Attestation, Evidence, SubjectKind
from mlflow_carbon.evidence.store import Store, has_ended, open_store, with_other_digests
from mlflow_carbon.evidence.trees import moment_of
from mlflow_carbon.policy.evaluate import evaluate
from mlflow_carbon.policy.model import Pack, Rule, State, Waiver

_WORST_FIRST = (
    State.FAIL,
    State.ERROR,
    State.NO_EVIDENCE,
    State.NEEDS_ATTESTATION,
    State.WAIVED,
    State.PASS,
    State.NOT_APPLICABLE,
)
_WAIVABLE = (State.FAIL, State.NO_EVIDENCE, State.NEEDS_ATTESTATION)
"""A rule that could not be evaluated is nobody's accepted exception."""


@dataclass(frozen=True, slots=True)
class _Read:
    runs: list[Evidence]
    registered: Registered
    running: tuple[str, ...]


def run_audit(
    request: AuditRequest, as_of: datetime, progress: Progress = lambda *_: None
) -> Audit:
    """Audit a store as of a moment.

    Raises:
        StoreError: the store cannot be read, or nothing in it has been selected or has ended.
    """
    from mlflow_carbon.audit import (
        columnar,  # DuckDB and Arrow: not for the gate, which is a caller too
    )

    store = open_store(request.store)
    if columnar.suits(request, store):
        audit = columnar.audit_in_columns(request, store, as_of, progress)
        if audit is not None:
            return audit
    return _run_by_run(request, store, as_of, progress)


def _run_by_run(request: AuditRequest, store: Store, as_of: datetime, progress: Progress) -> Audit:
    read = _read(store, request, as_of, progress)
    subjects = [
        *(subject for run in read.runs for subject in (run, *run.members["datasets"])),
        *read.registered.subjects(request.packs, as_of),
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
    )


def assess_subject(pack: Pack, evidence: Evidence, as_of: datetime) -> tuple[Finding, ...]:
    """Put every rule of the pack that is about this kind of subject to it, and apply the waivers."""
    return tuple(
        _finding(pack, rule, evidence, as_of) for rule in pack.rules if _applies(rule, evidence)
    )


def _applies(rule: Rule, evidence: Evidence) -> bool:
    if rule.scope is SubjectKind.PAIR and evidence.subject.kind is SubjectKind.PAIR:
        return evidence.subject.key.rpartition("@")[2] == rule.baseline_alias
    return rule.scope is evidence.subject.kind


def _finding(pack: Pack, rule: Rule, evidence: Evidence, as_of: datetime) -> Finding:
    answer = evaluate(rule, evidence, as_of)
    waiver = None
    if answer.state in _WAIVABLE:
        waiver = next((one for one in pack.waivers if _covers(one, rule, evidence, as_of)), None)
    return Finding(
        rule_id=rule.id,
        pack_id=pack.id,
        title=rule.title,
        severity=rule.severity,
        subject=evidence.subject,
        state=State.WAIVED if waiver else answer.state,
        underlying=answer.state if waiver else None,
        message=answer.message,
        observations=answer.observations,
        controls=rule.controls,
        remediation=rule.remediation,
        does_not_show=rule.does_not_show,
        at=rule.at,
        waiver=waiver.id if waiver else "",
    )


def _covers(waiver: Waiver, rule: Rule, evidence: Evidence, as_of: datetime) -> bool:
    if not in_force(waiver, rule, as_of):
        return False
    if waiver.match is None:
        return True
    match = replace(rule, condition=waiver.match, attest=None, when=None)
    return evaluate(match, evidence, as_of).state is State.PASS


def rank(finding: Finding) -> tuple[int, int, str, str]:
    """Worst first: state, severity, then rule and subject."""
    return (
        badness(finding.state),
        finding.severity.rank,
        finding.rule_id,
        finding.subject.key,
    )


def badness(state: State) -> int:
    """0 for the state a reader must see first."""
    return _WORST_FIRST.index(state)


Tally = Counter[tuple[str, str, State]]
"""(pack id, rule id, state) -> how many subjects."""


def tally(findings: Sequence[Finding]) -> Tally:
    """How often each rule came to each state."""
    return Counter((one.pack_id, one.rule_id, one.state) for one in findings)


def summarize(
    packs: Sequence[Pack], counted: Mapping[tuple[str, str, State], int]
) -> tuple[RuleSummary, ...]:
    """Every rule of every pack with its count of each state; a rule without subjects has zeros."""
    return tuple(
        RuleSummary(
            rule=rule,
            pack_id=pack.id,
            counts={state: counted.get((pack.id, rule.id, state), 0) for state in State},
        )
        for pack in packs
        for rule in pack.rules
    )


def attestations(registered: Registered) -> tuple[tuple[str, Attestation], ...]:
    """(``name/version``, attestation) of every version read."""
    return tuple(
        (version.subject.key, one)
        for version in registered.versions
        for one in version.attestations
    )


def _read(store: Store, request: AuditRequest, as_of: datetime, progress: Progress) -> _Read:
    """What was there as of the moment: later runs and versions are left out, as if not yet made."""
    query = request.query
    models_only = bool(query.models) and not (query.experiments or query.filter)
    runs: dict[str, Evidence] = {}
    for run in () if models_only else store.runs(query):
        if begun(run, "run.start_time", as_of):
            runs[run.subject.key] = run
        if len(runs) % 100 == 0:
            progress("Reading runs", len(runs), None)
    progress("Reading runs", len(runs), len(runs))
    only = runs if (query.experiments or query.filter) and not query.models else None
    registered = read_registered(store, request, only, as_of, progress)
    if models_only:
        for version in registered.versions:
            behind = version.members["lineage"]
            runs.update(
                (one.subject.key, one) for one in behind if begun(one, "run.start_time", as_of)
            )
    ended = [run for run in runs.values() if has_ended(run, as_of)]
    running = tuple(key for key, run in runs.items() if not has_ended(run, as_of))
    if not ended:
        raise nothing_to_audit(store, query, len(running))
    return _Read(with_other_digests(ended), registered, running)


def _selection(store: Store, request: AuditRequest, read: _Read) -> Selection:
    starts = [start for run in read.runs if (start := moment_of(run, "run.start_time"))]
    return Selection(
        store=store.shown,
        experiments=request.query.experiments,
        filter=request.query.filter,
        models=request.query.models,
        runs_selected=len(read.runs) + len(read.running),
        runs_read=len(read.runs),
        failed_to_read=tuple((run_id, "still running") for run_id in read.running),
        earliest=min(starts, default=None),
        latest=max(starts, default=None),
    )
