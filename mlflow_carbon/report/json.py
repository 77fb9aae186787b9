"""The whole audit as data; the format is ``templates/report/report.schema.json``.

Energy is in joules, emissions in grams, times are UTC. What is unknown is null.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from mlflow_carbon.audit.baseline import OPEN, Comparison
from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.power import PowerCurve
from mlflow_carbon.audit.summary import (
    Audit,
    DatasetRow,
    EnergyAccount,
    RuleSummary,
    RunEnergyRow,
    Selection,
)
from mlflow_carbon.evidence.model import Attestation
from mlflow_carbon.evidence.sealed import SealCheck
from mlflow_carbon.policy.model import Gate, Pack, State
from mlflow_carbon.report.shown import shown
from mlflow_carbon.resources import told
from mlflow_carbon.units import Range

SCHEMA_VERSION = "1.0"
SCHEMA_ID = "urn:mlflow-carbon:report:1.0"


def render(audit: Audit) -> bytes:
    """The audit as UTF-8 JSON, keys in a fixed order."""
    text = json.dumps(as_data(audit), ensure_ascii=False, indent=1, allow_nan=False)
    return text.encode("utf-8", errors="backslashreplace") + b"\n"


def as_data(audit: Audit) -> dict[str, Any]:
    """The audit as plain values."""
    return {
        "$schema": SCHEMA_ID,
        "schema_version": SCHEMA_VERSION,
        "as_of": _moment(audit.as_of),
        "tool": {
            "name": "mlflow-carbon",
            "version": audit.tool_version,
            "mlflow": audit.mlflow_version,
        },
        "command": audit.command,
        "selection": selection(audit.selection),
        "packs": [_pack(pack) for pack in audit.packs],
        "states": {state.value: audit.count(state) for state in State},
        "rules": [_rule(summary) for summary in audit.rules],
        "findings_left_out": audit.findings_left_out,
        "findings": [_finding(finding, audit) for finding in audit.findings],
        "energy": _energy(audit.energy),
        "datasets_left_out": audit.datasets_left_out,
        "datasets": [_dataset(row) for row in audit.datasets],
        "attestations": [_attestation(subject, given) for subject, given in audit.attestations],
        "unused_waivers": list(audit.unused_waivers),
        "change": _change(audit.change),
        "past": [
            {
                "as_of": _moment(past.as_of),
                "states": {s.value: past.counts.get(s, 0) for s in State},
            }
            for past in audit.past
        ],
        "power": [_power(curve) for curve in audit.power],
        "seals": None if audit.seals is None else [_seal(check) for check in audit.seals],
    }


def selection(chosen: Selection) -> dict[str, Any]:
    """What was asked for and what could be read, as every format that holds JSON tells it."""
    return {
        "store": chosen.store,
        "experiments": list(chosen.experiments),
        "filter": chosen.filter,
        "models": list(chosen.models),
        "since": _moment(chosen.since),
        "until": _moment(chosen.until),
        "workspace": chosen.workspace,
        "runs_selected": chosen.runs_selected,
        "runs_read": chosen.runs_read,
        "failed_to_read": [
            {"run_id": run, "reason": reason} for run, reason in chosen.failed_to_read
        ],
        "earliest": _moment(chosen.earliest),
        "latest": _moment(chosen.latest),
    }


def selection_words(chosen: Selection) -> dict[str, str]:
    """The same in words, for formats that hold only text: what was not asked for is left out."""
    told = selection(chosen)
    told["failed_to_read"] = len(chosen.failed_to_read)
    words = {
        key: ", ".join(value) if isinstance(value, list) else str(value)
        for key, value in told.items()
        if value is not None
    }
    return {key: shown(value).strip() for key, value in words.items() if value.strip()}


def _seal(check: SealCheck) -> dict[str, Any]:
    return {
        "run_id": check.run_id,
        "name": check.name,
        "seal": check.seal.value,
        "reason": check.reason,
        "changes": [asdict(change) for change in check.changes],
    }


def _power(curve: PowerCurve) -> dict[str, Any]:
    steps = [[step.at_s, step.low_w, step.mean_w, step.high_w] for step in curve.steps]
    return {"run_id": curve.run_id, "name": curve.name, "steps": steps}


def _gate(gate: Gate) -> dict[str, Any]:
    return {
        "aliases": list(gate.aliases),
        "stages": list(gate.stages),
        "models": list(gate.models),
        "blocks_at": gate.blocks_at.value,
    }


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def _range(value: Range | None) -> dict[str, float] | None:
    return None if value is None else {"low": value.low, "mid": value.mid, "high": value.high}


def _pack(pack: Pack) -> dict[str, Any]:
    return {
        "id": pack.id,
        "version": pack.version,
        "title": pack.title,
        "owner": pack.owner,
        "file": told(pack.file),
        "sha256": pack.sha256,
        "frameworks": list(pack.frameworks),
        "parameters": {name: given.value for name, given in pack.parameters.items()},
        "loosened": list(pack.loosened),
        "gate": None if pack.gate is None else _gate(pack.gate),
        "waivers": [
            {
                "id": waiver.id,
                "rules": list(waiver.rules),
                "reason": waiver.reason,
                "requested_by": waiver.requested_by,
                "approved_by": waiver.approved_by,
                "approved_on": waiver.approved_on.isoformat(),
                "expires": waiver.expires.isoformat(),
                "ticket": waiver.ticket,
                "compensating_control": waiver.compensating_control,
            }
            for waiver in pack.waivers
        ],
    }


def _rule(summary: RuleSummary) -> dict[str, Any]:
    rule = summary.rule
    return {
        "id": rule.id,
        "pack": summary.pack_id,
        "title": rule.title,
        "severity": rule.severity.value,
        "scope": rule.scope.value,
        "rationale": rule.rationale,
        "remediation": rule.remediation,
        "does_not_show": rule.does_not_show,
        "attest": None
        if rule.attest is None
        else {"statement": rule.attest.statement, "asks": rule.attest.asks},
        "controls": [
            {"framework": ref.framework, "control": ref.control, "relation": ref.relation.value}
            for ref in rule.controls
        ],
        "at": {"file": told(rule.at.file), "line": rule.at.line, "column": rule.at.column},
        "subjects": summary.subjects,
        "states": {state.value: summary.counts.get(state, 0) for state in State},
    }


def _finding(finding: Finding, audit: Audit) -> dict[str, Any]:
    return {
        "identity": finding.identity,
        "rule": finding.rule_id,
        "pack": finding.pack_id,
        "severity": finding.severity.value,
        "subject": {
            "kind": finding.subject.kind.value,
            "key": finding.subject.key,
            "label": finding.subject.label,
        },
        "state": finding.state.value,
        "underlying": None if finding.underlying is None else finding.underlying.value,
        "message": finding.message,
        "waiver": finding.waiver,
        **({"noted": True} if finding.noted else {}),
        "open_since": _moment(_open_since(finding, audit)),
        "observations": [
            {
                "fact": seen.fact,
                "expected": seen.expected,
                "observed": seen.observed,
                "read_from": seen.read_from,
                "line": seen.at.line,
            }
            for seen in finding.observations
        ],
    }


def _open_since(finding: Finding, audit: Audit) -> datetime | None:
    """By this audit or, where an earlier one was given, by that; ``None`` for what is not open."""
    if finding.state not in OPEN:
        return None
    if audit.change is None:
        return audit.as_of
    return audit.change.open_since.get(finding.identity, audit.as_of)


def _change(change: Comparison | None) -> dict[str, Any] | None:
    if change is None:
        return None
    return {
        "earlier": _moment(change.earlier),
        "new": len(change.new),
        "remaining": len(change.remaining),
        "resolved": change.resolved,
        "oldest": _moment(change.oldest),
        "complete": change.complete,
    }


def _energy(account: EnergyAccount) -> dict[str, Any]:
    return {
        "total_j": _range(account.total_j),
        "measured_j": account.measured_j,
        "modelled_j": account.modelled_j,
        "emissions_g": _range(account.emissions_g),
        "runs_counted": account.runs_counted,
        "runs_inside_counted": account.runs_inside_counted,
        "runs_unmeasured": account.runs_unmeasured,
        "failed_runs_j": account.failed_runs_j,
        "factors": list(account.factors),
        "measuring": None if account.measuring is None else asdict(account.measuring),
        "runs_left_out": account.rows_left_out,
        "runs": [_run(row) for row in account.rows],
    }


def _run(row: RunEnergyRow) -> dict[str, Any]:
    return {
        "run_id": row.run_id,
        "name": row.name,
        "experiment": row.experiment,
        "status": row.status,
        "parent_id": row.parent_id or None,
        "model_name": row.model_name or None,
        "start_time": _moment(row.start_time),
        "duration_s": row.duration_s,
        "energy_j": _range(row.energy_j),
        "gpu_j": row.gpu_j,
        "cpu_j": row.cpu_j,
        "dram_j": row.dram_j,
        "emissions_g": _range(row.emissions_g),
        "coverage": row.coverage,
        "method": row.method,
        "grade": row.grade,
        "region": row.region,
        "factor": row.factor,
        "quality": {name: value for name, value in row.quality.items() if math.isfinite(value)},
    }


def _dataset(row: DatasetRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "digest": row.digest,
        "sha256": row.sha256 or None,
        "hash_scope": row.hash_scope or None,
        "rows": row.rows,
        "license": row.license or None,
        "origin": row.origin or None,
        "sensitive": row.sensitive or None,
        "declared_by": row.declared_by or None,
        "contexts": list(row.contexts),
        "runs": row.runs,
        "source": row.source or None,
    }


def _attestation(subject: str, given: Attestation) -> dict[str, Any]:
    return {
        "subject": subject,
        "statement": given.statement,
        "by": given.by,
        "role": given.role,
        "made_at": _moment(given.made_at),
        "expires_at": _moment(given.expires_at),
        "reason": given.reason,
        "reference": given.reference or None,
    }
