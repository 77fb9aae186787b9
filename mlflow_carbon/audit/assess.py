"""An audit: read what is selected, put every rule to every subject, count what came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timezone
from importlib.metadata import version as installed_version

import mlflow_carbon
from mlflow_carbon.audit.account import dataset_register, energy_account
from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.summary import Audit, RuleSummary, Selection
from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence.lineage import pair_evidence
from mlflow_carbon.evidence.model import Evidence, SubjectKind
from mlflow_carbon.evidence.store import (
    Query,
    RegisteredModel,
    Store,
    has_ended,
    open_store,
    with_other_digests,
)
from mlflow_carbon.evidence.trees import moment_of
from mlflow_carbon.policy.about import pack_evidence
from mlflow_carbon.policy.evaluate import evaluate
from mlflow_carbon.policy.model import Pack, Rule, State, Waiver

Progress = Callable[[str, int, int | None], None]
"""Called with a stage in words, how much of it is done, and of how much (``None``: not known)."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest:
    """What to audit against what. ``query.models`` alone selects the runs behind those models."""

    store: str
    packs: tuple[Pack, ...]
    query: Query = field(default_factory=Query)
    command: str = ""


@dataclass(frozen=True, slots=True)
class _Read:
    runs: list[Evidence]
    models: list[RegisteredModel]
    versions: list[Evidence]
    running: tuple[str, ...]


