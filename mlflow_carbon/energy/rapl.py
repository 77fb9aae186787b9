"""RAPL: the energy counters of processor packages and their memory, in Linux' powercap tree.

https://docs.kernel.org/power/powercap/powercap.html
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mlflow_carbon.energy.meter import Component, Gap, MeterInfo, Method, Reading
from mlflow_carbon.units import Range

POWERCAP = Path("/sys/class/powercap")
_MOST_W = 1000.0
"""No package draws more for long: bounds how soon the counter can wrap, and tells a reset from a wrap."""
_STUCK_S = 3.0
_GROWN_UJ, _SAME_UJ = 1_000_000_000, 5_000_000
INTEL_ERROR, AMD_ERROR = 0.05, 0.10
NOTES = {
    INTEL_ERROR: "RAPL on Intel: +/-5 % (Khan et al., RAPL in Action, ACM TOMPECS 2018)",
    AMD_ERROR: "RAPL on AMD is a model in the chip: +/-10 % (Schoene et al., arXiv:2108.00808)",
}


class Zone(NamedTuple):
    """A folder of the tree that has a counter of its own."""

    path: Path
    name: str
    """``package-0``, ``package-1-die-0``; memory is ``package-0/dram``."""

    @property
    def component(self) -> Component:
        """CPU, or DRAM, which stands beside the package and not in it."""
        return Component.DRAM if self.name.endswith("/dram") else Component.CPU


def find_zones(powercap: Path = POWERCAP) -> list[Zone]:
    """The zones to add up: each package once and its memory.

    ``psys`` contains the packages, ``core`` and ``uncore`` are inside one, and ``intel-rapl-mmio``
    shows a package a second time: all left out. A zone is known by its name in the topology.
    """
    found: dict[str, Zone] = {}
    for top in sorted(powercap.glob("*rapl*:*")):
        name = text(top / "name")
        if top.name.count(":") != 1 or name is None or not name.startswith("package-"):
            continue
        found.setdefault(name, Zone(top, name))
        for part in sorted(top.glob(f"{top.name}:*")):
            if text(part / "name") == "dram":
                found.setdefault(f"{name}/dram", Zone(part, f"{name}/dram"))
    zones = sorted(found.values(), key=lambda zone: zone.name)
    return [zone for n, zone in enumerate(zones) if not any(_mirrors(zone, z) for z in zones[:n])]


def _mirrors(zone: Zone, other: Zone) -> bool:
    """Whether a die shows the counter of its whole package, as its sibling does.

    On some processors with several dies each zone reads one and the same register: two counters that
    differ by less than a few joules after counting for as long as the machine is up.
    """
    package, die, _ = zone.name.partition("-die-")
    if not die or not other.name.startswith(f"{package}-die-") or zone.component != other.component:
        return False
    values = [text(one.path / "energy_uj") or "" for one in (other, zone)]
    if not all(value.isdigit() for value in values):
        return False
    first_uj, second_uj = map(int, values)
    return first_uj > _GROWN_UJ and abs(second_uj - first_uj) < _SAME_UJ


def text(path: Path) -> str | None:
    """What a small file says; ``None`` where it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _rated_w(zone: Path) -> float | None:
    """The power limit the maker gives (``constraint_*_max_power_uw``), if the zone has one."""
    values = [text(path) or "" for path in zone.glob("constraint_*_max_power_uw")]
    watts = [int(value) / 1e6 for value in values if value.isdigit()]
    return max((value for value in watts if value > 0), default=None)


class RaplZone:
    """The counter of one zone.

    The counter wraps after ``max_energy_range_uj`` (some 262 kJ: minutes at a kilowatt). Totals hold
    while readings, or the outage between two of them, are closer together than a lap at 1 kW.
    """

    def __init__(
        self, zone: Zone, *, amd: bool = False, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """Open the counter.

        Raises:
            OSError: it cannot be read (since Linux 5.10 only by root), or is not a counter.
        """
        self._path, self._clock = zone.path / "energy_uj", clock
        self._file = self._path.open("rb", buffering=0)
        try:
            self._range_uj = int((zone.path / "max_energy_range_uj").read_text())
            self._last_uj = self._counter_uj()
        except (OSError, ValueError) as error:
            self._file.close()
            raise OSError(f"{self._path}: {error}") from error
        self._lap_s = self._range_uj / 1e6 / _MOST_W
        relative = AMD_ERROR if amd else INTEL_ERROR
        self.info = MeterInfo(
            id=f"rapl:{zone.name}",
            component=zone.component,
            method=Method.COUNTER,
            describe=f"{zone.name} (RAPL, powercap)",
            period_s=min(10.0, self._lap_s / 2),
            sensor_error=relative,
            sensor_note=NOTES[relative],
            max_power_w=_rated_w(zone.path),
        )
        self._last_ns = self._moved_ns = self._clock()
        self._total_uj = 0

    def read(self) -> Reading | Gap:
        """Joules since the counter was opened."""
        now_ns = self._clock()
        try:
            now_uj = self._counter_uj()
        except (OSError, ValueError) as error:
            return Gap(now_ns, f"{self._path}: {error}")
        used_uj = (now_uj - self._last_uj) % self._range_uj
        elapsed_s = (now_ns - self._last_ns) / 1e9
        if used_uj:
            self._last_uj, self._last_ns, self._moved_ns = now_uj, now_ns, now_ns
        elif now_ns - self._moved_ns > _STUCK_S * 1e9:
            return Gap(now_ns, f"{self._path}: stuck at {now_uj}", lost=True)
        if elapsed_s > self._lap_s:
            return Gap(
                now_ns, f"{self._path}: not read for {elapsed_s:.0f} s, may have wrapped", True
            )
        if used_uj / 1e6 > _MOST_W * elapsed_s + 1.0:
            return Gap(now_ns, f"{self._path}: set back or jumped", lost=True)
        self._total_uj += used_uj
        return Reading(now_ns, Range.exactly(self._total_uj / 1e6))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _counter_uj(self) -> int:
        return int(os.pread(self._file.fileno(), 32, 0))
