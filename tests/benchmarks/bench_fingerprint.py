"""CPU time of one fingerprint beside what MLflow itself spends on the same frame, in one process and run.

Run: python tests/benchmarks/bench_fingerprint.py  (exit code 1 when the target is missed)
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from statistics import median

import mlflow
import numpy as np
import pandas as pd

from mlflow_carbon.datasets.examine import examine
from mlflow_carbon.datasets.fingerprint import fingerprint

ROWS, COLUMNS, ROUNDS = 1_000_000, 10, 3
TARGET_SHARE = 0.10
"""Of the CPU time of ``mlflow.data.from_pandas`` on 80 MB of float64."""


def cpu_s(work: Callable[[], object]) -> float:
    """Median CPU seconds of the process over some rounds, one more to warm up."""
    times = []
    for _ in range(ROUNDS + 1):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return median(times[1:])


def main() -> int:
    """Measure, print, and say whether the target was met."""
    warnings.simplefilter("ignore")
    random = np.random.default_rng(20261123)
    frame = pd.DataFrame(random.random((ROWS, COLUMNS)), columns=[f"c{i}" for i in range(COLUMNS)])
    text = pd.DataFrame({"text": [f"row {i} of the text column" for i in range(ROWS)]})
    limit = 2**31
    rows = [
        ("80 MB of float64", "MLflow from_pandas", cpu_s(lambda: mlflow.data.from_pandas(frame))),
        ("80 MB of float64", "fingerprint", cpu_s(lambda: fingerprint(frame, limit_bytes=limit))),
        (
            "80 MB of float64",
            "fingerprint, rows and counts",
            cpu_s(lambda: examine(frame, limit_bytes=limit)),
        ),
        ("1 M short texts", "MLflow from_pandas", cpu_s(lambda: mlflow.data.from_pandas(text))),
        ("1 M short texts", "fingerprint", cpu_s(lambda: fingerprint(text, limit_bytes=limit))),
        (
            "1 M short texts",
            "fingerprint, rows and counts",
            cpu_s(lambda: examine(text, limit_bytes=limit)),
        ),
    ]
    for data, what, seconds in rows:
        print(f"{data:18} {what:30} {seconds:7.3f} s CPU")
    share = rows[1][2] / rows[0][2]
    print(f"fingerprint / from_pandas: {share:.1%} (target: at most {TARGET_SHARE:.0%})")
    return int(share > TARGET_SHARE)


if __name__ == "__main__":
    sys.exit(main())
