"""CPU time and memory of this process and its descendants on systems without ``/proc``."""

from __future__ import annotations

import os
import time

import psutil

_PERIOD_S = 10.0
"""psutil walks the whole process table to find the descendants."""


class PsutilTree:
    """What ``proc.ProcessTree`` does, at a slower pace."""

    def __init__(self) -> None:
        """Watch this process."""
        self._pid = 0
        self._members: list[psutil.Process] = []
        self._renewed_s = 0.0
        self._cpu_s, self._offset_s = 0.0, 0.0

    def cpu_s(self) -> float:
        """CPU seconds of the tree since the first call; never decreases."""
        first = self._renew()
        seen_s = sum(map(_cpu_of, self._members))
        if first:
            self._offset_s = self._cpu_s - seen_s
        self._cpu_s = max(self._cpu_s, seen_s + self._offset_s)
        return self._cpu_s

    def memory_bytes(self) -> tuple[float, float]:
        """Resident memory: the largest process alone, and the sum."""
        self._renew()
        sizes = [0, *map(_resident_of, self._members)]
        return float(max(sizes)), float(sum(sizes))

    def members(self) -> frozenset[int]:
        """Process ids of the tree."""
        self._renew()
        return frozenset(process.pid for process in self._members)

    def _renew(self) -> bool:
        now_s, pid = time.monotonic(), os.getpid()
        first = pid != self._pid
        if first or now_s - self._renewed_s >= _PERIOD_S:
            own = psutil.Process(pid)
            self._members = [own, *own.children(recursive=True)]
            self._pid, self._renewed_s = pid, now_s
        return first


def _cpu_of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    reaped_s = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(times.user + times.system + reaped_s)


def _resident_of(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
