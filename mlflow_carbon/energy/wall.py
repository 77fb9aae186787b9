"""The whole machine at the wall: a sensor of power that is asked now and then, and integrated."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol

from mlflow_carbon.energy.meter import Component, Gap, MeterInfo, Method, Reading
from mlflow_carbon.energy.wall_sources import CommandPower, FilePower, RedfishPower
from mlflow_carbon.settings import Settings
from mlflow_carbon.units import Range

_HOLES = 3.0
"""Readings further apart than so many periods do not tell what was used between them; at least 10 s."""
_MOST_W = 1e6


class Source(Protocol):
    """Where the watts come from."""

    name: str
    """Stable, for a person; without anything secret."""
    period_s: float
    """It is asked no more often than this."""

    def power_w(self) -> float:
        """The machine's power now.

        Raises:
            OSError: it cannot be told; the text says why.
        """


def wall_source(settings: Settings) -> Source | None:
    """The one sensor that the settings name, if any.

    Raises:
        OSError: they name more than one, or one that cannot be used.
    """
    named: list[Callable[[], Source]] = []
    if (file := settings.wall_power_file) is not None:
        named.append(lambda: FilePower(file))
    if (command := settings.wall_power_command) is not None:
        named.append(lambda: CommandPower(command))
    if (url := settings.wall_redfish_url) is not None:
        named.append(
            lambda: RedfishPower(url, settings.wall_redfish_login, settings.wall_redfish_ca)
        )
    if len(named) > 1:
        raise OSError(
            "more than one sensor at the wall is set; a machine has one. Unset the others."
        )
    return named[0]() if named else None


class WallSensor:
    """Power read and integrated; each stretch lies between its two readings.

    A calibration factor turns what the sensor reads into what a better meter read beside it: it is nothing
    without a word on where it is from, which stands in the record.
    """

    def __init__(
        self,
        source: Source,
        clock: Callable[[], int] = time.monotonic_ns,
        *,
        factor: float | None = None,
        factor_source: str | None = None,
    ) -> None:
        """Open the sensor.

        Raises:
            OSError: it tells no power, or the factor cannot be used.
        """
        if factor is not None and not (factor_source and 0.1 <= factor <= 10):
            raise OSError(
                f"calibration factor {factor:g}: it must lie between 0.1 and 10, and"
                " MLFLOW_CARBON_WALL_FACTOR_SOURCE must say where it is from"
            )
        self._source, self._clock, self._factor = source, clock, factor or 1.0
        self._power_w()
        told = "" if factor is None else f"; readings x {factor:g} ({factor_source})"
        self.info = MeterInfo(
            id=f"wall:{source.name}",
            component=Component.SYSTEM,
            method=Method.SAMPLED,
            describe=f"whole machine ({source.name}{told})",
            period_s=source.period_s,
            sensor_error=0.05,
            sensor_note=f"wall sensor: +/-5 % assumed, its maker does not tell us{told}",
            tick_s=source.period_s if source.period_s > 1 else 0.0,
            may_block=True,
        )
        self._hole_s = max(10.0, _HOLES * source.period_s)
        self._last: tuple[int, float] | None = None
        self._energy_j = Range(0.0, 0.0, 0.0)

    def read(self) -> Reading | Gap:
        """Joules since the first reading."""
        now_ns, last = self._clock(), self._last
        if last is not None and (now_ns - last[0]) / 1e9 < 0.9 * self.info.tick_s:
            return Reading(now_ns, self._energy_j, power_w=last[1])
        try:
            power_w = self._power_w()
        except OSError as error:
            return Gap(self._clock(), str(error), lost=True)
        now_ns = self._clock()
        self._last = (now_ns, power_w)
        if last is not None:
            seconds = (now_ns - last[0]) / 1e9
            if seconds > self._hole_s:
                return Gap(now_ns, f"{self._source.name}: not read for {seconds:.0f} s", lost=True)
            low_w, high_w = sorted((last[1], power_w))
            self._energy_j += Range(low_w, (low_w + high_w) / 2, high_w).scaled(seconds)
        return Reading(now_ns, self._energy_j, power_w=power_w)

    def close(self) -> None:
        """Nothing is held open."""

    def _power_w(self) -> float:
        power_w = self._source.power_w()
        if math.isnan(power_w) or not 0 <= power_w < _MOST_W:
            raise OSError(f"{self._source.name}: {power_w:g} W is no power of a machine")
        return power_w * self._factor
