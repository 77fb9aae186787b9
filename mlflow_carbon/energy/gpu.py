"""The energy of one GPU: its counter where it has one that can be trusted, else its power many times a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from mlflow_carbon.energy.meter import Component, Gap, MeterInfo, Method, Reading
from mlflow_carbon.units import Range

POLL_S = 0.1
_STUCK_S = 2.0
_HOLE_S = 1.0
"""Power readings further apart than this do not tell what was used between them."""
_LAG_S = 0.2
"""Power is renewed every tenth of a second and is the mean of the tenth before (H200, driver 580)."""
_SETTLING_NS = 500_000_000
"""A handful of power readings do not bound a load that changes between them."""
_TOO_MUCH = 3.0
"""More than this many times the power limit is a counter that jumped."""
_TRIAL_NS = 3_000_000_000
_INSIDE = (Component.CPU, Component.DRAM)
"""A module's sensor has both in it: a counter or a model beside it would count them twice."""
_AGREES = (0.5, 2.0)
"""A counter that is true lies this close to the power read meanwhile, over the seconds of its trial."""


class Board(NamedTuple):
    """What stays the same about a GPU."""

    id: str
    name: str
    driver: str
    """Who tells: ``NVML``, ``AMD SMI``."""
    limit_w: float | None
    """Its enforced power limit, if told."""
    sensor_error: float
    sensor_note: str
    tick_s: float
    """Its counter is renewed this often."""
    component: Component = Component.GPU
    covers: str = ""
    """What the sensor has in it besides the GPU, for a person."""


class Device(Protocol):
    """A driver's view of one GPU."""

    board: Board

    def ready(self) -> None:
        """Start again after a fork, or after others shut the driver down.

        Raises:
            OSError: it cannot.
        """

    def energy_j(self) -> float:
        """The counter, from anywhere.

        Raises:
            OSError: there is none, or it cannot be read now.
        """

    def power_w(self) -> float:
        """Power of this moment.

        Raises:
            OSError: the device does not tell.
        """


class GpuMeter:
    """One GPU. A counter that stops while the board draws power is given up for its power readings."""

    def __init__(
        self, device: Device, clock: Callable[[], int] = time.monotonic_ns, *, trial: bool = False
    ) -> None:
        """Open the GPU. ``trial``: its counter is believed only once it has agreed with its power.

        Raises:
            OSError: neither energy nor power can be read.
        """
        self._device, self._clock = device, clock
        board = device.board
        self._counts = _told(device.energy_j) is not None
        if not self._counts:
            device.power_w()
        self.name = board.name
        self._counting = self.info = MeterInfo(
            id=board.id,
            component=board.component,
            method=Method.COUNTER,
            describe=f"{board.name} ({board.driver} energy counter{board.covers})",
            period_s=10.0,
            sensor_error=board.sensor_error,
            sensor_note=board.sensor_note,
            tick_s=board.tick_s,
            max_power_w=board.limit_w,
            contains=_INSIDE if board.component is Component.MODULE else (),
            may_block=True,
        )
        self._total_j = Range(0.0, 0.0, 0.0)
        self._last_j: float | None = None
        self._last_power: tuple[int, float] | None = None
        self._moved_ns = self._last_ns = self._sampled_from_ns = clock()
        self._trial: tuple[int, float, float] | None = None
        self._on_trial = trial and self._counts and _told(device.power_w) is not None
        if self._on_trial:
            self._use_power("its energy counter is on trial")
        elif not self._counts:
            self._use_power("no energy counter")

    def read(self) -> Reading | Gap:
        """Joules since the first reading."""
        try:
            self._device.ready()
            if self._counts:
                return self._count()
            reading = self._integrate()
            if self._on_trial and isinstance(reading, Reading):
                self._try_counter(reading)
        except OSError as error:
            return Gap(self._clock(), f"{self.name}: {error}")
        return reading

    def close(self) -> None:
        """The driver's library stays loaded: other parts of the process may use it."""

    def _count(self) -> Reading | Gap:
        now_j = self._device.energy_j()
        now_ns = self._clock()
        power_w = _told(self._device.power_w)
        if self._last_j is None:
            self._last_j, self._last_ns, self._moved_ns = now_j, now_ns, now_ns
        used_j = now_j - self._last_j
        elapsed_s = (now_ns - self._last_ns) / 1e9 + self.info.tick_s
        if used_j == 0 and now_ns - self._moved_ns > _STUCK_S * 1e9:
            self._use_power("its energy counter is stuck")
            return Gap(now_ns, f"{self.name}: the energy counter is stuck", lost=True)
        if used_j:
            self._last_j, self._last_ns, self._moved_ns = now_j, now_ns, now_ns
        if not 0 <= used_j <= _TOO_MUCH * (self.info.max_power_w or 2000.0) * elapsed_s:
            return Gap(now_ns, f"{self.name}: the energy counter was set back or jumped", lost=True)
        self._total_j += Range.exactly(used_j)
        return Reading(now_ns, self._total_j, power_w=power_w)

    def _integrate(self) -> Reading | Gap:
        power_w = self._device.power_w()
        now_ns = self._clock()
        last, self._last_power = self._last_power, (now_ns, power_w)
        if last is not None:
            seconds = (now_ns - last[0]) / 1e9
            if seconds > _HOLE_S:
                self._sampled_from_ns, self._trial = now_ns, None
                return Gap(now_ns, f"{self.name}: power not read for {seconds:.1f} s", lost=True)
            low_w, high_w = sorted((power_w, last[1]))
            mean_w = (low_w + high_w) / 2
            if now_ns - self._sampled_from_ns < _SETTLING_NS:
                low_w, high_w = 0.0, max(high_w, self.info.max_power_w or high_w)
            self._total_j += Range(low_w, mean_w, high_w).scaled(seconds)
        else:
            self._sampled_from_ns = now_ns
        return Reading(now_ns, self._total_j, power_w=power_w)

    def _try_counter(self, reading: Reading) -> None:
        """Compare the counter with the power read since the trial began, and decide."""
        now_j = self._device.energy_j()
        if self._trial is None:
            self._trial = (reading.at_ns, now_j, reading.energy_j.mid)
        began_ns, from_j, integrated_j = self._trial
        used_j = reading.energy_j.mid - integrated_j
        if reading.at_ns - began_ns < _TRIAL_NS or not used_j:
            return
        self._on_trial = False
        ratio = (now_j - from_j) / used_j
        if _AGREES[0] <= ratio <= _AGREES[1]:
            self._counts, self.info = True, self._counting
            self._last_j, self._last_ns, self._moved_ns = now_j, reading.at_ns, reading.at_ns
        else:
            self._use_power(f"its energy counter tells {ratio:.2g} times as much")

    def _use_power(self, reason: str) -> None:
        self._counts, self._last_power = False, None if self._counts else self._last_power
        board = self._device.board
        told = f"{board.driver} power at {1 / POLL_S:g} Hz{board.covers}: {reason}"
        self.info = self.info._replace(
            method=Method.SAMPLED,
            describe=f"{board.name} ({told})",
            period_s=POLL_S,
            tick_s=0.0,
            lag_s=_LAG_S,
        )


def _told(ask: Callable[[], float]) -> float | None:
    try:
        return ask()
    except OSError:
        return None
