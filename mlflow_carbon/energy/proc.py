"""CPU time and memory of this process and its descendants, read cheaply.

On Linux two small files are read per process; the list of descendants is renewed only as
often as keeps it under a ten-thousandth of a core. Elsewhere psutil does the same work.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Protocol

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_RENEW_FACTOR, _RENEW_S = 10_000.0, 1.0
"""The list of descendants is renewed after this many times the CPU time that renewing it last took."""


_ALONE_S = 2.5
"""A process without children is asked for them again so much later; their CPU time counts from their start."""


class ProcessTree:
    """The CPU seconds and bytes used by one process and what it started.

    CPU time of children that ended counts once their parent has waited for them.
    """

    def __init__(self, pid: int | None = None, proc: Path = PROC) -> None:
        """Watch ``pid`` (default: this process); a fork starts again from its own process."""
        self._fixed_pid, self._proc = pid, proc
        self._itself = pid is None and proc == PROC
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._pid = 0
        self._pids: list[int] = []
        self._renewed_s, self._renewing_s, self._alone_until_s = 0.0, 0.0, 0.0
        self._cpu_s = 0.0
        self._offset_s = 0.0

    def cpu_s(self) -> float:
        """CPU seconds of the tree since the first call; never decreases."""
        first = self._settle()
        seen_s = 0.0
        for pid in self._members():
            seen_s += self._cpu_of(pid)
        if first:
            self._offset_s = self._cpu_s - seen_s
        self._cpu_s = max(self._cpu_s, seen_s + self._offset_s)
        return self._cpu_s

    def memory_bytes(self) -> tuple[float, float]:
        """Resident memory: the largest process alone, and the sum with shared pages counted once."""
        self._settle()
        largest = private = shared = 0
        for pid in self._members():
            if not (fields := _content(f"{self._proc}/{pid}/statm").split()):
                continue
            resident, common = int(fields[1]), int(fields[2])
            largest, shared = max(largest, resident), max(shared, common)
            private += max(0, resident - common)
        return largest * self._page_bytes, max(largest, private + shared) * self._page_bytes

    def members(self) -> frozenset[int]:
        """Process ids of the tree."""
        self._settle()
        return frozenset(self._members())

    def _settle(self) -> bool:
        pid = self._fixed_pid or os.getpid()
        if pid == self._pid:
            return False
        self._pid, self._renewed_s, self._alone_until_s = pid, 0.0, 0.0
        return True

    def _members(self) -> list[int]:
        now_s = time.monotonic()
        if self._itself and now_s >= self._alone_until_s and not _has_children():
            self._pids, self._renewed_s = [self._pid], 0.0
            self._alone_until_s = now_s + _ALONE_S
        if now_s < self._alone_until_s:
            return self._pids
        if now_s - self._renewed_s >= max(_RENEW_S, _RENEW_FACTOR * self._renewing_s):
            began_s = time.thread_time()
            self._pids = self._descendants(self._pid)
            self._renewed_s, self._renewing_s = now_s, time.thread_time() - began_s
        return self._pids

    def _descendants(self, pid: int) -> list[int]:
        found = [pid]
        for member in found:
            tasks = f"{self._proc}/{member}/task"
            try:
                threads = os.listdir(tasks)  # noqa: PTH208 - once for each thread: paths cost more than reading
            except OSError:
                continue
            for thread in threads:
                found += map(int, _content(f"{tasks}/{thread}/children").split())
        return found

    def _cpu_of(self, pid: int) -> float:
        if self._itself and pid == self._pid:
            own, reaped = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
            return own.ru_utime + own.ru_stime + reaped.ru_utime + reaped.ru_stime
        if not (stat := _content(f"{self._proc}/{pid}/stat")):
            return 0.0
        # The name in brackets may hold spaces; utime, stime, cutime, cstime are fields 14 to 17.
        fields = stat[stat.rindex(b")") + 2 :].split()
        return sum(map(int, fields[11:15])) / _TICKS_PER_S


def _has_children() -> bool:
    """Whether any process started by this one is there, ended or not: the kernel tells without a search."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _content(path: str) -> bytes:
    """The first page of a small file; nothing if the process is gone.

    A tick reads several of them: this takes a quarter of the time of a file object.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(file, 4096)
    except OSError:
        return b""
    finally:
        os.close(file)


_open_stat: list[int] = []


def _host_times(proc: Path) -> bytes:
    """The start of ``stat``; the system's own is kept open, which saves half of what a reading takes."""
    if proc != PROC:
        return _content(f"{proc}/stat")
    try:
        if not _open_stat:
            _open_stat.append(os.open(f"{proc}/stat", os.O_RDONLY | os.O_CLOEXEC))
        if (told := os.pread(_open_stat[0], 256, 0)).startswith(b"cpu "):
            return told
    except OSError:
        pass
    _open_stat.clear()  # the program closed it under us: open it anew next time
    return _content(f"{proc}/stat")


def busy_cpu_s(proc: Path = PROC) -> float | None:
    """CPU seconds spent by anybody on the machine since it started; ``None`` where it is not told."""
    try:
        _, user, nice, system, _idle, _waiting, irq, softirq, *_ = _host_times(proc).split(None, 8)
        ticks = int(user) + int(nice) + int(system) + int(irq) + int(softirq)
    except ValueError:
        return None
    return ticks / _TICKS_PER_S


class Tree(Protocol):
    """What the meters ask of a process tree."""

    def cpu_s(self) -> float:
        """CPU seconds of the tree since the first call; never decreases."""

    def memory_bytes(self) -> tuple[float, float]:
        """Lower and upper figure of the memory in use."""

    def members(self) -> frozenset[int]:
        """Process ids of the tree."""


def this_tree() -> Tree:
    """The tree of this process, read in the way this system allows."""
    if (PROC / "self" / "task").is_dir():
        return ProcessTree()
    from mlflow_carbon.energy.proc_psutil import PsutilTree  # some 30 ms to import

    return PsutilTree()


def memory_bytes(proc: Path = PROC) -> float:
    """All the memory of the host; 0 where it is not told."""
    for line in _content(f"{proc}/meminfo").splitlines():
        if line.startswith(b"MemTotal:"):
            return float(line.split()[1]) * 1024
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError):
        return 0.0
