"""Every answer as one line of a table, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io

from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.report.shown import place, visible

COLUMNS = (
    "identity", "state", "underlying", "severity", "rule", "pack", "subject_kind", "subject_key",
    "subject_label", "message", "observed", "expected", "read_from", "controls", "remediation",
    "waiver", "written_at",
)  # fmt: skip

_FORMULA = ("=", "+", "-", "@")


def render(audit: Audit) -> bytes:
    """UTF-8 with a byte order mark, so that spreadsheets read it right; lines end as RFC 4180 says."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for finding in audit.findings:
        writer.writerow(map(cell, values(finding)))
    return out.getvalue().encode("utf-8-sig")


def values(finding: Finding) -> tuple[str, ...]:
    """One answer, in the order of ``COLUMNS``."""
    seen = finding.observations
    return (
        finding.identity,
        finding.state.value,
        finding.underlying.value if finding.underlying else "",
        finding.severity.value,
        finding.rule_id,
        finding.pack_id,
        finding.subject.kind.value,
        finding.subject.key,
        finding.subject.label,
        finding.message,
        "; ".join(f"{o.fact} = {'missing' if o.observed is None else o.observed}" for o in seen),
        "; ".join(f"{o.fact}: {o.expected}" for o in seen),
        "; ".join(o.read_from for o in seen),
        "; ".join(f"{r.framework}/{r.control} ({r.relation.value})" for r in finding.controls),
        finding.remediation,
        finding.waiver,
        place(finding.at),
    )


def cell(text: str) -> str:
    """A value that no spreadsheet takes for a formula: those get an apostrophe in front."""
    shown = visible(text)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown
