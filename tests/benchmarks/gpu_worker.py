"""Work for a real GPU, and what is read of it meanwhile; run by ``bench_gpu.py`` in processes of their own.

Usage: ``python gpu_worker.py JOB`` where JOB is JSON. Prints one line ``@@JSON``.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.energy_tools import TOOLS, Ours, cpu_s  # noqa: E402

SIDE = 8192
PERIOD_S, ON_S = 0.737, 0.3
LOADS = ("idle", "steady", "bursty")
"""Nothing; bf16 products one after the other; the same for 0.3 s of each 0.737 s."""


class Work:
    """Products of two random bf16 matrices."""

    def __init__(self) -> None:
        """Take the memory and warm up."""
        import torch

        self._torch = torch
        self._a, self._b = (
            torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2)
        )
        self._out = self._a @ self._b
        torch.cuda.synchronize()

    def until(self, end_s: float) -> int:
        """Multiply until then; how many products."""
        done = 0
        while time.monotonic() < end_s:
            for _ in range(4):
                self._torch.mm(self._a, self._b, out=self._out)
            self._torch.cuda.synchronize()
            done += 4
        return done

    def run(self, load: str, end_s: float, stop: Callable[[], bool] = lambda: False) -> None:
        """One of the loads."""
        while (now_s := time.monotonic()) < end_s and not stop():
            if load == "steady":
                self.until(min(end_s, now_s + 1))
            elif load == "bursty":
                self.until(min(end_s, now_s + ON_S))
                time.sleep(max(0.0, min(end_s, now_s + PERIOD_S) - time.monotonic()))
            else:
                time.sleep(min(0.5, end_s - now_s))


class OursWithoutCounter(Ours):
    """Our meter where a board has no energy counter: its power ten times a second."""

    def __init__(self, job: dict[str, Any]) -> None:
        """Hide the counter of the real board."""
        from mlflow_carbon.energy.gpu import GpuMeter
        from mlflow_carbon.energy.nvml import Nvml, NvmlDevice, list_gpus
        from mlflow_carbon.energy.sampler import Sampler

        class Hidden(NvmlDevice):
            def energy_j(self) -> float:
                raise OSError("left out")

        nvml = Nvml()
        self.sampler = Sampler([GpuMeter(Hidden(nvml, list_gpus(nvml)[0]))])
        self.component = "gpu"


ALL_TOOLS = {**TOOLS, "mlflow-carbon without counter": OursWithoutCounter}


def watch(job: dict[str, Any]) -> dict[str, Any]:
    """Note what the board says of itself until the file ``stop`` is there: the reference.

    Its buffer of power samples, fifty a second with their moments, is fetched twice a second: that takes 0.3 ms,
    and the energy counter 4 ms each time, which would make the tools wait if it were asked often.
    """
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    fields = [(pynvml.NVML_FI_DEV_POWER_INSTANT, 0), (pynvml.NVML_FI_DEV_POWER_AVERAGE, 0)]
    stop, out = Path(job["stop"]), Path(job["out"])
    wall_ns = time.time_ns() - time.monotonic_ns()
    newest_us, due_s = 0, 0.0
    with out.open("w") as file:
        while not stop.exists():
            told = pynvml.nvmlDeviceGetFieldValues(handle, fields)
            usage = pynvml.nvmlDeviceGetPowerUsage(handle)
            watts = [f.value.uiVal if f.nvmlReturn == 0 else -1 for f in told]
            file.write(f"power {time.monotonic_ns()} {watts[0]} {watts[1]} {usage}\n")
            if time.monotonic() >= due_s:
                due_s = time.monotonic() + job["counter_every_s"]
                before_ns = time.monotonic_ns()
                counter = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
                file.write(f"counter {(before_ns + time.monotonic_ns()) // 2} {counter}\n")
                with contextlib.suppress(pynvml.NVMLError):
                    _, samples = pynvml.nvmlDeviceGetSamples(
                        handle, pynvml.NVML_TOTAL_POWER_SAMPLES, newest_us
                    )
                    for sample in samples:
                        if sample.timeStamp > newest_us:
                            newest_us = sample.timeStamp
                            at_ns = newest_us * 1000 - wall_ns
                            file.write(f"sample {at_ns} {sample.sampleValue.uiVal}\n")
                Path(job["ready"]).touch()
            time.sleep(0.002)
    return {}


def calls(job: dict[str, Any]) -> dict[str, Any]:
    """Wall and CPU microseconds of each call that the meter makes."""
    import pynvml

    clock = time.perf_counter
    mark, cpu = clock(), time.process_time()
    pynvml.nvmlInit()
    found: dict[str, Any] = {
        "nvmlInit": [
            (clock() - mark) * 1e6,
            (clock() - mark) * 1e6,
            (time.process_time() - cpu) * 1e6,
        ]
    }
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    uuid = pynvml.nvmlDeviceGetUUID(handle)
    fields = [(pynvml.NVML_FI_DEV_POWER_INSTANT, 0)]
    for name, arguments in {
        "nvmlDeviceGetTotalEnergyConsumption": (handle,),
        "nvmlDeviceGetFieldValues": (handle, fields),
        "nvmlDeviceGetPowerUsage": (handle,),
        "nvmlDeviceGetComputeRunningProcesses": (handle,),
        "nvmlDeviceGetProcessUtilization": (handle, 0),
        "nvmlDeviceGetHandleByUUID": (uuid,),
    }.items():
        call = getattr(pynvml, name)
        walls, cpu = [], time.process_time()
        for _ in range(job["times"]):
            mark = clock()
            with contextlib.suppress(pynvml.NVMLError):  # refused calls cost as well
                call(*arguments)
            walls.append((clock() - mark) * 1e6)
        used = (time.process_time() - cpu) * 1e6 / job["times"]
        walls.sort()
        found[name] = [statistics.median(walls), walls[int(len(walls) * 0.99)], used]
    found["device"] = pynvml.nvmlDeviceGetName(handle)
    found["driver"] = pynvml.nvmlSystemGetDriverVersion()
    found["limit_w"] = pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000
    return found


def burn(job: dict[str, Any]) -> dict[str, Any]:
    """A load without a meter."""
    work = Work()
    Path(job["ready"]).touch()
    work.run(job["load"], time.monotonic() + job["seconds"])
    return {}


def attempt(answer: dict[str, Any], name: str, call: Callable[[], Any]) -> Any:
    """What the tool says, or ``None`` with a note of what it did to its user instead."""
    try:
        return call()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - what the tool does is the result
        answer["broken"][name] = f"{type(error).__name__}: {error}"[:100]
        return None


def measured(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Windows under one load after the other, each told by all the tools at once."""
    work, trouble = Work(), {"broken": {}}
    made = {name: attempt(trouble, name, lambda n=name: ALL_TOOLS[n](job)) for name in job["tools"]}
    answers = [trouble]
    for load, lengths in job["stages"]:
        ended = threading.Event()
        worker = threading.Thread(target=work.run, args=(load, 1e12, ended.is_set))
        worker.start()
        time.sleep(2)
        answers += [window(made, load, seconds) for seconds in lengths]
        ended.set()
        worker.join()
    return answers


