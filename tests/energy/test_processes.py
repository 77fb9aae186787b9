"""Real processes with the rig as their driver: what the user's program sees of a bad day."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gpus import Gpu, write_scenario

HEAD = """
import json, logging, os, sys, time
from pathlib import Path
from mlflow_carbon.energy.discover import discover
from mlflow_carbon.energy.sampler import Sampler
from mlflow_carbon.settings import load

def shown(account):
    return {
        "seconds": account.duration_s,
        "unmeasured": [part.reason for part in account.unmeasured],
        **{
            part.component.value: [
                part.attributed_j.low, part.attributed_j.mid, part.attributed_j.high,
                part.boundary_j.mid, part.coverage, part.method.value, part.meters,
            ]
            for part in account.components
        },
    }

found = discover(load(), Path(sys.argv[1]))
sampler = Sampler(found.meters, found.unmeasured, found.drivers, period_s=0.1)
sampler.open_drivers(60)
"""
ONE_RUN = (
    HEAD
    + """
sampler.open("a")
time.sleep(float(sys.argv[2]))
began = time.monotonic()
account = sampler.close("a")
print(json.dumps({**shown(account), "closing": time.monotonic() - began, "hardware": found.hardware(sampler.meters)}))
"""
)
STEADY = [
    Gpu(uuid=f"GPU-{n}0000000-0000-0000-0000-000000000000", idle_w=200 + n, peak_w=200 + n)
    for n in range(3)
]


def run(
    script: str, library: Path, folder: Path, *more: str, seconds: float = 0.5, **environment: str
) -> dict[str, Any]:
    """The JSON that the script prints, with the rig in place of the driver."""
    scenario = folder / "scenario.txt"
    write_scenario(scenario, STEADY, *more, start_ns=-1)
    place = {"LD_LIBRARY_PATH": str(library.parent), "FAKE_NVML": str(scenario)}
    place = {key: value for key, value in os.environ.items() if "CUDA" not in key} | place
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(seconds)],
        env=place | environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return {**answer, "log": done.stderr}


ADDRESS = "0000:17:00.0"


def plug_in(root: Path) -> None:
    """An NVIDIA GPU on the bus."""
    device = root / "sys/bus/pci/devices" / ADDRESS
    device.mkdir(parents=True)
    (device / "class").write_text("0x030200\n")
    (device / "vendor").write_text("0x10de\n")


def test_only_the_gpus_given_to_the_process_are_measured(
    nvml_library: Path, tmp_path: Path
) -> None:
    told = run(ONE_RUN, nvml_library, tmp_path, CUDA_VISIBLE_DEVICES=f"{STEADY[2].uuid[:6]},0")
    low, _, high, boundary, _, method, meters = told["gpu"]
    assert low <= (202 + 200) * told["seconds"] <= high
    assert boundary == pytest.approx((202 + 200) * told["seconds"], rel=0.1)
    assert method == "counter"
    assert len(meters) == 2
    assert "2 x NVIDIA Rig" in told["hardware"]


def test_a_driver_call_that_takes_seconds_does_not_hold_up_the_end_of_the_run(
    nvml_library: Path, tmp_path: Path
) -> None:
    told = run(
        ONE_RUN,
        nvml_library,
        tmp_path,
        "fault 0 slow 0.7 99 5",
        seconds=1.5,
        CUDA_VISIBLE_DEVICES="0,1,2",
    )
    assert told["closing"] < 2.5  # a hung call takes 5 s; the bound is for a loaded machine
    low, _, high, *_ = told["gpu"]
    assert low <= 603 * told["seconds"] <= high


def test_a_driver_that_is_not_loaded_is_named_for_each_gpu_of_the_bus(
    nvml_library: Path, tmp_path: Path
) -> None:
    plug_in(tmp_path)
    told = run(ONE_RUN, nvml_library, tmp_path, "fault -1 driver")
    assert "gpu" not in told
    assert told["unmeasured"] == ["NVIDIA GPU 0000:17:00.0: NVML: Driver Not Loaded"]


def test_a_gpu_whose_library_refuses_is_modelled_where_the_kernel_driver_names_it(
    nvml_library: Path, tmp_path: Path
) -> None:
    plug_in(tmp_path)
    named = tmp_path / "proc/driver/nvidia/gpus" / ADDRESS
    named.mkdir(parents=True)
    (named / "information").write_text("Model: \t Tesla T4\nGPU UUID: GPU-1\nDevice Minor: 9999\n")
    told = run(ONE_RUN, nvml_library, tmp_path, "fault -1 driver")
    low, mid, _, boundary, _, method, meters = told["gpu"]
    assert (low, mid, method) == (0, 0, "modelled")  # no process of ours has it open
    assert 0 < boundary < 70 * told["seconds"]
    assert "Driver Not Loaded" in meters[0]
    assert told["hardware"].endswith("1 x Tesla T4")


def test_a_driver_that_does_not_list_its_gpus_is_unmeasured_though_the_bus_shows_none(
    nvml_library: Path, tmp_path: Path
) -> None:
    told = run(ONE_RUN, nvml_library, tmp_path, "fault -1 count")
    assert "gpu" not in told
    assert told["unmeasured"] == ["NVIDIA: nvmlDeviceGetCount: Unknown Error"]


def test_a_run_begins_and_ends_while_the_driver_hangs_at_its_start(
    nvml_library: Path, tmp_path: Path
) -> None:
    script = ONE_RUN.replace("open_drivers(60)", "open_drivers(0.1)")
    told = run(script, nvml_library, tmp_path, "fault -1 hang 0 99 0")
    assert "gpu" not in told
    assert told["unmeasured"] == ["NVIDIA's driver has not answered yet"]
    assert told["log"].count("driver has not answered yet") == 1
    assert told["cpu"][4] == pytest.approx(1.0)  # the others were measured all the time


def test_a_driver_that_takes_a_second_to_start_joins_the_run_and_the_range_holds_the_rest(
    nvml_library: Path, tmp_path: Path
) -> None:
    script = ONE_RUN.replace("open_drivers(60)", "open_drivers(0.1)")
    fault = "fault -1 hang 0 99 1"
    told = run(script, nvml_library, tmp_path, fault, seconds=3, CUDA_VISIBLE_DEVICES="0")
    low, mid, high, _, coverage, method, _ = told["gpu"]
    assert (method, told["unmeasured"]) == ("counter", [])
    assert low <= mid < 200 * told["seconds"] <= high
    assert coverage < 0.8
    assert "1 x NVIDIA Rig" in told["hardware"]


def test_a_lost_gpu_is_one_log_line_and_a_figure_that_says_how_far_it_reaches(
    nvml_library: Path, tmp_path: Path
) -> None:
    told = run(ONE_RUN, nvml_library, tmp_path, "fault 1 lost 0.1 99 0", CUDA_VISIBLE_DEVICES="1")
    assert "gpu" not in told
    assert any("GPU is lost" in reason for reason in told["unmeasured"])


def test_forked_children_measure_themselves_and_the_parent_goes_on(
    nvml_library: Path, tmp_path: Path
) -> None:
    script = (
        HEAD
        + """
sampler.open("parent")
time.sleep(0.3)
read_end, write_end = os.pipe()
if (child := os.fork()) == 0:
    sampler.after_fork()
    sampler.open("child")
    time.sleep(0.4)
    os.write(write_end, json.dumps(shown(sampler.close("child"))).encode())
    os._exit(0)
os.waitpid(child, 0)
parent = shown(sampler.close("parent"))
print(json.dumps({"parent": parent, "child": json.loads(os.read(read_end, 65536))}))
"""
    )
    told = run(script, nvml_library, tmp_path, CUDA_VISIBLE_DEVICES="0")
    for name in ("parent", "child"):
        low, _, high, *_ = told[name]["gpu"]
        assert low <= 200 * told[name]["seconds"] <= high, name
