"""A GPU whose library is not there: its name from the kernel driver, its power from the data sheet, as a range."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlflow_carbon.energy.gpu_model import GpuModel, NamedGpu, is_open, named_gpu
from mlflow_carbon.energy.meter import Method, Reading
from mlflow_carbon.energy.nvml import visible_uuids
from mlflow_carbon.energy.proc import ProcessTree

ADDRESS = "0000:65:00.0"
INFORMATION = """Model: \t\t NVIDIA H100 PCIe
IRQ:   \t\t 217
GPU UUID: \t GPU-6b1c2d3e-0000-1111-2222-333344445555
Video BIOS: \t 96.00.30.00.01
Bus Type: \t PCIe
Bus Location: \t 0000:65:00.0
Device Minor: \t 3
GPU Excluded:\t No
"""


def told(root: Path, text: str = INFORMATION) -> NamedGpu | None:
    folder = root / "proc/driver/nvidia/gpus" / ADDRESS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "information").write_text(text)
    return named_gpu(root, ADDRESS)


def test_the_kernel_driver_names_the_gpu_and_the_table_its_rated_power(tmp_path: Path) -> None:
    assert named_gpu(tmp_path, ADDRESS) is None
    gpu = told(tmp_path)
    assert gpu is not None
    assert gpu == NamedGpu(
        "NVIDIA H100 PCIe", ADDRESS, "GPU-6b1c2d3e-0000-1111-2222-333344445555", "/dev/nvidia3", 350.0
    )  # fmt: skip


def test_gpus_that_the_driver_has_not_started_yet_are_told_apart_by_their_address(
    tmp_path: Path,
) -> None:
    placeholder = INFORMATION.replace(
        "GPU-6b1c2d3e-0000-1111-2222-333344445555", "GPU-????????-????-????-????-????????????"
    )
    gpu = told(tmp_path, placeholder.replace("Device Minor: \t 3\n", ""))
    assert gpu is not None
    assert (gpu.uuid, gpu.device) == (ADDRESS, "")
    meter = GpuModel(gpu, ProcessTree(), "no library")
    assert meter.info.id == f"model-gpu:{ADDRESS}"
    assert is_open(gpu.device, [os.getpid()]) is None  # its file is not known
    assert visible_uuids([ADDRESS, "GPU-b2"], "GPU-b2") == [ADDRESS, "GPU-b2"]
    assert visible_uuids([ADDRESS, "GPU-b2"], "0") == [ADDRESS]


@pytest.mark.parametrize(
    ("model", "watts"),
    [
        ("Tesla T4", 70.0),
        ("NVIDIA A100-SXM4-80GB", 400.0),
        ("nvidia geforce rtx 4090", 450.0),
        ("Tesla K80", 150.0),  # two GPUs on a board of 300 W
        ("NVIDIA GH200 480GB", None),  # rated with its processor
        ("NVIDIA Unheard Of", None),
    ],
)
def test_rated_power_is_that_of_one_gpu_alone(
    tmp_path: Path, model: str, watts: float | None
) -> None:
    gpu = told(tmp_path, INFORMATION.replace("NVIDIA H100 PCIe", model))
    assert gpu is not None
    assert gpu.rated_w == watts


@pytest.mark.parametrize("text", ["", "no facts at all", "Model:", "\x00\x01"])
def test_a_file_that_names_nothing_is_no_gpu(tmp_path: Path, text: str) -> None:
    assert told(tmp_path, text) is None


def test_a_gpu_of_unknown_power_stays_unmeasured_with_both_reasons() -> None:
    gpu = NamedGpu("NVIDIA Unheard Of", ADDRESS, "GPU-1", "/dev/nvidia0", None)
    with pytest.raises(OSError, match="no library; its rated power is not known"):
        GpuModel(gpu, ProcessTree(), "no library")


def test_a_run_that_opens_the_device_may_have_used_anything_up_to_its_rated_power(
    tmp_path: Path,
) -> None:
    device = tmp_path / "nvidia0"
    device.touch()
    moments = iter(range(0, 10**12, 10**10))
    gpu = NamedGpu("NVIDIA H100 PCIe", ADDRESS, "GPU-1", str(device), 350.0)
    meter = GpuModel(gpu, ProcessTree(), "no library", clock=lambda: next(moments))
    assert meter.info.method is Method.MODELLED
    assert "rated 350 W" in meter.info.describe
    assert "no library" in meter.info.describe
    first, unopened = meter.read(), meter.read()
    with device.open():
        opened = meter.read()
    kept = meter.read()  # it was open until some time in between
    closed = meter.read()
    readings = [r for r in (first, unopened, opened, kept, closed) if isinstance(r, Reading)]
    assert [r.energy_j.high for r in readings] == [0, 3500, 7000, 10500, 14000]
    own = [r.own_j for r in readings if r.own_j is not None]
    assert [r.high for r in own] == [0, 0, 3500, 7000, 7000]
    assert [r.mid for r in own] == [0, 0, 1750, 3500, 3500]
    assert {r.low for r in own} == {0}


def test_what_cannot_be_seen_of_another_users_process_is_not_known(tmp_path: Path) -> None:
    here = [os.getpid()]
    file = tmp_path / "device"
    assert is_open(str(file), here) is False
    with file.open("w"):
        assert is_open(str(file), here) is True
    hidden = tmp_path / "proc/7"
    hidden.mkdir(parents=True)
    (hidden / "fd").touch()  # cannot be listed
    assert is_open(str(file), [7], tmp_path / "proc") is None
    assert is_open(str(file), [8], tmp_path / "proc") is False  # it has ended


@pytest.mark.parametrize(
    ("visible", "shown"),
    [
        (None, ["GPU-a1", "GPU-b2"]),
        ("1", ["GPU-b2"]),
        ("gpu-a,1", ["GPU-a1", "GPU-b2"]),
        ("1,9,0", ["GPU-b2"]),
        ("", []),
        ("-1", []),
        ("MIG-GPU-a1/1/0", ["GPU-a1", "GPU-b2"]),
    ],
)
def test_only_gpus_that_cuda_shows_are_modelled(visible: str | None, shown: list[str]) -> None:
    assert visible_uuids(["GPU-a1", "GPU-b2"], visible) == shown
