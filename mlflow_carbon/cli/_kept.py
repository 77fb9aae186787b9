"""``audit --incremental``: the last audit kept in a folder, used again while nothing has changed.

    kept.json        what was asked, of which state of the store
    report.json      the audit
    runs.parquet     one digest for each run (columns only)

Whatever is doubtful (another question, a file that was changed, an answer that depends on the date)
means a full audit.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow_carbon
from mlflow_carbon.audit.digests import RunChanges, run_changes
from mlflow_carbon.audit.run import run_audit
from mlflow_carbon.audit.select import AuditRequest, Progress
from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.errors import DataError, OutputError
from mlflow_carbon.evidence.mark import later_than, mark
from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.evidence.relational import TableStore
from mlflow_carbon.evidence.store import open_store
from mlflow_carbon.policy.about import pack_evidence
from mlflow_carbon.policy.compile import facts_of
from mlflow_carbon.policy.model import Compare, Condition, ForEach, Not, Pack
from mlflow_carbon.report.json import render
from mlflow_carbon.report.read import read_audit

_STATE, _REPORT, _RUNS = "kept.json", "report.json", "runs.parquet"


def incremental_audit(
    request: AuditRequest, as_of: datetime, folder: Path, progress: Progress
) -> tuple[Audit, str]:
    """The audit, which equals a full one, and what is to be said about how it came about.

    Raises:
        StoreError: the store cannot be read.
        OutputError: the folder cannot be written.
    """
    store = open_store(request.store, through_mlflow=request.engine == "plain")
    if not isinstance(store, TableStore) or _reads_files(request):
        return run_audit(request, as_of, progress), (
            "--incremental keeps nothing here: only databases and snapshots show cheaply whether they "
            "changed, and files of runs and models never do. Everything was read."
        )
    question, now = _question(request), mark(store, request.store)
    store.close()
    kept = _read(folder, question)
    if kept and kept["mark"] == now and (audit := _again(kept["audit"], request, as_of, kept)):
        return audit, f"Nothing was written to the store since {_when(kept)}: that audit holds."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
            digests = Path(partial) / _RUNS
            audit = run_audit(replace(request, digests_file=digests), as_of, progress)
            changes = _changes(folder, digests, kept)
            state = {"question": question, "mark": now, "later": _later(request, as_of)}
            _keep(folder, Path(partial), audit, state)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error}).") from None
    return audit, _told(kept, changes)


def _later(request: AuditRequest, as_of: datetime) -> bool:
    store = open_store(request.store)
    try:
        return not isinstance(store, TableStore) or later_than(store, as_of)
    finally:
        if isinstance(store, TableStore):
            store.close()


def _reads_files(request: AuditRequest) -> bool:
    facts = {
        fact for pack in request.packs for rule in pack.rules for fact in facts_of(rule.condition)
    }
    return request.seals is not None or bool(request.attestations) or "version.files" in facts


def _question(request: AuditRequest) -> str:
    """Digest of all that an answer depends on, besides the store and the date."""
    asked = [
        mlflow_carbon.__version__,
        request.store,
        repr(request.packs),
        repr(request.query),
        request.listed_findings,
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _read(folder: Path, question: str) -> dict[str, Any] | None:
    """What was kept, if it answers the same question and is as it was written."""
    try:
        state: dict[str, Any] = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        content = (folder / _REPORT).read_bytes()
        if state["question"] != question or state["sha256"] != hashlib.sha256(content).hexdigest():
            return None
        return {**state, "audit": read_audit(content, str(folder / _REPORT))}
    except (OSError, ValueError, KeyError, TypeError, DataError):
        return None


def _again(
    kept: Audit, request: AuditRequest, as_of: datetime, state: dict[str, Any]
) -> Audit | None:
    """The audit of then as of now, or ``None`` where the date may make a difference."""
    if state["later"] or request.findings_file or as_of < kept.as_of:
        return None
    asked = {(one.pack_id, one.rule.id) for one in kept.rules if one.subjects}
    if any(_dated(pack, asked, bool(kept.attestations)) for pack in request.packs):
        return None
    if any(_about(pack, kept.as_of) != _about(pack, as_of) for pack in request.packs):
        return None
    return replace(kept, as_of=as_of, command=request.command)


def _about(pack: Pack, as_of: datetime) -> object:
    """What rules about the pack itself may read; its age counts in days."""
    if not any(rule.scope is SubjectKind.POLICY for rule in pack.rules):
        return {}
    return {name: fact.value for name, fact in pack_evidence(pack, as_of).facts.items()}


def _dated(pack: Pack, asked: set[tuple[str, str]], attested: bool) -> bool:
    """Whether an answer may become another one with time; waivers and attestations expire."""
    return bool(pack.waivers) or any(
        (attested and rule.attest is not None) or _recent(rule.condition) or _recent(rule.when)
        for rule in pack.rules
        if (pack.id, rule.id) in asked
    )


def _recent(condition: Condition | None) -> bool:
    """Whether the condition asks how old something is."""
    if condition is None:
        return False
    if isinstance(condition, Compare):
        return condition.operator == "newer_than"
    if isinstance(condition, Not):
        return _recent(condition.part)
    if isinstance(condition, ForEach):
        return _recent(condition.condition) or _recent(condition.where)
    return any(map(_recent, condition.parts))


def _changes(folder: Path, digests: Path, kept: dict[str, Any] | None) -> RunChanges | None:
    earlier = folder / _RUNS
    if not kept or not digests.exists() or not earlier.exists():
        return None
    return run_changes(earlier, digests)


def _keep(folder: Path, partial: Path, audit: Audit, state: dict[str, Any]) -> None:
    """``kept.json`` comes last: without it, or with another report's digest, nothing is used."""
    content = render(audit)
    (partial / _REPORT).write_bytes(content)
    state = {**state, "sha256": hashlib.sha256(content).hexdigest()}
    (partial / _STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    (folder / _STATE).unlink(missing_ok=True)
    (folder / _RUNS).unlink(missing_ok=True)
    for name in (_REPORT, _RUNS, _STATE):
        if (partial / name).exists():
            shutil.move(partial / name, folder / name)


def _told(kept: dict[str, Any] | None, changes: RunChanges | None) -> str:
    if kept is None:
        return "No earlier audit of the same question is kept: everything was read."
    if changes is None:
        return f"Everything was read again; the audit of {_when(kept)} is replaced."
    lines: Sequence[str] = [
        f"Since {_when(kept)}: runs new: {changes.new}, edited after they were audited: {changes.edited}, "
        f"gone: {changes.gone}. Everything was read again.",
        *changes.examples,
    ]
    return "\n".join(lines)


def _when(kept: dict[str, Any]) -> str:
    return f"{kept['audit'].as_of:%Y-%m-%d %H:%M:%S} UTC"
