"""Error against the truth and cost, ours beside the peers', in one run: writes docs/benchmarks/energy.md.

Peers are installed into an environment of their own below the temporary folder. Needs gcc and, for the
processor part, root (a private mount in place of /sys/class/powercap). Takes about forty minutes,
most of them asleep. Parts: gpu_windows, gpu_faults, cpu_windows, costs, ranks, killed, soak (default: all).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.energy_promises import killed, ranks, soak  # noqa: E402
from tests.benchmarks.energy_tools import middles  # noqa: E402
from tests.benchmarks.pages import write_page  # noqa: E402
from tests.fakes.gpus import Gpu, build, write_scenario  # noqa: E402
from tests.fakes.powercap import Powercap  # noqa: E402

RUNNER = Path(__file__).with_name("energy_tools.py")
# Eco2AI 0.3.12 as it installs by itself fails at once: it imports pkg_resources, which setuptools dropped,
# and puts text into columns of numbers, which pandas 3 refuses. So it gets what it was written for.
PEERS = (
    "codecarbon==3.3.2",
    "zeus==0.16.0",
    "carbontracker==2.4.7",
    "eco2ai==0.3.12",
    "setuptools<81",
    "pandas<3",
)
TOOLS = ("mlflow-carbon", "codecarbon", "zeus", "carbontracker", "eco2ai", "mlflow")
SHORT = [0.05] * 6 + [0.25] * 6 + [1.0] * 16 + [5.0] * 6
LONG = [33.0]
LATER = {"warm": "mlflow", "settle": 305, "seconds": 60.0, "times": 1, "patience_s": 480}
UUIDS = [f"GPU-{n}0000000-0000-0000-0000-00000000000{n}" for n in range(4)]


class Bench:
    """Where things are, and how a tool is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = build(folder)
        self.peers = folder / "peers"
        uv = ROOT / ".venv/bin/uv"
        python = self.peers / "bin/python"
        # CodeCarbon looks for this command before it asks NVML.
        command = folder / "bin/nvidia-smi"
        command.parent.mkdir()
        command.write_text("#!/bin/sh\n")
        command.chmod(0o755)
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, self.peers], check=True)
        install = [uv, "pip", "install", "-q", "--compile-bytecode", "--python", python]
        subprocess.run([*install, *PEERS], check=True)

    def run(
        self, tool: str, job: dict[str, Any], scenario: Path | None = None, **environment: str
    ) -> dict[str, Any]:
        ours = tool in {"mlflow-carbon", "mlflow", "mlflow-run", "nothing"}
        python = Path(sys.executable) if ours else self.peers / "bin/python"
        work = Path(tempfile.mkdtemp(dir=self.folder))
        left_out = ("CUDA", "MLFLOW", "PYTHONDONTWRITEBYTECODE")
        place = {k: v for k, v in os.environ.items() if not any(part in k for part in left_out)}
        place |= {"MLFLOW_CARBON_ENABLED": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        if scenario is not None:
            place |= {"LD_LIBRARY_PATH": str(self.library.parent), "FAKE_NVML": str(scenario)}
        place["PATH"] = f"{self.folder}/bin:{place['PATH']}"
        job = {"store": f"sqlite:///{work}/store.db", **job}
        # Into a file: helper processes that a tool leaves behind would keep a pipe open.
        with (work / "said").open("w") as said:
            process = subprocess.Popen(
                [str(python), str(RUNNER), tool, json.dumps(job)],
                env={**place, "PYTHONPATH": str(ROOT) if ours else "", **environment},
                cwd=work,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait(job.get("patience_s", 240))
            except subprocess.TimeoutExpired:
                return {"error": "did not end in time", "folder": str(work)}
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        lines = (work / "said").read_text(errors="replace").splitlines()
        for line in lines:
            if line.startswith("@@"):
                answer: dict[str, Any] = json.loads(line[2:])
                return answer
        return {"error": f"exit code {process.returncode} {lines[-1:]}"[:200]}


def true_j(energy_j: Callable[[float], float], start_ns: int, edges: list[int]) -> float:
    """Between the middles of the tool's start call and of its stop call."""
    begin, end = middles(edges)
    return energy_j((end - start_ns) / 1e9) - energy_j((begin - start_ns) / 1e9)


def gpu_windows(bench: Bench) -> list[str]:
    """Mean absolute error per window length."""
    gpu, start_ns = Gpu(), time.monotonic_ns()
    scenario = bench.folder / "windows.txt"
    write_scenario(scenario, [gpu], start_ns=start_ns)
    lengths = sorted({*SHORT, *LONG})
    rows = [
        f"| tool | {' | '.join(f'{length:g} s' for length in lengths)} | truth inside the range |",
        f"|---|{'---|' * (len(lengths) + 1)}",
    ]

    def measure(tool: str) -> str:
        job = {"kind": "windows", "windows": SHORT + LONG}
        result = bench.run(tool, job, scenario, CUDA_VISIBLE_DEVICES="0")
        if "error" in result:
            return f"| {tool} | {' | '.join(['-'] * len(lengths))} | {result['error']} |"
        cells, inside = [], []
        for length in lengths:
            errors = []
            for window in result["answer"]:
                if window["seconds"] != length:
                    continue
                truth = true_j(gpu.energy_j, start_ns, window["edges"])
                said = window["joules"]
                errors.append(None if said is None else abs(said - truth) / truth * 100)
                if "low" in window:
                    inside.append(window["low"] <= truth <= window["high"])
            known = [error for error in errors if error is not None]
            cells.append(f"{statistics.mean(known):.2g} %" if known else "no figure")
        told = f"{sum(inside)} of {len(inside)}" if inside else "no range"
        return f"| {tool} | {' | '.join(cells)} | {told} |"

    with ThreadPoolExecutor(2) as pool:
        return rows + list(pool.map(measure, TOOLS))


def faults() -> dict[str, tuple[list[Gpu], list[str], dict[str, str], str]]:
    """Name -> GPUs, scenario lines, environment, kind of job. Steady 300 W, or 300 W each."""
    steady = Gpu(uuid=UUIDS[0], idle_w=300, peak_w=300)
    four = [Gpu(uuid=uuid, idle_w=300 + n, peak_w=300 + n) for n, uuid in enumerate(UUIDS)]
    return {
        "steady": ([steady], [], {}, "windows"),
        "counter set back": ([steady], ["fault 0 reset 8 1e9 0"], {}, "windows"),
        "counter jumps by 1 MJ": ([steady], ["fault 0 jump 8 1e9 1e6"], {}, "windows"),
        "counter stuck": ([steady], ["fault 0 stuck 2 1e9 0"], {}, "windows"),
        "no counter": (
            [Gpu(uuid=UUIDS[0], idle_w=300, peak_w=300, counter=False)],
            [],
            {},
            "windows",
        ),
        "no permission for 2 s": ([steady], ["fault 0 denied 6 8 0"], {}, "windows"),
        "GPU lost half way": ([steady], ["fault 0 lost 8 1e9 0"], {}, "windows"),
        "second of four, by index": (four, [], {"CUDA_VISIBLE_DEVICES": "1"}, "windows"),
        "second of four, by UUID": (four, [], {"CUDA_VISIBLE_DEVICES": UUIDS[1]}, "windows"),
        "four GPUs": (four, [], {}, "windows"),
        "no nvidia-smi command": ([steady], [], {"PATH": "/usr/bin:/bin"}, "windows"),
        "two runs at once (sum)": ([steady], [], {}, "overlap"),
    }


def gpu_faults(bench: Bench) -> list[str]:
    """Signed error over a window of 16 s; the fault comes some seconds into it."""
    cases = faults()
    pairs = [(name, tool) for name in cases for tool in TOOLS]
    with ThreadPoolExecutor(4) as pool:
        answers = dict(
            zip(pairs, pool.map(lambda pair: under_fault(bench, *pair), pairs), strict=True)
        )
    return [
        f"| scenario | {' | '.join(TOOLS)} |",
        f"|---|{'---|' * len(TOOLS)}",
        *(f"| {name} | {' | '.join(answers[name, tool] for tool in TOOLS)} |" for name in cases),
    ]


def under_fault(bench: Bench, name: str, tool: str) -> str:
    gpus, lines, environment, kind = faults()[name]
    scenario = bench.folder / f"{name}-{tool}.txt".replace(" ", "-")
    write_scenario(scenario, gpus, *lines, start_ns=-1)
    job = {"kind": kind, "windows": [16.0], "seconds": 16.0, "from_here": True}
    visible = {"CUDA_VISIBLE_DEVICES": ",".join(str(n) for n in range(len(gpus)))}
    result = bench.run(tool, job, scenario, **(visible | environment))
    if "error" in result:
        return f"error: {result['error'][:45]}"
    (window,) = result["answer"]
    watts = [gpus[1]] if name.startswith("second") else gpus
    truth = true_j(lambda t: sum(gpu.peak_w for gpu in watts) * t, 0, window["edges"])
    return shown(window, truth)


def shown(window: dict[str, Any], truth: float) -> str:
    """``+0.1 % (counter, coverage 100 %, in range)``."""
    if window["joules"] is None:
        return f"no figure ({window['label'][:80] or 'no reason'})"
    said = f"{(window['joules'] - truth) / truth * 100:+.1f} %"
    if "coverage" not in window:
        return said
    holds = "in range" if window["low"] <= truth <= window["high"] else "NOT in range"
    return f"{said} ({window['label']}, coverage {window['coverage']:.0%}, {holds})"


def cpu_windows(bench: Bench) -> list[str]:
    """Two sockets with memory and psys in a private mount; run by this script inside ``unshare``."""
    command = ["unshare", "-m", sys.executable, str(Path(__file__).resolve()), str(bench.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() or [f"Not run: {done.stderr.strip()[-200:]}"]


def inside_the_mount(folder: Path) -> None:
    """Put a tree with known counters in place of the system's and have the tools read it."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/sys/class"], check=True)
    bench = Bench.__new__(Bench)
    bench.folder, bench.library, bench.peers = (
        folder,
        folder / "libnvidia-ml.so.1",
        folder / "peers",
    )
    waves = [Gpu(idle_w=40, peak_w=160, period_s=0.9), Gpu(idle_w=45, peak_w=145, period_s=1.3)]
    tree, start_ns, stop = powercap(waves), time.monotonic_ns(), threading.Event()

    def write() -> None:
        while not stop.wait(0.005):
            tree.write((time.monotonic_ns() - start_ns) / 1e9)

    threading.Thread(target=write, daemon=True).start()

    def told(tool: str, job: dict[str, Any]) -> str:
        result = bench.run(tool, {"component": "cpu", **job})
        if "error" in result:
            return f"error: {result['error'][:60]}"
        (window,) = result["answer"]
        energy = true_j(lambda t: sum(w.energy_j(t) for w in waves), start_ns, window["edges"])
        return shown(window, energy)

    jobs: list[dict[str, Any]] = [
        {"kind": "windows", "windows": [5.0]},
        {"kind": "windows", "windows": [40.0]},
    ]
    print("| tool | 5 s | 40 s, through 2 wraps |\n|---|---|---|")
    for tool in ("mlflow-carbon", "codecarbon", "zeus", "carbontracker"):
        print(f"| {tool} | {' | '.join(told(tool, job) for job in jobs)} |", flush=True)
    stop.set()


def powercap(waves: list[Gpu]) -> Powercap:
    """As the kernel lays it out: the zones below ``intel-rapl``, links to all of them beside it."""
    tree = Powercap(Path("/"))
    home = "intel-rapl/intel-rapl"
    for n, wave in enumerate(waves):
        tree.zone(f"{home}:{n}", f"package-{n}", wave.energy_j, range_uj=2_000_000_000)
        tree.zone(f"{home}:{n}/intel-rapl:{n}:0", "dram", lambda t: 10 * t)
    tree.zone(f"{home}:2", "psys", lambda t: 500 * t)
    for zone in (*tree.folder.glob("*/intel-rapl:?"), *tree.folder.glob("*/*/intel-rapl:?:?")):
        (tree.folder / zone.name).symlink_to(zone)
    (tree.folder / "intel-rapl/subsystem").symlink_to(tree.folder)
    return tree


def costs(bench: Bench) -> list[str]:
    """One tool after the other, alone: CPU of the whole process while its main thread sleeps."""
    scenario = bench.folder / "cost.txt"
    write_scenario(scenario, [Gpu(uuid=u) for u in UUIDS], start_ns=time.monotonic_ns())
    given = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    on = {"MLFLOW_CARBON_ENABLED": "true", "XDG_STATE_HOME": str(bench.folder)}
    configurations: list[tuple[str, str, dict[str, Any], dict[str, str]]] = [
        ("the meters of mlflow-carbon alone, 1 s", "mlflow-carbon", {}, {}),
        ("CodeCarbon, 15 s (its default)", "codecarbon", {}, {}),
        ("CodeCarbon, 1 s", "codecarbon", {"period_s": 1}, {}),
        ("Zeus", "zeus", {}, {}),
        ("carbontracker, 1 s", "carbontracker", {}, {}),
        ("Eco2AI, 10 s", "eco2ai", {}, {}),
        ("MLflow run with mlflow-carbon, after five minutes", "mlflow-run", LATER, on),
        ("MLflow run, nothing measured", "mlflow-run", {"warm": "mlflow"}, {}),
        ("MLflow run with mlflow-carbon, 1 s", "mlflow-run", {"warm": "mlflow"}, on),
        ("MLflow run with system metrics, 10 s", "mlflow", {"warm": "mlflow"}, {}),
        ("MLflow run with system metrics, 1 s", "mlflow", {"warm": "mlflow", "period_s": 1}, {}),
    ]

    def row(configuration: tuple[str, str, dict[str, Any], dict[str, str]]) -> str:
        name, tool, job, environment = configuration
        job = {"kind": "cost", "seconds": 20.0, **job}
        bench.run(tool, {**job, "seconds": 1.0, "settle": 1}, scenario, **(given | environment))
        times = job.get("times", 3)
        results = [bench.run(tool, job, scenario, **(given | environment)) for _ in range(times)]
        good = [r["answer"] for r in results if "answer" in r]
        if not good:
            return f"| {name} | {results[0]['error'][:80]} | | | | | |"
        mid = {key: statistics.median(g[key] for g in good) for key in good[0]}
        return (
            f"| {name} | {mid['background_percent']:.3f} % | {mid['first_start_cpu_ms']:.0f} ms CPU "
            f"| {mid['later_start_cpu_ms']:.1f} ms CPU | {mid['later_stop_wall_ms']:.0f} ms "
            f"| {mid['rss_mb']:.1f} MB | {mid['network_calls']:.0f} |"
        )

    with ThreadPoolExecutor(2) as pool:
        return [
            "| configuration | background CPU | first start, with import | later start "
            "| end of run, wall | memory | attempts to reach another machine |",
            "|---|---|---|---|---|---|---|",
            *pool.map(row, configurations),
        ]


PARTS = (gpu_windows, gpu_faults, cpu_windows, costs, ranks, killed, soak)


def main() -> None:
    if Path(sys.argv[-1]).is_dir():
        inside_the_mount(Path(sys.argv[-1]))
        return
    wanted = [part for part in PARTS if part.__name__ in sys.argv[1:]] or PARTS
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name))
        # Side by side where tools sleep nearly all the time, but what load would change comes alone and first.
        tables = {part: part(bench) for part in (costs, gpu_windows) if part in wanted}
        others = [part for part in wanted if part not in tables]
        with ThreadPoolExecutor(max(1, len(others))) as pool:
            tables |= dict(zip(others, pool.map(lambda part: part(bench), others), strict=True))
    peers = ", ".join(p.replace("==", " ") for p in PEERS)
    measured = {part.__name__: table for part, table in tables.items()}
    print(write_page("energy", [part.__name__ for part in PARTS], measured, versions=peers))


if __name__ == "__main__":
    main()
