"""What the gate adds to the registry's calls: guarded and bare stores side by side on one SQLite database.

Run it: ``python tests/benchmarks/bench_gate.py [runs] [rounds]`` (default 100,000 runs, 60 rounds; two
minutes). The version asked about has a training run with 20 tuning children. Rounds alternate between the
stores, and so does their order; figures are medians of single calls without HTTP. The target is at most
150 ms more for a protected decision and at most 2 % more for an unprotected call.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ |= {"MLFLOW_CARBON_ENABLED": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}

BATCH = 20
"""Calls timed together: one takes 2 ms."""

LINEAGE = """\
  - id: BEN-900
    title: The lineage is known
    severity: high
    scope: model_version
    rationale: To read the whole tree of runs.
    controls: [{ref: nist-ai-rmf/MANAGE-1.1, relation: informs}]
    assert: {lineage: runs, at_least: 1}
    finding: "No runs."
    remediation: Train again.
    does_not_show: Anything else.
"""
POLICY = """\
apiVersion: mlflow-carbon/v1
kind: PolicyPack
metadata: {id: bench, version: 1.0.0, title: Bench, owner: bench}
frameworks: [nist-ai-rmf@1.0]
gate: {aliases: [champion]}
rules:
"""
RULE = """\
  - id: BEN-%03d
    title: A fact is there
    severity: high
    scope: model_version
    rationale: To have something to decide.
    controls: [{ref: nist-ai-rmf/MANAGE-1.1, relation: informs}]
    assert: {metric: accuracy, at_least: 0.5}
    finding: "Accuracy is {metric:accuracy}."
    remediation: Train again.
    does_not_show: Anything else.
"""


def fill(path: Path, runs: int) -> None:
    """Runs of an experiment of their own, four in five of them children, with three tags and a metric each."""
    rows, tags, metrics = [], [], []
    parent = ""
    for number in range(runs):
        run_id = uuid.UUID(int=number + 1).hex
        rows.append((run_id, f"run-{number}", number, number + 1))
        if number % 5 == 0:
            parent = run_id
        else:
            tags.append(("mlflow.parentRunId", parent, run_id))
        tags += [("owner", "ana", run_id), ("mlflow.user", "ana", run_id)]
        metrics.append(("accuracy", 0.9, number, run_id))
    with sqlite3.connect(path) as database:
        database.executemany(
            "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status,"
            " start_time, end_time, source_version, lifecycle_stage, artifact_uri, experiment_id)"
            " VALUES (?, ?, 'LOCAL', '', '', 'ana', 'FINISHED', ?, ?, '', 'active', 'x', 0)",
            rows,
        )
        database.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", tags)
        database.executemany(
            "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)"
            " VALUES (?, ?, ?, 0, 0, ?)",
            metrics,
        )


def seed(uri: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(uri, uri)
    run = client.create_run("0")
    client.log_metric(run.info.run_id, "accuracy", 0.9)
    for _ in range(20):
        client.create_run("0", tags={"mlflow.parentRunId": run.info.run_id})
    client.create_registered_model("credit")
    client.create_model_version("credit", f"runs:/{run.info.run_id}/model", run.info.run_id)


@dataclass(frozen=True)
class Cost:
    wall_ms: float
    cpu_ms: float


def timed(store: Any, alias: str) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    store.set_registered_model_alias("credit", alias, "1")
    return Cost((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    print(
        f"{platform.python_version()}, MLflow {version('mlflow')}, SQLite, {runs} runs, {rounds} rounds"
    )
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), runs, rounds)


def measure(folder: Path, runs: int, rounds: int) -> None:
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    from mlflow_carbon.gate.registry import guard_store

    uri = f"sqlite:///{folder}/mlflow.db"
    os.environ["MLFLOW_CARBON_GATE_LEDGER"] = str(folder / "ledger.jsonl")
    seed(uri)
    fill(folder / "mlflow.db", runs)
    stores = {"bare": SqlAlchemyStore(uri)}
    rules = POLICY + "".join(RULE % number for number in range(1, 14))
    for name, text in (("13 rules", rules), ("with lineage", rules + LINEAGE)):
        policy = folder / f"{name}.yaml"
        policy.write_text(text)
        os.environ["MLFLOW_CARBON_GATE_POLICY"] = str(policy)
        stores[name] = guard_store(SqlAlchemyStore(uri), uri)
    unprotected(stores["bare"], stores["13 rules"], rounds)
    protected(stores, rounds)


def unprotected(bare: Any, guarded: Any, rounds: int) -> None:
    """CPU time of batches of calls, bare and guarded in turn; and the gate's own part of one call."""
    shares, costs = [], []
    for turn in range(rounds + 3):
        pair = dict.fromkeys((bare, guarded), 0.0)
        for store in (bare, guarded) if turn % 2 else (guarded, bare):
            before = time.process_time()
            for _ in range(BATCH):
                store.set_registered_model_alias("credit", "candidate", "1")
            pair[store] = (time.process_time() - before) / BATCH * 1e3
        if turn >= 3:  # the first ones load code and warm caches
            costs.append(pair[bare])
            shares.append(100 * (pair[guarded] / pair[bare] - 1))
    low, middle, high = statistics.quantiles(shares, n=4)
    own_us = own_part(guarded)
    bare_ms = statistics.median(costs)
    print(
        f"unprotected: bare {bare_ms:.2f} ms CPU; guarded {middle:+.1f} % in pairs of {BATCH} calls"
        f" (quartiles {low:+.1f} to {high:+.1f} %); the gate's own part {own_us:.0f} us,"
        f" {own_us / bare_ms / 10:.1f} % of the call"
    )


def own_part(guarded: Any) -> float:
    """Microseconds that the gate adds to one unprotected call, measured in front of a store that does nothing."""
    from mlflow_carbon.gate.registry import GateMixin

    class Nothing:
        def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
            pass

    class Guarded(GateMixin, Nothing):
        mlflow_carbon_keeper = guarded.mlflow_carbon_keeper

    figures = []
    for _ in range(30):
        taken = []
        for store in (Guarded(), Nothing()):
            before = time.process_time()
            for _ in range(500):
                store.set_registered_model_alias("credit", "candidate", "1")
            taken.append(time.process_time() - before)
        figures.append((taken[0] - taken[1]) / 500 * 1e6)
    return statistics.median(figures)


def protected(stores: dict[str, Any], rounds: int) -> None:
    taken: dict[str, list[Cost]] = {name: [] for name in stores}
    for turn in range(rounds + 3):
        for name in sorted(stores, reverse=bool(turn % 2)):
            cost = timed(stores[name], "champion")
            if turn >= 3:
                taken[name].append(cost)
    bare = statistics.median(cost.wall_ms for cost in taken["bare"])
    for name, costs in taken.items():
        wall = statistics.quantiles((cost.wall_ms for cost in costs), n=4)
        cpu = statistics.median(cost.cpu_ms for cost in costs)
        print(
            f"protected, {name:13} median {wall[1]:7.1f} ms wall (quartiles {wall[0]:.1f} to {wall[2]:.1f}),"
            f" {cpu:6.1f} ms CPU; {wall[1] - bare:+.1f} ms over bare"
        )


if __name__ == "__main__":
    main()
