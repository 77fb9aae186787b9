"""What a measured run costs, beside MLflow alone and MLflow with its own system metrics.

Run it: ``python tests/benchmarks/bench_tracking.py [rounds]``. Fresh processes in alternating order on a
SQLite store; CPU seconds of the whole process (all threads), so that other load on the machine matters little.
Writes its part of docs/benchmarks/tracking.md.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.pages import write_page

SYSTEM_METRICS = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
MODES = {
    "MLflow alone": {"MLFLOW_CARBON_ENABLED": "false"},
    "+ mlflow-carbon (1 s)": {"MLFLOW_CARBON_ENABLED": "true"},
    "+ system metrics (10 s)": {"MLFLOW_CARBON_ENABLED": "false", SYSTEM_METRICS: "true"},
    "+ system metrics (1 s)": {
        "MLFLOW_CARBON_ENABLED": "false",
        SYSTEM_METRICS: "true",
        "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "1",
    },
}
ROWS = {
    "import mlflow, CPU s": ("import", 3),
    "set_experiment and first run start, CPU ms": ("first_start", 1),
    "later run start, CPU ms": ("start", 2),
    "log_metric, CPU us": ("log", 0),
    "run end, CPU ms": ("end", 2),
    "one log_batch of the size of ours, CPU ms": ("batch", 2),
    "background, % of a core": ("background", 4),
    "the last run's own count of it (`carbon/measuring_cpu_s`), % of a core": ("told", 4),
    "memory at the end, MB": ("memory", 1),
}
TARGETS = (
    ("first run start, CPU ms", "50", "first_start", 1),
    ("later run start, CPU ms", "3", "start", 2),
    ("`log_metric`, CPU us", "nothing that can be seen", "log", 0),
    ("run end, CPU ms", "20 and one `log_batch`", "end", 2),
    ("background, % of a core", "0.05", "background", 4),
    ("memory, MB", "5", "memory", 1),
)

PROGRAM = """
import json, statistics, time
cpu = time.process_time
import mlflow
figures = {"import": cpu()}
from mlflow import MlflowClient
import mlflow.store.tracking.sqlalchemy_store, alembic.command, git

def run(logs):
    a = cpu(); mlflow.start_run(); b = cpu()
    for step in range(logs):
        mlflow.log_metric("x", step, step=step)
    c = cpu(); mlflow.end_run(); d = cpu()
    return (b - a) * 1e3, (c - b) / max(logs, 1) * 1e6, (d - c) * 1e3

a = cpu()
mlflow.set_experiment("bench")  # the first store access, at which our hooks are installed
figures["first_start"] = (cpu() - a) * 1e3 + run(1)[0]
runs = [run(50) for _ in range(15)]
for place, name in enumerate(("start", "log", "end")):
    figures[name] = statistics.median(r[place] for r in runs)
from mlflow.entities import Metric, Param, RunTag
def batch():
    run_id = client.create_run("1").info.run_id
    metrics = [Metric(f"m{i}", 0.1, 0, 0) for i in range(13)]
    tags = [RunTag(f"t{i}", "some words of a tag") for i in range(20)]
    a = cpu(); client._tracking_client.store.log_batch(run_id, metrics, [Param("p", "x" * 64)], tags)
    used = (cpu() - a) * 1e3
    client.set_terminated(run_id)  # left open, it would be measured in the background too
    return used
client = MlflowClient()
figures["batch"] = statistics.median(batch() for _ in range(15))
last = mlflow.start_run().info.run_id
time.sleep(3)
a, begin = cpu(), time.monotonic()
time.sleep(SECONDS)
figures["background"] = (cpu() - a) / (time.monotonic() - begin) * 100
mlflow.end_run()
told = client.get_run(last).data.metrics
if "carbon/measuring_cpu_s" in told:
    figures["told"] = told["carbon/measuring_cpu_s"] / told["carbon/duration_s"] * 100
status = open("/proc/self/status").read()
figures["memory"] = int(status.split("VmRSS:")[1].split()[0]) / 1024
print(json.dumps(figures))
"""


def one(folder: Path, changes: dict[str, str], seconds: int) -> dict[str, float]:
    store = folder / "run.db"
    shutil.copy(folder / "empty.db", store)
    left_out = ("MLFLOW", "PYTHONDONTWRITEBYTECODE")
    env = {k: v for k, v in os.environ.items() if not k.startswith(left_out)} | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{store}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "XDG_STATE_HOME": str(folder / "state"),
        **changes,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("SECONDS", str(seconds))],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 62
    found: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make = "from mlflow import MlflowClient; MlflowClient('sqlite:///empty.db').search_experiments()"
        subprocess.run([sys.executable, "-c", make], cwd=folder, check=True, capture_output=True)
        for changes in MODES.values():  # byte code is written, as an installation does
            one(folder, changes, 1)
        for turn in range(rounds):
            for mode in list(MODES)[:: -1 if turn % 2 else 1]:
                found[mode].append(one(folder, MODES[mode], seconds))
    table = [
        f"MLflow {version('mlflow')}, medians of {rounds} rounds, background over {seconds} s of a program that sleeps.",
        "",
        "| | " + " | ".join(MODES) + " |",
        "|---|" + "---|" * len(MODES),
    ]
    for row, (key, digits) in ROWS.items():
        cells = [_median([f[key] for f in found[mode] if key in f], digits) for mode in MODES]
        table.append(f"| {row} | " + " | ".join(cells) + " |")
    alone, ours = (found[mode] for mode in list(MODES)[:2])
    table += ["", "| mlflow-carbon adds | target | measured |", "|---|---|---|"]
    for what, target, key, digits in TARGETS:
        more = statistics.median(f[key] for f in ours) - statistics.median(f[key] for f in alone)
        table.append(f"| {what} | {target} | {more:.{digits}f} |")
    write_page("tracking", ("import", "runs"), {"runs": table})
    print("\n".join(table))


def _median(figures: list[float], digits: int) -> str:
    return f"{statistics.median(figures):.{digits}f}" if figures else "-"


if __name__ == "__main__":
    main()
