"""One energy tool, driven as its users drive it; run by ``bench_energy.py`` in the tool's own environment.

Usage: ``python energy_tools.py TOOL JOB`` where JOB is JSON. Prints one JSON object: for each window
what the tool said (joules of ``component``; ``null``: it said nothing) and its true edges on the
monotonic clock, or for the job ``cost`` what it cost.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

J_PER_KWH = 3.6e6


class Ours:
    def __init__(self, job: dict[str, Any]) -> None:
        from mlflow_carbon.energy.discover import discover
        from mlflow_carbon.energy.sampler import Sampler
        from mlflow_carbon.settings import load

        found = discover(load(), Path("/"))
        self.sampler = Sampler(found.meters, found.unmeasured, found.drivers)
        self.sampler.open_drivers()
        self.component = job.get("component", "gpu")

    def start(self, name: str) -> None:
        self.sampler.open(name)

    def stop(self, name: str) -> dict[str, Any]:
        account = self.sampler.close(name)
        for part in account.components:
            if part.component.value == self.component:
                energy = part.attributed_j if self.component == "gpu" else part.boundary_j
                told = {"low": energy.low, "high": energy.high, "coverage": part.coverage}
                return {**told, "joules": energy.mid, "label": part.method.value}
        reasons = [p.reason for p in account.unmeasured if p.component.value == self.component]
        return {"joules": None, "label": f"unmeasured: {'; '.join(reasons)[:120]}"}


class CodeCarbon:
    def __init__(self, job: dict[str, Any]) -> None:
        from codecarbon import OfflineEmissionsTracker

        self.make = lambda: OfflineEmissionsTracker(
            country_iso_code="FRA",
            measure_power_secs=job.get("period_s", 15),
            save_to_file=False,
            log_level="critical",
            allow_multiple_runs=True,
        )
        self.component = job.get("component", "gpu")
        self.trackers: dict[str, Any] = {}

    def start(self, name: str) -> None:
        self.trackers[name] = self.make()
        self.trackers[name].start()

    def stop(self, name: str) -> dict[str, Any]:
        tracker = self.trackers.pop(name)
        tracker.stop()
        energy = {"gpu": tracker._total_gpu_energy, "cpu": tracker._total_cpu_energy}
        return {"joules": energy[self.component].kWh * J_PER_KWH, "label": ""}


class Zeus:
    def __init__(self, job: dict[str, Any]) -> None:
        from zeus.monitor import ZeusMonitor

        self.monitor = ZeusMonitor()
        self.component = job.get("component", "gpu")

    def start(self, name: str) -> None:
        self.monitor.begin_window(name, sync_execution=False)

    def stop(self, name: str) -> dict[str, Any]:
        window = self.monitor.end_window(name, sync_execution=False)
        energy = {"gpu": window.gpu_energy, "cpu": window.cpu_energy}[self.component]
        return {"joules": None if energy is None else sum(energy.values()), "label": ""}


class CarbonTracker:
    def __init__(self, job: dict[str, Any]) -> None:
        from carbontracker.tracker import CarbonTracker as Tracker

        components = job.get("component", "gpu")
        self.make = lambda: Tracker(
            epochs=1, components=components, ignore_errors=True, verbose=0, epochs_before_pred=0
        )
        self.trackers: dict[str, Any] = {}

    def start(self, name: str) -> None:
        self.trackers[name] = self.make()
        self.trackers[name].epoch_start()

    def stop(self, name: str) -> dict[str, Any]:
        thread = self.trackers.pop(name).tracker
        thread.epoch_end()
        joules = float(thread.total_energy_per_epoch().sum()) * J_PER_KWH / 1.58  # less its PUE
        return {"joules": joules, "label": ""}


class Eco2AI:
    def __init__(self, job: dict[str, Any]) -> None:
        from eco2ai import Tracker

        self.make = lambda: Tracker(
            project_name="bench",
            experiment_description="bench",
            measure_period=10,
            alpha_2_code="FR",
        )
        self.trackers: dict[str, Any] = {}

    def start(self, name: str) -> None:
        self.trackers[name] = self.make()
        self.trackers[name].start()

    def stop(self, name: str) -> dict[str, Any]:
        tracker = self.trackers.pop(name)
        gpu = tracker._gpu
        tracker.stop()
        return {"joules": gpu._consumption * J_PER_KWH, "label": ""}


class MlflowMetrics:
    """MLflow's own system metrics: the mean of its power points times the time, as a user would."""

    def __init__(self, job: dict[str, Any]) -> None:
        import mlflow

        self.mlflow = mlflow
        mlflow.set_tracking_uri(job["store"])
        mlflow.set_system_metrics_sampling_interval(job.get("period_s", 10))

    def start(self, name: str) -> None:
        self.run = self.mlflow.start_run(nested=True, log_system_metrics=True)
        self.began = time.monotonic()

    def stop(self, name: str) -> dict[str, Any]:
        seconds = time.monotonic() - self.began
        self.mlflow.end_run()
        client = self.mlflow.MlflowClient()
        joules = 0.0
        for metric in client.get_run(self.run.info.run_id).data.metrics:
            if metric.startswith("system/gpu_") and metric.endswith("_power_usage_watts"):
                points = client.get_metric_history(self.run.info.run_id, metric)
                joules += sum(point.value for point in points) / len(points) * seconds
        return {"joules": joules or None, "label": "no point logged"}


class MlflowRun(MlflowMetrics):
    """An MLflow run as it is: with mlflow-carbon's plugin if that is switched on."""

    def start(self, name: str) -> None:
        self.run = self.mlflow.start_run(nested=True)
        print(f"run {self.run.info.run_id}", flush=True)

    def stop(self, name: str) -> dict[str, Any]:
        self.mlflow.end_run()
        return {"joules": None, "label": ""}


