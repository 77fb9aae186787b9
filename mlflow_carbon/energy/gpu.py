"""The energy of one NVIDIA GPU: its counter where there is one, else its power many times a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from mlflow_carbon.energy.meter import Component, Gap, MeterInfo, Method, Reading
from mlflow_carbon.energy.nvml import Nvml
from mlflow_carbon.units import Range

TICK_S = 0.1
"""The counter is renewed about ten times a second (ml.energy, Measuring GPU Energy: Best Practices)."""
POLL_S = 0.1
_STUCK_S = 2.0
_HOLE_S = 1.0
"""Power readings further apart than this do not tell what was used between them."""
_SETTLING_NS = 500_000_000
"""A handful of power readings do not bound a load that changes between them."""
_TOO_MUCH = 3.0
"""More than this many times the power limit is a counter that jumped."""
SENSOR_ERROR = 0.05
_OF_MODULE = " of the module: GPU, processor and memory"
_NOTE = (
    "board power: +/-5 % (NVML reference, stated for Fermi and Kepler; nothing stated since); "
    "A100 and H100 sample a quarter of the time (arXiv:2312.02741)"
)


class NvmlGpu:
    """One GPU. A counter that stops while the board draws power is given up for its power readings."""

    def __init__(self, nvml: Nvml, uuid: str, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Open the GPU.

        Raises:
            OSError: neither energy nor power can be read.
        """
        self._nvml, self._uuid, self._clock = nvml, uuid, clock
        self._handle = nvml.ask("nvmlDeviceGetHandleByUUID", uuid)
        self._started = nvml.started
        limit_mw = nvml.try_ask("nvmlDeviceGetEnforcedPowerLimit", self._handle)
        self._counts = nvml.try_ask("nvmlDeviceGetTotalEnergyConsumption", self._handle) is not None
        self._module = nvml.tells_module_only(self._handle)
        if not self._counts and self._power_w() is None:
            nvml.ask("nvmlDeviceGetPowerUsage", self._handle)
        self.name = nvml.try_ask("nvmlDeviceGetName", self._handle) or "NVIDIA GPU"
        self.info = MeterInfo(
            id=f"nvml:{uuid}",
            component=Component.MODULE if self._module else Component.GPU,
            method=Method.COUNTER,
            describe=f"{self.name} (NVML energy counter{_OF_MODULE if self._module else ''})",
            period_s=10.0,
            sensor_error=SENSOR_ERROR,
            sensor_note=_NOTE,
            tick_s=TICK_S,
            max_power_w=limit_mw / 1000 if limit_mw else None,
            may_block=True,
        )
        self._total_j = Range(0.0, 0.0, 0.0)
        self._last_mj: int | None = None
        self._last_power: tuple[int, float] | None = None
        self._moved_ns = self._last_ns = self._sampled_from_ns = clock()
        if not self._counts:
            self._use_power("no energy counter")

    def processes(self) -> dict[int, int] | None:
        """SM utilisation by process id; ``None`` if the driver does not tell."""
        return self._nvml.processes(self._handle)

    def read(self) -> Reading | Gap:
        """Joules since the first reading."""
        try:
            if not self._nvml.is_up or self._started != self._nvml.started:
                self._reopen()
            return self._count() if self._counts else self._integrate()
        except OSError as error:
            return Gap(self._clock(), f"{self.name}: {error}")

    def close(self) -> None:
        """The library stays loaded: other parts of the process may use it."""

    def _power_w(self) -> float | None:
        return self._nvml.instant_power_w(self._handle, module=self._module)

    def _reopen(self) -> None:
        self._nvml.start()
        self._handle = self._nvml.ask("nvmlDeviceGetHandleByUUID", self._uuid)
        self._started = self._nvml.started

    def _count(self) -> Reading | Gap:
        now_mj = self._nvml.ask("nvmlDeviceGetTotalEnergyConsumption", self._handle)
        now_ns = self._clock()
        power_w = self._power_w()
        if self._last_mj is None:
            self._last_mj, self._last_ns, self._moved_ns = now_mj, now_ns, now_ns
        used_j = (now_mj - self._last_mj) / 1000
        elapsed_s = (now_ns - self._last_ns) / 1e9 + TICK_S
        if used_j == 0 and now_ns - self._moved_ns > _STUCK_S * 1e9:
            self._use_power("its energy counter is stuck")
            return Gap(now_ns, f"{self.name}: the energy counter is stuck", lost=True)
        if used_j:
            self._last_mj, self._last_ns, self._moved_ns = now_mj, now_ns, now_ns
        if not 0 <= used_j <= _TOO_MUCH * (self.info.max_power_w or 2000.0) * elapsed_s:
            return Gap(now_ns, f"{self.name}: the energy counter was set back or jumped", lost=True)
        self._total_j += Range.exactly(used_j)
        return Reading(now_ns, self._total_j, power_w=power_w)

    def _integrate(self) -> Reading | Gap:
        power_w = self._power_w()
        now_ns = self._clock()
        if power_w is None:
            self._nvml.ask("nvmlDeviceGetPowerUsage", self._handle)  # raises with the reason
            return Gap(now_ns, f"{self.name}: power cannot be read", lost=True)
        last, self._last_power = self._last_power, (now_ns, power_w)
        if last is not None:
            seconds = (now_ns - last[0]) / 1e9
            if seconds > _HOLE_S:
                self._sampled_from_ns = now_ns
                return Gap(now_ns, f"{self.name}: power not read for {seconds:.1f} s", lost=True)
            low_w, high_w = sorted((power_w, last[1]))
            mean_w = (low_w + high_w) / 2
            if now_ns - self._sampled_from_ns < _SETTLING_NS:
                low_w, high_w = 0.0, max(high_w, self.info.max_power_w or high_w)
            self._total_j += Range(low_w, mean_w, high_w).scaled(seconds)
        else:
            self._sampled_from_ns = now_ns
        return Reading(now_ns, self._total_j, power_w=power_w)

    def _use_power(self, reason: str) -> None:
        self._counts, self._last_power = False, None
        self.info = replace(
            self.info,
            method=Method.SAMPLED,
            describe=f"{self.name} (NVML power at {1 / POLL_S:g} Hz: {reason})",
            period_s=POLL_S,
            tick_s=0.0,
        )