def run_audit(
    request: AuditRequest, as_of: datetime, progress: Progress = lambda *_: None
) -> Audit:
    """Audit a store as of a moment.

    Raises:
        StoreError: the store cannot be read, or nothing in it has been selected or has ended.
    """
    store = open_store(request.store)
    read = _read(store, request.query, as_of, progress)
    subjects = [*_subjects(read, request.packs, as_of)]
    findings: list[Finding] = []
    for done, subject in enumerate(subjects):
        progress("Checking", done, len(subjects))
        for pack in request.packs:
            findings.extend(assess_subject(pack, subject, as_of))
    progress("Checking", len(subjects), len(subjects))
    findings.sort(key=_rank)
    return Audit(
        as_of=as_of,
        tool_version=mlflow_carbon.__version__,
        mlflow_version=installed_version("mlflow"),
        command=request.command,
        packs=request.packs,
        selection=_selection(store, request.query, read),
        findings=tuple(findings),
        rules=summarize(request.packs, findings),
        energy=energy_account(read.runs, _model_names(read.versions)),
        datasets=dataset_register(read.runs),
        attestations=tuple(
            (version.subject.key, one) for version in read.versions for one in version.attestations
        ),
        unused_waivers=_unused_waivers(request.packs, findings, as_of),
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


def expired(waiver: Waiver, as_of: datetime) -> bool:
    """Whether the last day of the waiver is over, by UTC."""
    return as_of > datetime.combine(waiver.expires, time.max, tzinfo=timezone.utc)


def _covers(waiver: Waiver, rule: Rule, evidence: Evidence, as_of: datetime) -> bool:
    begun = as_of >= datetime.combine(waiver.approved_on, time.min, tzinfo=timezone.utc)
    if rule.id not in waiver.rules or not begun or expired(waiver, as_of):
        return False
    if waiver.match is None:
        return True
    match = replace(rule, condition=waiver.match, attest=None, when=None)
    return evaluate(match, evidence, as_of).state is State.PASS


def _unused_waivers(
    packs: Sequence[Pack], findings: Sequence[Finding], as_of: datetime
) -> tuple[str, ...]:
    used = {(finding.pack_id, finding.waiver) for finding in findings if finding.waiver}
    notes = []
    for pack in packs:
        for waiver in pack.waivers:
            if expired(waiver, as_of):
                notes.append(f"{waiver.id}: expired on {waiver.expires}, without force")
            elif (pack.id, waiver.id) not in used:
                notes.append(f"{waiver.id}: hides nothing in this audit")
    return tuple(notes)


def _rank(finding: Finding) -> tuple[int, int, str, str]:
    return (
        _WORST_FIRST.index(finding.state),
        finding.severity.rank,
        finding.rule_id,
        finding.subject.key,
    )


def summarize(packs: Sequence[Pack], findings: Sequence[Finding]) -> tuple[RuleSummary, ...]:
    """Every rule of every pack with its count of each state; a rule without subjects has zeros."""
    counted = Counter((one.pack_id, one.rule_id, one.state) for one in findings)
    return tuple(
        RuleSummary(
            rule=rule,
            pack_id=pack.id,
            counts={state: counted[pack.id, rule.id, state] for state in State},
        )
        for pack in packs
        for rule in pack.rules
    )


def _read(store: Store, query: Query, as_of: datetime, progress: Progress) -> _Read:
    """What was there as of the moment: later runs and versions are left out, as if not yet made."""
    whole = not (query.experiments or query.filter or query.models)
    runs: dict[str, Evidence] = {}
    if not query.models or query.experiments or query.filter:
        for run in store.runs(query):
            if _begun(run, "run.start_time", as_of):
                runs[run.subject.key] = run
            if len(runs) % 100 == 0:
                progress("Reading runs", len(runs), None)
    progress("Reading runs", len(runs), len(runs))
    models, versions = _read_models(store, query, progress, None if whole or query.models else runs)
    if query.models and not (query.experiments or query.filter):
        for version in versions:
            behind = version.members["lineage"]
            runs.update(
                (one.subject.key, one) for one in behind if _begun(one, "run.start_time", as_of)
            )
    ended = [run for run in runs.values() if has_ended(run, as_of)]
    if not ended:
        _nothing(store, query, len(runs))
    running = tuple(key for key, run in runs.items() if not has_ended(run, as_of))
    versions = [one for one in versions if _begun(one, "version.created", as_of)]
    return _Read(with_other_digests(ended), models, versions, running)


def _begun(subject: Evidence, fact: str, as_of: datetime) -> bool:
    moment = moment_of(subject, fact)
    return moment is None or moment <= as_of


def _read_models(
    store: Store, query: Query, progress: Progress, only: Mapping[str, Evidence] | None
) -> tuple[list[RegisteredModel], list[Evidence]]:
    """The models and versions asked for; with ``only``, those trained by one of these runs."""
    models, versions = [], []
    for done, model in enumerate(store.models(query)):
        progress("Reading models", done, None)
        name = model.evidence.subject.key
        found = [
            version
            for number, run_id in model.versions.items()
            if only is None or run_id in only
            for version in [store.version(name, number)]
        ]
        if found or only is None:
            models.append(model)
            versions.extend(found)
    return models, versions


def _nothing(store: Store, query: Query, running: int) -> None:
    where = " ".join(
        [
            *(f"--experiment {name!r}" for name in query.experiments),
            *([f"--filter {query.filter!r}"] if query.filter else []),
            *(f"--model {name!r}" for name in query.models),
        ]
    )
    selected = f"the selection {where}" if where else "it"
    if running:
        raise StoreError(
            f"{store.shown}: {selected} has no finished run; {running} still running. "
            "Nothing was audited. Try again when they have ended; if their process was killed, run "
            "`mlflow-carbon recover`."
        )
    raise StoreError(f"{store.shown}: {selected} has no runs. Nothing was audited.")


def _subjects(read: _Read, packs: Sequence[Pack], as_of: datetime) -> Iterator[Evidence]:
    for pack in packs:
        yield pack_evidence(pack, as_of)
    for run in read.runs:
        yield run
        yield from run.members["datasets"]
    yield from read.versions
    for model in read.models:
        yield model.evidence
    aliases = {
        rule.baseline_alias
        for pack in packs
        for rule in pack.rules
        if rule.scope is SubjectKind.PAIR
    }
    yield from _pairs(read, sorted(aliases))


def _pairs(read: _Read, aliases: Sequence[str]) -> Iterator[Evidence]:
    """Each version against the older one behind an alias."""
    versions = {version.subject.key: version for version in read.versions}
    for model in read.models:
        name = model.evidence.subject.key
        for alias in aliases:
            number = model.aliases.get(alias, "")
            baseline = versions.get(f"{name}/{number}")
            for other in model.versions:
                candidate = versions.get(f"{name}/{other}")
                if candidate and baseline and int(other) > int(number):
                    yield pair_evidence(candidate, baseline, alias)


def _model_names(versions: Sequence[Evidence]) -> dict[str, str]:
    names: dict[str, list[str]] = {}
    for version in versions:
        for run in version.members["training_run"]:
            names.setdefault(run.subject.key, []).append(version.subject.label)
    return {run_id: ", ".join(labels) for run_id, labels in names.items()}


def _selection(store: Store, query: Query, read: _Read) -> Selection:
    starts = [start for run in read.runs if (start := moment_of(run, "run.start_time"))]
    return Selection(
        store=store.shown,
        experiments=query.experiments,
        filter=query.filter,
        models=query.models,
        runs_selected=len(read.runs) + len(read.running),
        runs_read=len(read.runs),
        failed_to_read=tuple((run_id, "still running") for run_id in read.running),
        earliest=min(starts, default=None),
        latest=max(starts, default=None),
    )
