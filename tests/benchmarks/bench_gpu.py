"""The NVML path on a real NVIDIA GPU, beside the peers that are installed: writes docs/benchmarks/gpu.md.

Run it: ``python tests/benchmarks/bench_gpu.py [PART ...]`` with a Python that has PyTorch with CUDA, MLflow and
mlflow-carbon, and CodeCarbon and Zeus where they are to be compared. Nobody else may use the GPU meanwhile.
Parts: calls, counter, loads, together, cost (default: all; about five minutes).
"""

from __future__ import annotations

import bisect
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.energy_tools import middles  # noqa: E402
from tests.benchmarks.gpu_worker import LOADS  # noqa: E402
from tests.benchmarks.pages import write_page  # noqa: E402

WORKER = Path(__file__).with_name("gpu_worker.py")
PEERS = ("codecarbon", "zeus")
TURNS = 1


class Bench:
    """A folder, and processes in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    def path(self, name: str) -> Path:
        self._count += 1
        return self.folder / f"{name}-{self._count}"

    def start(self, kind: str, job: dict[str, Any], **environment: str) -> subprocess.Popen[str]:
        work = self.path(kind)
        work.mkdir()
        place = {k: v for k, v in os.environ.items() if "MLFLOW" not in k}
        place |= {
            "MLFLOW_CARBON_ENABLED": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_TRACKING_URI": f"sqlite:///{work}/store.db",
            "XDG_STATE_HOME": str(work),
        }
        with (work / "said").open("w") as said:
            process = subprocess.Popen(
                [
                    sys.executable,
                    str(WORKER),
                    json.dumps({"kind": kind, "store": f"sqlite:///{work}/store.db", **job}),
                ],
                env=place | environment,
                cwd=work,
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
            )
        process.said = work / "said"  # type: ignore[attr-defined]
        return process

    def end(self, process: subprocess.Popen[str], patience_s: float = 180) -> Any:
        try:
            process.wait(patience_s)
        finally:
            process.kill()
        lines = process.said.read_text(errors="replace").splitlines()  # type: ignore[attr-defined]
        for line in lines:
            if line.startswith("@@"):
                return json.loads(line[2:])
        raise RuntimeError(f"exit code {process.returncode}: {lines[-12:]}")

    @contextmanager
    def watched(self, counter_every_s: float = 0.5) -> Iterator[Watch]:
        """The board's own figures, read by another process meanwhile."""
        watch = Watch(self.path("watch"))
        ready, stop = self.path("ready"), self.path("stop")
        job = {
            "ready": str(ready),
            "stop": str(stop),
            "out": str(watch.file),
            "counter_every_s": counter_every_s,
        }
        process = self.start("watch", job)
        wait_for(ready, process)
        try:
            yield watch
            time.sleep(1)  # for the samples of the last moments
        finally:
            stop.touch()
            self.end(process)
        watch.read()