class Nothing:
    def __init__(self, job: dict[str, Any]) -> None:
        pass

    def start(self, name: str) -> None:
        pass

    def stop(self, name: str) -> dict[str, Any]:
        return {"joules": None, "label": ""}


TOOLS = {
    "mlflow-carbon": Ours,
    "codecarbon": CodeCarbon,
    "zeus": Zeus,
    "carbontracker": CarbonTracker,
    "eco2ai": Eco2AI,
    "mlflow": MlflowMetrics,
    "mlflow-run": MlflowRun,
    "nothing": Nothing,
}


def middles(edges: list[int]) -> tuple[float, float]:
    """A tool's window in ns: between the middles of its start and stop calls, or where they are long, their inner ends."""
    begin = (edges[0] + edges[1]) / 2 if edges[1] - edges[0] < 50e6 else edges[1]
    end = (edges[2] + edges[3]) / 2 if edges[3] - edges[2] < 50e6 else edges[2]
    return begin, end


def cpu_s() -> float:
    """CPU seconds of this process and of the children it has waited for."""
    return sum(
        resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def begin_scenario(tool: Any, job: dict[str, Any]) -> None:
    """Warm the tool up and let the rig's time begin now, so that its faults fall into the window."""
    if job.get("from_here"):
        tool.start("warm")
        time.sleep(0.5)
        tool.stop("warm")
        rig = ctypes.CDLL("libnvidia-ml.so.1")
        rig.fake_nvml_load(os.environ["FAKE_NVML"].encode())


def windows(tool: Any, job: dict[str, Any]) -> list[dict[str, Any]]:
    told = []
    begin_scenario(tool, job)
    for number, seconds in enumerate(job["windows"]):
        time.sleep(job.get("pause", 0.0371))
        before_ns = time.monotonic_ns()
        tool.start(str(number))
        began_ns = time.monotonic_ns()
        time.sleep(seconds)
        ended_ns = time.monotonic_ns()
        answer = tool.stop(str(number))
        edges = [before_ns, began_ns, ended_ns, time.monotonic_ns()]
        told.append({**answer, "edges": edges, "seconds": seconds})
    return told


def overlap(tool: Any, job: dict[str, Any]) -> list[dict[str, Any]]:
    seconds = job["seconds"]
    begin_scenario(tool, job)
    before_ns = time.monotonic_ns()
    for name in ("a", "b"):
        tool.start(name)
    began_ns = time.monotonic_ns()
    time.sleep(seconds)
    ended_ns = time.monotonic_ns()
    answers = [tool.stop(name) for name in ("b", "a")]
    said = [a["joules"] for a in answers]
    joules = None if None in said else sum(said)
    edges = [before_ns, began_ns, ended_ns, time.monotonic_ns()]
    return [{"joules": joules, "label": "", "edges": edges, "seconds": seconds}]


def rank(tool: Any, job: dict[str, Any]) -> dict[str, Any]:
    """One of several processes that work side by side from the moment the file ``go`` is there."""
    Path(job["ready"]).touch()
    while not Path(job["go"]).exists():
        time.sleep(0.05)
    tool.start("rank")
    time.sleep(job["seconds"])
    return dict(tool.stop("rank"))


def count_calls(seen: list[str]) -> None:
    """Note each attempt of this process to reach another machine."""

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        address: Any = None
        if event == "socket.getaddrinfo":
            address = arguments[0]
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            address = arguments[1][0]
        if address not in (None, "localhost", "127.0.0.1", "::1"):
            seen.append(str(address))

    sys.addaudithook(hear)


def cost(make: Any, job: dict[str, Any]) -> dict[str, Any]:
    """CPU milliseconds and megabytes; the main thread sleeps, so what is used is the tool's."""
    found: dict[str, Any] = {}
    called: list[str] = []
    count_calls(called)
    rss_before, mark = rss_mb(), cpu_s()
    tool = make(job)
    tool.start("first")
    found["first_start_cpu_ms"] = (cpu_s() - mark) * 1e3
    time.sleep(job.get("settle", 2))
    mark, clock = cpu_s(), time.monotonic()
    time.sleep(job["seconds"])
    found["background_percent"] = (cpu_s() - mark) / (time.monotonic() - clock) * 100
    clock = time.monotonic()
    tool.stop("first")
    found["stop_wall_ms"] = (time.monotonic() - clock) * 1e3
    later, stops = [], []
    for number in range(5):
        mark = cpu_s()
        tool.start(f"later {number}")
        later.append((cpu_s() - mark) * 1e3)
        time.sleep(0.3)
        clock = time.monotonic()
        tool.stop(f"later {number}")
        stops.append((time.monotonic() - clock) * 1e3)
    found["later_start_cpu_ms"], found["later_stop_wall_ms"] = sorted(later)[2], sorted(stops)[2]
    found["rss_mb"] = rss_mb() - rss_before
    found["network_calls"] = len(called)
    return found


def main() -> None:
    logging.disable(logging.CRITICAL)
    job = json.loads(sys.argv[2])
    make = TOOLS[sys.argv[1]]
    try:
        if job["kind"] == "cost":
            if job.get("warm"):
                __import__(job["warm"])
            answer: Any = cost(make, job)
        else:
            tool = make(job)
            answer = {"windows": windows, "overlap": overlap, "rank": rank}[job["kind"]](tool, job)
        text = json.dumps({"answer": answer})
    except (Exception, SystemExit) as error:  # noqa: BLE001 - what the tool does to its user is the result
        text = json.dumps({"error": f"{type(error).__name__}: {error}"[:300]})
    print(f"\n@@{text}", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
