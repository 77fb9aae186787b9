"""The rig's GPUs: builds ``nvml.c`` and knows the true energy of any window."""

from __future__ import annotations

import ctypes
import math
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow_carbon.energy.gpu import GpuMeter
from mlflow_carbon.energy.nvml import Nvml, NvmlDevice

_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A square wave: ``peak_w`` for the first ``duty`` of each period, else ``idle_w``."""

    uuid: str = "GPU-00000000-0000-0000-0000-000000000001"
    idle_w: float = 100.0
    peak_w: float = 500.0
    period_s: float = 0.737
    duty: float = 0.5
    tick_s: float = 0.1
    average_s: float = 0.0
    limit_w: float = 700.0
    counter: bool = True
    slices: int = 0
    module_w: float = 0.0

    def energy_j(self, t: float) -> float:
        whole = math.floor(t / self.period_s)
        high_s = whole * self.period_s * self.duty
        high_s += min(t - whole * self.period_s, self.period_s * self.duty)
        return (self.idle_w + self.module_w) * t + (self.peak_w - self.idle_w) * high_s

    @property
    def mig_uuid(self) -> str:
        return f"MIG-{self.uuid[4:]}"

    @property
    def line(self) -> str:
        numbers = (
            self.idle_w,
            self.peak_w,
            self.period_s,
            self.duty,
            self.tick_s,
            self.average_s,
            self.limit_w,
            int(self.counter),
            self.slices,
            self.module_w,
        )
        return f"gpu {self.uuid} {' '.join(f'{number:.9g}' for number in numbers)}"


def build(folder: Path) -> Path:
    """The library, compiled into ``folder`` under the name that pynvml asks the loader for."""
    library = folder / "libnvidia-ml.so.1"
    source = Path(__file__).with_name("nvml.c")
    subprocess.run(
        ["gcc", *_FLAGS, "-o", str(library), str(source), "-lm"],
        check=True,
    )
    return library


def write_scenario(path: Path, gpus: Sequence[Gpu], *more: str, start_ns: int = 0) -> None:
    """A scenario for ``FAKE_NVML``; ``more`` are lines such as ``fault 0 stuck 5 9`` or ``proc 0 77 50``."""
    path.write_text("\n".join([f"start {start_ns}", *(gpu.line for gpu in gpus), *more]) + "\n")


class Rig:
    """The library in this process, on a clock of its own."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.fake_nvml_time.argtypes = [ctypes.c_int64]
        self._scenario = folder / "gpus.txt"
        self.now_ns = 0

    def play(self, gpus: Sequence[Gpu], *more: str) -> None:
        """Begin a scenario at time 0."""
        write_scenario(self._scenario, gpus, *more)
        self._library.fake_nvml_load(str(self._scenario).encode())
        self.set(0.0)

    def set(self, t: float) -> None:
        self.now_ns = round(t * 1e9)
        self._library.fake_nvml_time(self.now_ns)

    def clock(self) -> int:
        return self.now_ns


def nvidia_gpu(nvml: Nvml, uuid: str, clock: Callable[[], int] = time.monotonic_ns) -> GpuMeter:
    return GpuMeter(NvmlDevice(nvml, uuid), clock)