class Watch:
    """What was read of the board, with the moments: power and the energy counter."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> None:
        rows: dict[str, list[list[float]]] = {"power": [], "counter": [], "sample": []}
        for line in self.file.read_text().splitlines():
            kind, *numbers = line.split()
            rows[kind].append([float(number) for number in numbers])
        self.polled = rows["power"]
        self.counter = [(at / 1e9, mj / 1e3) for at, mj in rows["counter"]]
        self.samples = [(at / 1e9, mw / 1e3) for at, mw in rows["sample"]]
        self.at_s, self.power_w = (list(column) for column in zip(*self.samples, strict=True))

    def integral_j(self, begin_s: float, end_s: float) -> float:
        """The power between two moments, by trapezoids."""
        inner = [point for point in self.samples if begin_s < point[0] < end_s]
        edges = [(at, interpolated(self.at_s, self.power_w, at)) for at in (begin_s, end_s)]
        points = [edges[0], *inner, edges[1]]
        return sum((t2 - t1) * (w1 + w2) / 2 for (t1, w1), (t2, w2) in pairwise(points))

    def counted_j(self) -> tuple[float, float, float]:
        """The counter between its first and last change, and the moments of these."""
        steps = self.steps()
        (begin_s, first), (end_s, last) = steps[0], steps[-1]
        return last - first, begin_s, end_s

    def steps(self) -> list[tuple[float, float]]:
        """When the counter changed and to what."""
        return [new for old, new in pairwise(self.counter) if new[1] != old[1]]


def interpolated(xs: list[float], ys: list[float], x: float) -> float:
    right = min(max(bisect.bisect_right(xs, x), 1), len(xs) - 1)
    (x1, x2), (y1, y2) = xs[right - 1 : right + 1], ys[right - 1 : right + 1]
    return y1 + (y2 - y1) * (x - x1) / (x2 - x1)


def wait_for(path: Path, process: subprocess.Popen[str], patience_s: float = 90) -> None:
    until_s = time.monotonic() + patience_s
    while not path.exists():
        if process.poll() is not None or time.monotonic() > until_s:
            said = process.said.read_text(errors="replace")  # type: ignore[attr-defined]
            raise RuntimeError(f"a process did not get ready: {said[-1500:]}")
        time.sleep(0.01)


def calls(bench: Bench) -> list[str]:
    """What each NVML call takes, with an idle board and a busy one."""
    idle = bench.end(bench.start("calls", {"times": 300}))
    ready = bench.path("ready")
    load = bench.start("burn", {"load": "steady", "seconds": 12, "ready": str(ready)})
    wait_for(ready, load)
    busy = bench.end(bench.start("calls", {"times": 300}))
    bench.end(load)
    rows = [
        f"{idle.pop('device')}, driver {idle.pop('driver')}, power limit {idle.pop('limit_w'):.0f} W.",
        "",
        "| call | idle: median | 99th percentile | CPU | busy: median | 99th percentile | CPU |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (median, high, used) in idle.items():
        cells = [f"{us:,.0f} us" for us in (median, high, used, *busy[name])]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return rows


def counter(bench: Bench) -> list[str]:
    """How often the board renews what it tells."""
    ready = bench.path("ready")
    load = bench.start("burn", {"load": "bursty", "seconds": 10, "ready": str(ready)})
    wait_for(ready, load)
    with bench.watched(counter_every_s=0.0) as watch:
        time.sleep(8)
    bench.end(load)
    told = {
        "energy counter": [t for t, _ in watch.steps()],
        "buffer of power samples": watch.at_s,
    }
    names = (
        "power of the moment (field 186)",
        "mean power (field 185)",
        "`nvmlDeviceGetPowerUsage`",
    )
    for column, name in enumerate(names, 1):
        changes = [new for old, new in pairwise(watch.polled) if new[column] != old[column]]
        told[name] = [change[0] / 1e9 for change in changes]
    rows = ["| | renewals in 8 s | time between them: median | longest |", "|---|---|---|---|"]
    for name, moments in told.items():
        apart = [b - a for a, b in pairwise(moments)]
        rows.append(
            f"| {name} | {len(moments)} | {statistics.median(apart) * 1e3:.0f} ms | {max(apart) * 1e3:.0f} ms |"
            if apart
            else f"| {name} | none | | |"
        )
    return rows


def window_s(edges: list[int]) -> tuple[float, float]:
    begin_ns, end_ns = middles(edges)
    return begin_ns / 1e9, end_ns / 1e9


def tools() -> list[str]:
    found = [name for name in PEERS if importlib.util.find_spec(name)]
    return ["mlflow-carbon", "mlflow-carbon without counter", *found]


def loads(bench: Bench) -> list[str]:
    """Energy under each load, then short windows under the bursty one, against integrated power."""
    names = tools()
    long = [(load, [8.0]) for load in LOADS]
    short = ("bursty", [0.25] * 12 + [1.0] * 12 + [5.0] * 3)
    with bench.watched() as watch:
        job = {"stages": [*long, short], "tools": names, "period_s": 1}
        trouble, *found = bench.end(bench.start("measured", job))
    counted, *between = watch.counted_j()
    all_j = watch.integral_j(*between)
    rows = [
        f"The counter over all of it: {counted:,.0f} J, the integrated power {all_j:,.0f} J ({(counted / all_j - 1) * 100:+.2f} %).",
        "",
        f"| 8 s of | integrated power | mean power | {' | '.join(names)} | our range |",
        f"|---|---|---|{'---|' * (len(names) + 1)}",
    ]
    for answer in found[: len(LOADS)]:
        begin, end = window_s(answer["edges"]["mlflow-carbon"])
        truth = watch.integral_j(begin, end)
        cells = [error_of(watch, answer, name, trouble["broken"]) for name in names]
        told = answer["tools"]["mlflow-carbon"]
        inside = "holds" if told["low"] <= truth <= told["high"] else "does NOT hold"
        rows.append(
            f"| {answer['load']} | {truth:,.0f} J | {truth / (end - begin):.0f} W "
            f"| {' | '.join(cells)} | {told['low']:,.0f} to {told['high']:,.0f} J: {inside} it |"
        )
    windows = found[len(LOADS) :]
    kinds = sorted(set(short[1]))
    rows += [
        "",
        "Windows under the bursty load, mean absolute difference from the integrated power:",
        "",
        f"| tool | {' | '.join(f'{length:g} s' for length in kinds)} | integrated power inside the range |",
        f"|---|{'---|' * (len(kinds) + 1)}",
    ]
    for name in names:
        if name in trouble["broken"]:
            rows.append(f"| {name} | {trouble['broken'][name]} | | | |")
            continue
        cells = [mean_error(watch, windows, name, length) for length in kinds]
        inside_of = [
            told["low"] <= watch.integral_j(*window_s(answer["edges"][name])) <= told["high"]
            for answer in windows
            if (told := answer["tools"][name]) and "low" in told
        ]
        held = f"{sum(inside_of)} of {len(inside_of)}" if inside_of else "no range"
        rows.append(f"| {name} | {' | '.join(cells)} | {held} |")
    return rows


def mean_error(watch: Watch, windows: list[dict[str, Any]], name: str, seconds: float) -> str:
    errors = []
    for answer in windows:
        told = answer["tools"][name]
        if answer["seconds"] == seconds and told and told["joules"] is not None:
            truth = watch.integral_j(*window_s(answer["edges"][name]))
            errors.append(abs(told["joules"] / truth - 1) * 100)
    return f"{statistics.mean(errors):.2g} %" if errors else "no figure"


def error_of(watch: Watch, answer: dict[str, Any], name: str, broken: dict[str, str]) -> str:
    told = answer["tools"].get(name)
    if told is None:
        return answer["broken"].get(name) or broken.get(name, "no answer")
    if told["joules"] is None:
        return str(told["label"])
    truth = watch.integral_j(*window_s(answer["edges"][name]))
    return f"{(told['joules'] / truth - 1) * 100:+.2f} %"


def together(bench: Bench) -> list[str]:
    """Two programs on one board, then two runs in one program: do the parts add up to the counter?"""
    rows = [
        "| what runs | GPU energy of each run | their sum | integrated power | ratio |",
        "|---|---|---|---|---|",
    ]
    pair = [("steady", 12.0, 0.0, False), ("bursty", 12.0, 0.0, False)]
    late = [("steady", 12.0, 0.0, False), ("steady", 6.0, 3.0, False)]
    for title, programs in {
        "a steady and a bursty program": pair,
        "two steady programs, the second for the middle 6 s": late,
        "two runs side by side in one program": [("steady", 6.0, 0.0, True)],
    }.items():
        go = bench.path("go")
        with bench.watched() as watch:
            processes, readies = [], []
            for load, seconds, late_s, twice in programs:
                ready = bench.path("ready")
                job = {
                    "load": load,
                    "seconds": seconds,
                    "late_s": late_s,
                    "twice": twice,
                    "go": str(go),
                }
                processes.append(
                    bench.start(
                        "recorded", {**job, "ready": str(ready)}, MLFLOW_CARBON_ENABLED="true"
                    )
                )
                readies.append(ready)
            for ready, process in zip(readies, processes, strict=True):
                wait_for(ready, process)
            time.sleep(1)
            go.touch()
            answers = [bench.end(process) for process in processes]
        begin = min(a["edges"][0] for a in answers) / 1e9
        end = max(a["edges"][1] for a in answers) / 1e9
        truth = watch.integral_j(begin, end)
        told = [
            m.get("carbon/gpu_energy_kwh", float("nan")) * 3.6e6
            for a in answers
            for m in a["metrics"]
        ]
        rows.append(
            f"| {title} | {', '.join(f'{j:,.0f} J' for j in told)} | {sum(told):,.0f} J | {truth:,.0f} J | {sum(told) / truth:.3f} |"
        )
    return rows


def cost(bench: Bench) -> list[str]:
    """Training speed and background CPU with and without us, in turn."""
    modes = {
        "MLflow alone": {},
        "+ mlflow-carbon": {"MLFLOW_CARBON_ENABLED": "true"},
        "+ MLflow's system metrics, 1 s": {
            "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true",
            "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "1",
        },
    }
    found: dict[str, list[dict[str, float]]] = {mode: [] for mode in modes}
    for turn in range(TURNS):
        for mode in list(modes)[:: -1 if turn % 2 else 1]:
            job = {"seconds": 4, "asleep_s": 6}
            found[mode].append(bench.end(bench.start("trained", job, **modes[mode])))
    rows = [
        "| | steps a second (each turn) | CPU while the program sleeps | run start |",
        "|---|---|---|---|",
    ]
    for mode, answers in found.items():
        speed = ", ".join(f"{a['steps_per_s']:.0f}" for a in answers)
        background = statistics.median(a["background_percent"] for a in answers)
        start = statistics.median(a["start_cpu_ms"] for a in answers)
        rows.append(f"| {mode} | {speed} | {background:.3f} % of a core | {start:.0f} ms CPU |")
    return rows


PARTS: tuple[Callable[[Bench], list[str]], ...] = (calls, counter, loads, together, cost)


def main() -> None:
    if not importlib.util.find_spec("torch"):
        print("bench_gpu.py is not run: this Python has no PyTorch")
        return
    wanted = [part for part in PARTS if part.__name__ in sys.argv[1:]] or PARTS
    tables = {}
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name))
        for part in wanted:
            mark = time.monotonic()
            try:
                tables[part.__name__] = part(bench)
            except Exception:  # noqa: BLE001 - the other parts are worth having
                traceback.print_exc()
                continue
            took_s = time.monotonic() - mark
            print(
                f"{part.__name__} ({took_s:.0f} s)\n" + "\n".join(tables[part.__name__]), flush=True
            )
    packages = ("torch", "mlflow", *(peer for peer in PEERS if importlib.util.find_spec(peer)))
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    write_page("gpu", [part.__name__ for part in PARTS], tables, versions=versions)


if __name__ == "__main__":
    main()
