"""What a PDF report of 200 findings over a million runs costs: CPU and memory of one process.

Run: ``python -m tests.benchmarks.bench_report``. Target: at most 30 s CPU and 600 MB.
The audit is made by hand, as the columnar engine hands it over: totals over all runs, the worst
findings and the runs that used most one by one.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.summary import Audit, RuleSummary
from mlflow_carbon.evidence.model import Subject, SubjectKind
from mlflow_carbon.policy.model import State
from mlflow_carbon.report.write import write_reports
from tests.report.sample import make_audit

RUNS = 1_000_000
FINDINGS = 200
LISTED_RUNS = 1_000


def large_audit() -> Audit:
    """Twenty rules over a million runs, 200 failures."""
    small = make_audit()
    failed = [finding for finding in small.findings if finding.state is State.FAIL]
    by_rule: dict[str, int] = {}
    findings: list[Finding] = []
    for number in range(FINDINGS):
        model = failed[number % len(failed)]
        run_id = f"{number:032x}"
        subject = Subject(SubjectKind.RUN, run_id, f"run-{number}")
        findings.append(replace(model, subject=subject))
        by_rule[model.rule_id] = by_rule.get(model.rule_id, 0) + 1
    rules = tuple(_over_all(summary, by_rule.get(summary.rule.id, 0)) for summary in small.rules)
    row = small.energy.rows[0]
    rows = tuple(replace(row, run_id=f"{n:032x}", name=f"run-{n}") for n in range(LISTED_RUNS))
    return replace(
        small,
        findings=tuple(findings),
        findings_left_out=RUNS * len(rules) - FINDINGS,
        rules=rules,
        energy=replace(
            small.energy, rows=rows, rows_left_out=RUNS - LISTED_RUNS, runs_counted=RUNS
        ),
        selection=replace(small.selection, runs_selected=RUNS, runs_read=RUNS, failed_to_read=()),
        seals=None,
    )


def _over_all(summary: RuleSummary, failed: int) -> RuleSummary:
    counts = dict.fromkeys(State, 0) | {State.PASS: RUNS - failed, State.FAIL: failed}
    return replace(summary, counts=counts)


def main() -> None:
    """Print CPU seconds and peak memory for each format, then for all."""
    audit = large_audit()
    peak_of = resource.RUSAGE_SELF
    for formats in (("html",), ("pdf",)):
        started = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            written = write_reports(audit, Path(folder), formats)
            size = sum(path.stat().st_size for path in written.values())
        cpu_s = time.process_time() - started
        unit = 1024 if sys.platform == "darwin" else 1
        peak_mb = resource.getrusage(peak_of).ru_maxrss / unit / 1024
        print(
            f"{formats[0]:<5} {cpu_s:6.1f} s CPU  {peak_mb:6.0f} MB peak  {size / 1e6:5.2f} MB file"
        )


if __name__ == "__main__":
    main()
