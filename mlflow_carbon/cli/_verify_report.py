"""The part of ``mlflow-carbon verify`` that is about reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_carbon.report.shown import shown, visible

if TYPE_CHECKING:
    from mlflow_carbon.evidence.history import PastAudit
    from mlflow_carbon.report.signature import ReportCheck
    from mlflow_carbon.signing.trust import Trust


def verify_reports(
    reports: tuple[Path, ...], trust: Trust, store: str | None, *, strict: bool, as_json: bool
) -> int:
    """Print what is known about each report; the exit code."""
    from mlflow_carbon.report.signature import check_report

    history = None
    if store is not None:
        from mlflow_carbon.evidence.history import History  # imports MLflow: some seconds

        history = History(store)
    codes = set()
    for file in reports:
        check = check_report(file, trust)
        past = history.recorded(file.name, check.sha256) if history else None
        if as_json:
            click.echo(json.dumps(_entry(check, past)))
        else:
            signed = f" since {shown(check.by, 60)} signed it on {check.at:%Y-%m-%d %H:%M} UTC" if check.at and check.state == "unchanged" else ""  # fmt: skip
            reason = f" ({visible(check.reason)})" if check.reason else ""
            click.echo(f"{check.state:<9} {shown(file.name, 80)}{signed}{reason}")
            if history:
                click.echo(f"          {_on_record(past)}")
        known = check.state == "unchanged" or past is not None
        codes.add(1 if check.state in ("changed", "doubtful") else 0 if known else 3)
    return 1 if 1 in codes else 3 if strict and 3 in codes else 0


def _entry(check: ReportCheck, past: PastAudit | None) -> dict[str, object]:
    return {
        "file": str(check.file),
        "sha256": check.sha256,
        "state": check.state,
        "signed_by": check.by or None,
        "signed_at": check.at.isoformat() if check.at else None,
        "reason": check.reason,
        "on_record": past.run_id if past else None,
    }


def _on_record(past: PastAudit | None) -> str:
    if past is None:
        return "no audit on record in the store has a report with this SHA-256"
    return f"on record in the store as the audit of {past.as_of:%Y-%m-%d %H:%M} UTC (run {past.run_id})"
