"""The whole machine at the wall: a power sensor that shows itself as a file with a number.

Linux' hwmon (``/sys/class/hwmon/hwmon*/power*_input`` and ``power*_average``, microwatts) does; so does any
file in which a job of yours keeps the watts that a BMC, Redfish or a metered socket tells.
https://docs.kernel.org/hwmon/sysfs-interface.html
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from pathlib import Path

from mlflow_carbon.energy.meter import Component, Gap, MeterInfo, Method, Reading
from mlflow_carbon.units import Range

_MICROWATTS = re.compile(r"power\d+_(input|average)")
_HOLE_S = 10.0
"""Readings further apart than this do not tell what was used between them."""
_OLD_S = 60.0
"""A file of watts that nobody has written for this long tells nothing."""
_MOST_W = 1e6


class WallSensor:
    """Power read once a second and integrated; each second lies between its two readings."""

    def __init__(self, path: Path, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Open the sensor.

        Raises:
            OSError: there is no such file, or no power in it.
        """
        self._path, self._clock = path, clock
        self._in_microwatts = _MICROWATTS.fullmatch(path.name) is not None
        self._power_w()
        self.info = MeterInfo(
            id=f"wall:{path}",
            component=Component.SYSTEM,
            method=Method.SAMPLED,
            describe=f"whole machine ({path})",
            sensor_error=0.05,
            sensor_note="wall sensor: +/-5 % assumed, its maker does not tell us",
            may_block=True,
        )
        self._last: tuple[int, float] | None = None
        self._energy_j = Range(0.0, 0.0, 0.0)

    def read(self) -> Reading | Gap:
        """Joules since the first reading."""
        try:
            power_w = self._power_w()
        except OSError as error:
            return Gap(self._clock(), str(error), lost=True)
        now_ns = self._clock()
        last, self._last = self._last, (now_ns, power_w)
        if last is not None:
            seconds = (now_ns - last[0]) / 1e9
            if seconds > _HOLE_S:
                return Gap(now_ns, f"{self._path}: not read for {seconds:.0f} s", lost=True)
            low_w, high_w = sorted((last[1], power_w))
            self._energy_j += Range(low_w, (low_w + high_w) / 2, high_w).scaled(seconds)
        return Reading(now_ns, self._energy_j, power_w=power_w)

    def close(self) -> None:
        """Nothing is held open."""

    def _power_w(self) -> float:
        try:
            power_w = float(self._path.read_text()) * (1e-6 if self._in_microwatts else 1.0)
        except ValueError as error:
            raise OSError(f"{self._path}: {error}") from error
        if not 0 <= power_w < _MOST_W or math.isnan(power_w):
            raise OSError(f"{self._path}: {power_w:g} W is no power of a machine")
        if not self._in_microwatts:
            age_s = _seconds_since(self._path.stat().st_mtime_ns)
            if age_s > _OLD_S:
                raise OSError(f"{self._path}: not written for {age_s:.0f} s")
        return power_w


def _seconds_since(written_ns: int) -> float:
    """A file's age; both moments are of the wall clock, which is what file systems keep."""
    return (time.time_ns() - written_ns) / 1e9
