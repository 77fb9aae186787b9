"""NVIDIA GPUs through NVML: the energy counter where there is one, else power many times a second."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import time
from typing import Any

from mlflow_carbon.energy.meter import Component, Gap, MeterInfo, Method, Reading
from mlflow_carbon.units import Range

TICK_S = 0.1
"""The counter is renewed about ten times a second (ml.energy, Measuring GPU Energy: Best Practices)."""
POLL_S = 0.1
_STUCK_S = 2.0
_HOLE_S = 1.0
"""Power readings further apart than this do not tell what was used between them."""
SENSOR_ERROR = 0.05
_NOTE = (
    "board power: +/-5 % (NVML reference, stated for Fermi and Kepler; nothing stated since); "
    "A100 and H100 sample a quarter of the time (arXiv:2312.02741)"
)


class Nvml:
    """The library, loaded once per process; started again after a fork."""

    def __init__(self) -> None:
        """Load and start it.

        Raises:
            OSError: no library, no driver, or the driver refuses; the text says which.
        """
        ctypes.CDLL("libnvidia-ml.so.1")  # importing pynvml costs 0.1 s: not without the library
        import pynvml

        self.api: Any = pynvml
        self._pid = 0
        self.start()

    def start(self) -> None:
        """Start the library in this process, unless it is."""
        if self._pid == os.getpid():
            return
        try:
            self.api.nvmlInit()
        except self.api.NVMLError as error:
            raise OSError(f"NVML: {error}") from error
        self._pid = os.getpid()

    def ask(self, call: str, *arguments: object) -> Any:
        """One call by name; what the driver refuses becomes an ``OSError`` with its reason."""
        try:
            answer = getattr(self.api, call)(*arguments)
        except (self.api.NVMLError, AttributeError) as error:
            raise OSError(f"{call}: {error}") from error
        return answer.decode() if isinstance(answer, bytes) else answer

    def try_ask(self, call: str, *arguments: object) -> Any | None:
        """The same; ``None`` where the driver refuses."""
        try:
            return self.ask(call, *arguments)
        except OSError:
            return None


class NvmlGpu:
    """The energy of one GPU: its counter, checked against its power; power alone if the counter fails."""

    def __init__(self, nvml: Nvml, uuid: str) -> None:
        """Open the GPU.

        Raises:
            OSError: neither energy nor power can be read.
        """
        self._nvml, self._uuid = nvml, uuid
        self._handle = nvml.ask("nvmlDeviceGetHandleByUUID", uuid)
        self._pid = os.getpid()
        name = nvml.try_ask("nvmlDeviceGetName", self._handle) or "NVIDIA GPU"
        limit_mw = nvml.try_ask("nvmlDeviceGetEnforcedPowerLimit", self._handle)
        counts = nvml.try_ask("nvmlDeviceGetTotalEnergyConsumption", self._handle) is not None
        if not counts:
            nvml.ask("nvmlDeviceGetPowerUsage", self._handle)
        self.name = name
        self.info = MeterInfo(
            id=f"nvml:{uuid}",
            component=Component.GPU,
            method=Method.COUNTER,
            describe=f"{name} (NVML energy counter)",
            period_s=10.0,
            sensor_error=SENSOR_ERROR,
            sensor_note=_NOTE,
            tick_s=TICK_S,
            max_power_w=limit_mw / 1000 if limit_mw else None,
            may_block=True,
        )
        self._counts = counts
        self._total_j = 0.0
        self._last_mj: int | None = None
        self._last_power: tuple[int, float] | None = None
        self._moved_ns = self._last_ns = time.monotonic_ns()
        if not counts:
            self._use_power("no energy counter")

    def read(self) -> Reading | Gap:
        """Joules since the first reading."""
        try:
            if self._pid != os.getpid():
                self._reopen()
            return self._count() if self._counts else self._integrate()
        except OSError as error:
            return Gap(time.monotonic_ns(), f"{self.name}: {error}")

    def close(self) -> None:
        """The library stays loaded: other parts of the process may use it."""

    def _reopen(self) -> None:
        self._nvml.start()
        self._handle = self._nvml.ask("nvmlDeviceGetHandleByUUID", self._uuid)
        self._pid = os.getpid()
        self._last_mj = self._last_power = None

    def _count(self) -> Reading | Gap:
        now_mj = self._nvml.ask("nvmlDeviceGetTotalEnergyConsumption", self._handle)
        now_ns = time.monotonic_ns()
        power_w = self._power_w()
        if self._last_mj is None:
            self._last_mj, self._last_ns, self._moved_ns = now_mj, now_ns, now_ns
        used_j = (now_mj - self._last_mj) / 1000
        elapsed_s = (now_ns - self._last_ns) / 1e9 + TICK_S
        if used_j == 0 and now_ns - self._moved_ns > _STUCK_S * 1e9:
            self._use_power("energy counter is stuck")
            return Gap(now_ns, f"{self.name}: energy counter is stuck", lost=True)
        if used_j:
            self._last_mj, self._last_ns, self._moved_ns = now_mj, now_ns, now_ns
        if used_j < 0 or used_j > 3 * (self.info.max_power_w or 2000.0) * elapsed_s:
            return Gap(now_ns, f"{self.name}: energy counter was set back or jumped", lost=True)
        self._total_j += used_j
        return Reading(now_ns, Range.exactly(self._total_j), power_w=power_w)

    def _integrate(self) -> Reading | Gap:
        power_w = self._power_w()
        now_ns = time.monotonic_ns()
        if power_w is None:
            return Gap(now_ns, f"{self.name}: power cannot be read")
        last, self._last_power = self._last_power, (now_ns, power_w)
        if last is not None:
            seconds = (now_ns - last[0]) / 1e9
            if seconds > _HOLE_S:
                return Gap(now_ns, f"{self.name}: power not read for {seconds:.1f} s", lost=True)
            self._total_j += (power_w + last[1]) / 2 * seconds
        return Reading(now_ns, Range.exactly(self._total_j), power_w=power_w)

    def _power_w(self) -> float | None:
        milliwatts = self._nvml.try_ask("nvmlDeviceGetPowerUsage", self._handle)
        return None if milliwatts is None else milliwatts / 1000

    def _use_power(self, reason: str) -> None:
        self._counts, self._last_power = False, None
        self.info = dataclasses.replace(
            self.info,
            method=Method.SAMPLED,
            describe=f"{self.name} (NVML power at {1 / POLL_S:g} Hz: {reason})",
            period_s=POLL_S,
            tick_s=0.0,
        )


def list_gpus(nvml: Nvml) -> list[str]:
    """The UUIDs of the host's GPUs in NVML's order (by PCI address)."""
    uuids = []
    for index in range(nvml.ask("nvmlDeviceGetCount")):
        handle = nvml.try_ask("nvmlDeviceGetHandleByIndex", index)
        uuid = handle and nvml.try_ask("nvmlDeviceGetUUID", handle)
        if uuid:
            uuids.append(uuid)
    return uuids


def visible_gpus(uuids: list[str], visible: str | None) -> list[str]:
    """Those that CUDA shows to this process: by index, UUID or start of a UUID.

    As in CUDA, the list ends at the first entry that names nothing.
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-environment-variables
    """
    if visible is None:
        return uuids
    chosen: list[str] = []
    for entry in (part.strip() for part in visible.split(",")):
        if entry.isdigit():
            found = uuids[int(entry) : int(entry) + 1]
        else:
            found = [uuid for uuid in uuids if entry and uuid.lower().startswith(entry.lower())]
        if len(found) != 1:
            break
        chosen += [uuid for uuid in found if uuid not in chosen]
    return chosen
