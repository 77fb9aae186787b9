"""What the plugin adds to ``import mlflow``: alternating processes, armed and switched off, CPU seconds.
Writes its part of docs/benchmarks/tracking.md.

Run it: ``python tests/benchmarks/bench_import.py [rounds]``. The cost of the import itself varies by
more than the plugin's, so the plugin's own part is timed inside the process as well: loading the entry
point's module, as MLflow does, after everything else is loaded.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.pages import write_page

WHOLE = """
import json, resource
import mlflow
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps(used.ru_utime + used.ru_stime))
"""

PART = """
import json, sys, time
import mlflow
# MLflow has loaded the plugin already: take it out and load it again, as the first time.
ours = [name for name in sys.modules if name.partition(".")[0] == "mlflow_carbon"]
for name in ours:
    del sys.modules[name]
start = time.process_time()
import mlflow_carbon.tracking.plugin
print(json.dumps(time.process_time() - start))
"""


def cpu_s(source: str, enabled: str) -> float:
    env = os.environ | {"MLFLOW_CARBON_ENABLED": enabled, "MLFLOW_DISABLE_TELEMETRY": "true"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation has byte code
    done = subprocess.run(
        [sys.executable, "-c", source], env=env, capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    armed, off, part = [], [], []
    cpu_s(WHOLE, "true")
    for turn in range(rounds):
        for enabled, figures in (("true", armed), ("false", off))[:: 1 if turn % 2 else -1]:
            figures.append(cpu_s(WHOLE, enabled))
        part.append(cpu_s(PART, "true"))
    table = [
        f"MLflow {version('mlflow')}, medians of {rounds} rounds.",
        "",
        "| | CPU |",
        "|---|---|",
        f"| `import mlflow`, switched off | {statistics.median(off):.3f} s |",
        f"| `import mlflow`, plugin armed | {statistics.median(armed):.3f} s |",
        f"| spread of the same thing measured again (switched off) | {(max(off) - min(off)) * 1e3:.0f} ms |",
        f"| the plugin's module and the arming alone (target 5 ms) | {statistics.median(part) * 1e3:.2f} ms |",
    ]
    write_page("tracking", ("import", "runs"), {"import": table})
    print("\n".join(table))


if __name__ == "__main__":
    main()
