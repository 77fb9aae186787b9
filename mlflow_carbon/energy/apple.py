"""Apple silicon: processor, GPU and memory of the chip, by the extra ``apple`` (zeus-apple-silicon), without sudo.

It reads the "Energy Model" of IOReport, a private framework of macOS. Apple states no error; its own
``powermetrics`` calls these values estimates that may be inaccurate.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any, Protocol

from mlflow_carbon.energy.meter import Component, Gap, MeterInfo, Method, Reading
from mlflow_carbon.units import Range

_FIELDS = {
    Component.CPU: ("cpu_total_mj",),
    Component.GPU: ("gpu_mj", "gpu_sram_mj", "ane_mj"),
    Component.DRAM: ("dram_mj",),
}
_ERROR = 0.2
_NOTE = (
    "Apple's energy model: +/-20 % assumed, Apple states no error and calls the values estimates"
)
_STUCK_S = 30.0
"""The processor itself reads the counters, so its own cannot stand still for so long."""
_TRIAL_S = 0.05


class Monitor(Protocol):
    """``zeus_apple_silicon.AppleEnergyMonitor``, as far as it is used."""

    def get_cumulative_energy(self) -> Any:
        """Millijoules by field since some moment; ``None`` for what the chip does not tell."""


def load() -> Monitor:
    """The library's monitor.

    Raises:
        OSError: the extra is not installed, or macOS does not give the counters.
    """
    try:
        monitor: Monitor = importlib.import_module("zeus_apple_silicon").AppleEnergyMonitor()
    except ModuleNotFoundError as error:
        raise OSError(
            "the bindings are not installed: pip install 'mlflow-carbon[apple]'"
        ) from error
    except (ImportError, AttributeError, RuntimeError) as error:
        raise OSError(f"IOReport: {error}") from error
    return monitor


class AppleCounter:
    """One part of the chip."""

    def __init__(
        self, monitor: Monitor, component: Component, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """Open the counter.

        Raises:
            OSError: the chip does not tell this part.
        """
        self._monitor, self._clock, self._fields = monitor, clock, _FIELDS[component]
        self._last_mj = self._count_mj()
        self._total_mj = 0
        self._moved_ns = clock()
        self.info = MeterInfo(
            id=f"apple:{component.value}",
            component=component,
            method=Method.COUNTER,
            describe=f"Apple silicon {component.value} (IOReport)",
            period_s=10.0,
            sensor_error=_ERROR,
            sensor_note=_NOTE,
            contains=(component,),  # in the place of a model
            may_block=True,
        )

    def read(self) -> Reading | Gap:
        """Joules since the counter was opened."""
        try:
            now_mj = self._count_mj()
        except OSError as error:
            return Gap(self._clock(), str(error))
        now_ns = self._clock()
        used_mj, self._last_mj = now_mj - self._last_mj, now_mj
        if used_mj < 0:
            return Gap(now_ns, f"{self.info.describe}: set back", lost=True)
        if used_mj or self.info.component is not Component.CPU:
            self._moved_ns = now_ns
        elif now_ns - self._moved_ns > _STUCK_S * 1e9:
            return Gap(now_ns, f"{self.info.describe}: stuck", lost=True)
        self._total_mj += used_mj
        return Reading(now_ns, Range.exactly(self._total_mj / 1000))

    def close(self) -> None:
        """Nothing is held open."""

    def _count_mj(self) -> int:
        try:
            told = self._monitor.get_cumulative_energy()
        except RuntimeError as error:
            raise OSError(f"IOReport: {error}") from error
        values = [getattr(told, field, None) for field in self._fields]
        if values[0] is None:
            raise OSError(f"the chip does not tell {self._fields[0]}")
        return sum(int(value) for value in values if value is not None)


def open_counters(
    monitor: Monitor,
    clock: Callable[[], int] = time.monotonic_ns,
    work: Callable[[], object] = lambda: _busy(_TRIAL_S),
) -> list[AppleCounter]:
    """The parts that the chip tells, after a test of the processor's counter: it must count some work of ours.

    Raises:
        OSError: it does not; then none of them is believed.
    """
    processor = AppleCounter(monitor, Component.CPU, clock)
    told = monitor.get_cumulative_energy()
    others = [
        c for c in (Component.GPU, Component.DRAM) if getattr(told, _FIELDS[c][0], None) is not None
    ]
    found = [processor, *(AppleCounter(monitor, component, clock) for component in others)]
    work()
    reading = processor.read()
    if isinstance(reading, Gap):
        raise OSError(reading.reason)
    if not reading.energy_j.mid:
        raise OSError("IOReport: the processor's counter does not count")
    return found


def _busy(seconds: float) -> None:
    until_s = time.thread_time() + seconds
    while time.thread_time() < until_s:
        pass
