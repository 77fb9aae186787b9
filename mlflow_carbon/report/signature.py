"""The signature over an audit's report: one envelope that names every file by its SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.policy.model import State
from mlflow_carbon.signing import statement
from mlflow_carbon.signing.keys import SigningKey
from mlflow_carbon.signing.trust import Trust

ENVELOPE = "report.dsse.json"
"""Beside the files it is over."""


@dataclass(frozen=True, slots=True)
class ReportCheck:
    """``state``: unchanged | changed | unsigned | doubtful."""

    file: Path
    sha256: str
    state: str
    by: str = ""
    at: datetime | None = None
    reason: str = ""


def sign_report(
    audit: Audit, files: Mapping[str, Path], key: SigningKey, folder: Path, now: datetime
) -> Path:
    """Write the envelope over the files and what the audit was of; returns its path."""
    counts = {state.value: sum(one.counts[state] for one in audit.rules) for state in State}
    said = {
        "as_of": audit.as_of.isoformat(),
        "policies": [
            {"id": pack.id, "version": pack.version, "sha256": pack.sha256} for pack in audit.packs
        ],
        "counts": counts,
        "tool": f"mlflow-carbon {audit.tool_version}",
    }
    subjects = {file.name: digest(file) for file in files.values()}
    path = folder / ENVELOPE
    path.write_text(statement.sign(statement.Kind.REPORT, subjects, said, key, now))
    return path


def check_report(file: Path, trust: Trust) -> ReportCheck:
    """Whether the file is the one that was signed; the envelope lies beside it."""
    sha256 = digest(file)
    try:
        envelope = file.with_name(ENVELOPE).read_bytes()
    except FileNotFoundError:
        return ReportCheck(file, sha256, "unsigned", reason=f"there is no {ENVELOPE} beside it")
    signed = statement.read(envelope, statement.Kind.REPORT, trust)
    by = signed.key.owner if signed.key else signed.key_id[:16]
    if signed.fault:
        return ReportCheck(file, sha256, "doubtful", by, signed.signed_at, signed.fault)
    known = signed.subjects.get(file.name)
    if known is None and sha256 not in signed.subjects.values():
        reason = "the signature is not over a file of this name"
        if file.name == ENVELOPE:
            reason = f"this is the signature: give a file that it is over, {', '.join(sorted(signed.subjects)[:3])}"
        return ReportCheck(file, sha256, "doubtful", by, signed.signed_at, reason)
    same = sha256 in signed.subjects.values()
    reason = "" if same else f"its SHA-256 is {sha256}, signed was {known}"
    return ReportCheck(
        file, sha256, "unchanged" if same else "changed", by, signed.signed_at, reason
    )


def digest(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
