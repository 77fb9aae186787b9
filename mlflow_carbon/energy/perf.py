"""RAPL by perf events: the same counters as powercap's, 64 bits wide, for who has CAP_PERFMON.

perf_event_open(2); /sys/bus/event_source/devices/power of Linux 3.14 and later.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import time
from collections.abc import Callable
from pathlib import Path

from mlflow_carbon.energy.meter import Component, Gap, MeterInfo, Method, Reading
from mlflow_carbon.units import Range

PMU = Path("sys/bus/event_source/devices/power")
_SYSCALL = {"x86_64": 298}
"""arch/x86/entry/syscalls/syscall_64.tbl; RAPL is x86 only."""
_ATTRIBUTE_BYTES = 128
_CLOEXEC = 8
_STUCK_S = 3.0
_EVENTS = {"energy-pkg": Component.CPU, "energy-ram": Component.DRAM}


class PerfCounter:
    """One package's counter of one event."""

    def __init__(
        self,
        info: MeterInfo,
        file: int,
        scale_j: float,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Take over the open event ``file`` that counts units of ``scale_j``."""
        self.info, self._file, self._scale_j, self._clock = info, file, scale_j, clock
        self._first = self._last = self._count()
        self._moved_ns = clock()

    def read(self) -> Reading | Gap:
        """Joules since the counter was opened."""
        now_ns = self._clock()
        try:
            count = self._count()
        except OSError as error:
            return Gap(now_ns, f"{self.info.describe}: {error}")
        if count != self._last:
            self._last, self._moved_ns = count, now_ns
        elif now_ns - self._moved_ns > _STUCK_S * 1e9:
            return Gap(now_ns, f"{self.info.describe}: stuck", lost=True)
        return Reading(now_ns, Range.exactly((count - self._first) * self._scale_j))

    def close(self) -> None:
        """Close the event."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _count(self) -> int:
        return int(struct.unpack("<Q", os.read(self._file, 8))[0])


def open_counters(
    root: Path, *, error: float, note: str, clock: Callable[[], int] = time.monotonic_ns
) -> list[PerfCounter]:
    """The package and memory counters, one per package or die.

    Raises:
        OSError: there is no such event source, or no permission (CAP_PERFMON, perf_event_paranoid).
    """
    pmu = root / PMU
    opened: list[PerfCounter] = []
    try:
        kind = int(_read(pmu / "type"))
        for event, component in _EVENTS.items():
            if not (pmu / "events" / event).exists():
                continue
            config = int(_read(pmu / "events" / event).partition("event=")[2].split(",")[0], 16)
            scale_j = float(_read(pmu / "events" / f"{event}.scale"))
            for cpu in _cpus(_read(pmu / "cpumask")):
                name = _package(root, cpu) + ("/dram" if component is Component.DRAM else "")
                info = MeterInfo(
                    id=f"rapl:{name}",
                    component=component,
                    method=Method.COUNTER,
                    describe=f"{name} (RAPL, perf event)",
                    period_s=10.0,
                    sensor_error=error,
                    sensor_note=note,
                )
                opened.append(PerfCounter(info, _open_event(kind, config, cpu), scale_j, clock))
    except (OSError, ValueError) as problem:
        for counter in opened:
            counter.close()
        raise OSError(f"{pmu}: {problem}") from problem
    if not opened:
        raise OSError(f"{pmu}: none of {', '.join(_EVENTS)}")
    return opened


def _read(path: Path) -> str:
    return path.read_text().strip()


def _cpus(mask: str) -> list[int]:
    """``0,28`` or ``0-1``: the CPUs that stand for a package or a die."""
    cpus: list[int] = []
    for part in mask.split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def _package(root: Path, cpu: int) -> str:
    topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    package = _read(topology / "physical_package_id")
    try:
        die = _read(topology / "die_id")
    except OSError:
        die = "0"
    return f"package-{package}" if die in {"0", "-1"} else f"package-{package}-die-{die}"


def _open_event(kind: int, config: int, cpu: int) -> int:
    """Count on one CPU, whoever runs there."""
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(f"no RAPL events on {platform.machine()}")
    attributes = bytearray(_ATTRIBUTE_BYTES)
    struct.pack_into("<IIQ", attributes, 0, kind, _ATTRIBUTE_BYTES, config)
    place = (ctypes.c_char * _ATTRIBUTE_BYTES).from_buffer(attributes)
    libc = ctypes.CDLL(None, use_errno=True)
    file: int = libc.syscall(number, ctypes.byref(place), -1, cpu, -1, _CLOEXEC)
    if file < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"perf_event_open: {os.strerror(code)}")
    return file