def window(made: dict[str, Any], load: str, seconds: float) -> dict[str, Any]:
    edges: dict[str, list[int]] = {}
    answer: dict[str, Any] = {"load": load, "seconds": seconds, "edges": edges, "broken": {}}
    tools = {name: tool for name, tool in made.items() if tool is not None}
    for name, tool in tools.items():
        before_ns = time.monotonic_ns()
        attempt(answer, name, lambda t=tool: t.start("window"))
        edges[name] = [before_ns, time.monotonic_ns()]
    time.sleep(seconds)
    answer["tools"] = {}
    for name, tool in tools.items():
        before_ns = time.monotonic_ns()
        answer["tools"][name] = attempt(answer, name, lambda t=tool: t.stop("window"))
        edges[name] += [before_ns, time.monotonic_ns()]
    time.sleep(0.0371)
    return answer


def recorded(job: dict[str, Any]) -> dict[str, Any]:
    """An MLflow run around a load, as a user has it; with ``twice``, two runs side by side in the process."""
    import mlflow

    work = Work()
    client = mlflow.MlflowClient()
    Path(job["ready"]).touch()
    while not Path(job["go"]).exists():
        time.sleep(0.01)
    time.sleep(job["late_s"])
    began_ns = time.monotonic_ns()
    if job.get("twice"):
        runs = [client.create_run("0").info.run_id for _ in range(2)]
    else:
        runs = [mlflow.start_run().info.run_id]
    work.run(job["load"], time.monotonic() + job["seconds"])
    for run_id in runs:
        client.set_terminated(run_id)
    ended_ns = time.monotonic_ns()
    time.sleep(1)
    told = [client.get_run(run_id).data for run_id in runs]
    return {
        "edges": [began_ns, ended_ns],
        "metrics": [run.metrics for run in told],
        "tags": [{k: v for k, v in run.tags.items() if "carbon" in k} for run in told],
    }


def trained(job: dict[str, Any]) -> dict[str, Any]:
    """Steps of a small network with a log call each fifty; what a second of it takes."""
    import mlflow
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        *(torch.nn.Linear(1024, 1024) if n % 2 == 0 else torch.nn.ReLU() for n in range(9))
    ).cuda()
    optimizer = torch.optim.AdamW(net.parameters())
    x, y = (torch.randn(512, 1024, device="cuda") for _ in range(2))
    mlflow.set_experiment("bench")

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    for _ in range(50):
        step()
    found = {}
    mark = cpu_s()
    with mlflow.start_run():
        found["start_cpu_ms"] = (cpu_s() - mark) * 1e3
        time.sleep(2)
        mark, clock = cpu_s(), time.monotonic()
        time.sleep(job["asleep_s"])
        found["background_percent"] = (cpu_s() - mark) / (time.monotonic() - clock) * 100
        done, clock = 0, time.monotonic()
        while time.monotonic() - clock < job["seconds"]:
            loss = step()
            done += 1
            if done % 50 == 0:
                mlflow.log_metric("loss", loss, step=done)
        found["steps_per_s"] = done / (time.monotonic() - clock)
    return found


def main() -> None:
    job = json.loads(sys.argv[1])
    kinds = (watch, calls, burn, measured, recorded, trained)
    answer = {kind.__name__: kind for kind in kinds}[job["kind"]](job)
    print(f"\n@@{json.dumps(answer)}", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
