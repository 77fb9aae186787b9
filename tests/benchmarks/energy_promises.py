"""What holds whatever happens: ranks counted once, energy kept through kill -9, no exception under faults."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient

from mlflow_carbon.energy.nvml import Nvml
from tests.fakes.faults import faulty_runs, is_sound
from tests.fakes.gpus import Gpu, Rig, write_scenario

if TYPE_CHECKING:
    from tests.benchmarks.bench_energy import Bench

UUID = "GPU-00000000-0000-0000-0000-000000000000"
NAMES = {"mlflow-run": "mlflow-carbon", "mlflow": "MLflow system metrics"}


def ranks(bench: Bench) -> list[str]:
    """Eight processes side by side on one host, through ten seconds of load: what they say together."""
    tools = ("mlflow-run", "codecarbon", "zeus", "carbontracker")
    return [
        "| tool | GPU energy of 8 ranks, sum over the truth |",
        "|---|---|",
        *(f"| {NAMES.get(tool, tool)} | {_ranks(bench, tool)} |" for tool in tools),
    ]


def _ranks(bench: Bench, tool: str) -> str:
    # Nothing, then ten seconds of load, then nothing: how long a tool starts and stops makes no difference.
    gpu, start_ns = Gpu(uuid=UUID, idle_w=0, peak_w=300, period_s=20, duty=0.5), time.monotonic_ns()
    scenario = bench.folder / f"ranks-{tool}.txt"
    write_scenario(scenario, [gpu], start_ns=start_ns)
    go = bench.folder / f"go-{tool}"
    store = f"sqlite:///{bench.folder}/ranks.db"
    environment = {"CUDA_VISIBLE_DEVICES": "0"}
    client: Any = None
    if tool == "mlflow-run":
        client = MlflowClient(store)
        run_id = client.create_run("0").info.run_id
        environment |= {"MLFLOW_RUN_ID": run_id, "MLFLOW_CARBON_ENABLED": "true"}
        environment |= {"XDG_STATE_HOME": str(bench.folder / "ranks")}

    def one(number: int) -> dict[str, Any]:
        ready = bench.folder / f"ready-{tool}-{number}"
        job = {"kind": "rank", "seconds": 20.0, "go": str(go), "ready": str(ready), "store": store}
        return bench.run(tool, job, scenario, **environment)

    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(one, range(8))
        until_s = time.monotonic() + 200
        while time.monotonic() < until_s and len(list(bench.folder.glob(f"ready-{tool}-*"))) < 8:
            time.sleep(0.2)
        into_s = (time.monotonic_ns() - start_ns) / 1e9 % gpu.period_s
        time.sleep((gpu.period_s * gpu.duty + 1 - into_s) % gpu.period_s)  # just after a load
        go.touch()
        results = list(answers)
    if bad := [r["error"] for r in results if "error" in r]:
        return f"error: {bad[0][:80]}"
    said_j = sum(r["answer"]["joules"] or 0 for r in results)
    if client is not None:
        said_j = client.get_run(run_id).data.metrics["carbon/gpu_energy_kwh"] * 3.6e6
    return f"{said_j / (gpu.peak_w * gpu.period_s * gpu.duty):.3f}x"


def killed(bench: Bench) -> list[str]:
    """kill -9 after half a minute and after seven: how much of the run is lost once all is recovered."""
    rows = ["| tool | killed after | kept | lost |", "|---|---|---|---|"]
    with ThreadPoolExecutor(3) as pool:
        jobs = [("mlflow-run", 32.0), ("mlflow-run", 420.0), ("mlflow", 32.0), ("codecarbon", 32.0)]
        return rows + list(pool.map(lambda job: _killed(bench, *job), jobs))


def _killed(bench: Bench, tool: str, seconds: float) -> str:
    gpu = Gpu(uuid=UUID, idle_w=300, peak_w=300)
    name = f"killed-{tool}-{seconds:g}"
    scenario = bench.folder / f"{name}.txt"
    write_scenario(scenario, [gpu], start_ns=time.monotonic_ns())
    store, go = f"sqlite:///{bench.folder}/{name}.db", bench.folder / f"{name}.go"
    go.touch()
    ready = bench.folder / f"{name}.ready"
    job = {"kind": "rank", "seconds": 1e6, "go": str(go), "ready": str(ready), "store": store}
    state = {"XDG_STATE_HOME": str(bench.folder / name), "CUDA_VISIBLE_DEVICES": "0"}
    on = "true" if tool == "mlflow-run" else "false"
    # The time counts from the tool's start, which is its own run's in the store.
    answer = bench.run(
        tool, {**job, "patience_s": seconds + 15}, scenario, MLFLOW_CARBON_ENABLED=on, **state
    )
    ended_ms = time.time_ns() / 1e6
    if tool == "codecarbon":
        kept = list(Path(answer["folder"]).rglob("emissions*.csv"))
        return f"| CodeCarbon | {seconds:g} s | {len(kept)} files | {'all' if not kept else '?'} |"
    place = {k: v for k, v in os.environ.items() if "MLFLOW" not in k}
    command = [sys.executable, "-m", "mlflow_carbon.cli", "recover", "--tracking-uri", store]
    if tool == "mlflow-run":
        subprocess.run(command, env={**place, **state}, check=True, capture_output=True)

    client = MlflowClient(store)
    (run,) = client.search_runs(["0"])
    whole_s = (ended_ms - run.info.start_time) / 1e3
    kept_s = run.data.metrics.get("carbon/duration_s", 0.0)
    if tool == "mlflow":
        points = client.get_metric_history(run.info.run_id, "system/gpu_0_power_usage_watts")
        kept_s = (
            max((p.timestamp for p in points), default=run.info.start_time) - run.info.start_time
        ) / 1e3
    shown_name = (
        "MLflow run with mlflow-carbon" if tool == "mlflow-run" else "MLflow system metrics"
    )
    return f"| {shown_name} | {whole_s:.1f} s | {kept_s:.1f} s | {whole_s - kept_s:.1f} s |"


def soak(bench: Bench) -> list[str]:
    """The faults of the endurance test, ten times as many runs, other dice."""
    logging.disable(logging.CRITICAL)
    rig = Rig(bench.library, bench.folder)
    rig.play([Gpu()])
    began_s, unsound, total = time.process_time(), 0, 0
    for run in faulty_runs(rig, Nvml(), bench.folder / "soak", runs=100_000, seed=2026):
        total, unsound = total + 1, unsound + (not is_sound(run))
    return [
        "| runs | exceptions | figures without a label | CPU |",
        "|---|---|---|---|",
        f"| {total:,} | 0 | {unsound} | {time.process_time() - began_s:.0f} s |",
    ]
