"""psys: the platform's own counter. The packages are in it, so it is never added up: it checks them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mlflow_carbon.energy.meter import Component, Gap, Meter, MeterInfo, Reading
from mlflow_carbon.energy.rapl import POWERCAP, RaplZone, Zone, text

_LEAST_J = 50.0
"""Below this the moments at which the counters are read make more of a difference than their error."""
_TOLERANCE = 0.1
"""Twice the error of a RAPL counter on Intel, where psys is."""


class Platform:
    """Compares what the packages counted together with what the platform they are part of did."""

    def __init__(self, psys: Meter, packages: int) -> None:
        """Take the platform's counter over, to be read after every ``packages`` readings of a package."""
        self._psys, self._packages = psys, packages
        self._told_j: dict[str, float] = {}
        self._first: tuple[float, float] | None = None
        self.too_high = 0.0
        """The part of the packages' figure that the platform did not count; 0 while they agree."""

    def tell(self, meter_id: str, energy_j: float) -> None:
        """A package has counted so much."""
        self._told_j[meter_id] = energy_j
        if len(self._told_j) < self._packages:
            return
        packages_j = sum(self._told_j.values())
        self._told_j.clear()
        reading = self._psys.read()
        if isinstance(reading, Gap):
            self._first = None  # the two begin anew together
            return
        platform_j = reading.energy_j.mid
        if self._first is None:
            self._first = packages_j, platform_j
            return
        packages_j, platform_j = packages_j - self._first[0], platform_j - self._first[1]
        if packages_j >= _LEAST_J:
            excess = 1 - platform_j / packages_j
            self.too_high = excess if excess > _TOLERANCE else 0.0

    def close(self) -> None:
        """Close the counter."""
        self._psys.close()


class Checked:
    """A package's counter; where the platform counted less than its packages, the figure says so and gets wider."""

    def __init__(self, meter: Meter, platform: Platform) -> None:
        """Take the meter over."""
        self._meter, self._platform = meter, platform

    @property
    def info(self) -> MeterInfo:
        """The meter's own; which of the two counters is wrong cannot be told, so the range holds both."""
        info, too_high = self._meter.info, self._platform.too_high
        if not too_high:
            return info
        return info._replace(
            sensor_error=max(info.sensor_error, too_high),
            describe=f"{info.describe}; psys, which has the packages in it, counted {too_high:.0%} less than they did",
        )

    def read(self) -> Reading | Gap:
        """The meter's reading."""
        reading = self._meter.read()
        if isinstance(reading, Reading):
            self._platform.tell(self._meter.info.id, reading.energy_j.mid)
        return reading

    def close(self) -> None:
        """Close the meter, and the platform's counter."""
        self._meter.close()
        self._platform.close()


def checked(
    counters: Sequence[Meter],
    powercap: Path = POWERCAP,
    clock: Callable[[], int] = time.monotonic_ns,
) -> list[Meter]:
    """The same counters; those of packages are checked where the platform has a counter that can be read."""
    packages = [one for one in counters if one.info.component is Component.CPU]
    zone = _find_psys(powercap)
    if zone is None or not packages:
        return list(counters)
    try:
        platform = Platform(RaplZone(zone, clock=clock), len(packages))
    except OSError:  # there is nothing to check with
        return list(counters)
    return [Checked(one, platform) if one in packages else one for one in counters]


def _find_psys(powercap: Path) -> Zone | None:
    for name in sorted(powercap.glob("*rapl*:*/name")):
        if text(name) == "psys":
            return Zone(name.parent, "psys")
    return None
