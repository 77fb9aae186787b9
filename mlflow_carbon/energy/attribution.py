"""Whose joules: the part of a device's energy that this process tree used.

Energy = idle power x time + the rest. The rest goes by use (CPU time, SM utilisation); who should
bear the idle part is a choice, so it makes the range: low without it, mid by use, high with all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from mlflow_carbon.energy.integrate import grown, ordered
from mlflow_carbon.energy.meter import Gap, Meter, MeterInfo, Method, Reading
from mlflow_carbon.energy.proc import Tree, busy_cpu_s
from mlflow_carbon.units import Range

WHOLE, NONE = Range(1.0, 1.0, 1.0), Range(0.0, 0.0, 0.0)
MOST_IDLE = 0.3
"""Idle power is at most this part of the rated power (``cpu_arch_cloud.csv``; GPUs are below it)."""
_SLOPE_NS = 500_000_000
_STEP_S = 0.01
_ASK_NS = 500_000_000
"""The driver is asked for its processes at most this often: it takes 2 ms of processor time to tell (H200, driver 580)."""
_SAMPLED = 0.1
"""How far the share may be off: of processes that take turns a driver sees one at a time, a few times a second
(H200, driver 580)."""


class Share(Protocol):
    """How much of the use of a device since the last call was ours."""

    def since_last(self, now_ns: int) -> Range:
        """Between 0 and 1, with bounds."""


class Attributed:
    """A meter's readings with this process tree's part (``own_j``)."""

    def __init__(self, meter: Meter, share: Share, *, modelled: str = "") -> None:
        """Take the meter over; ``modelled`` says why the part is a model and no measurement."""
        self._meter, self._share, self._modelled = meter, share, modelled
        self._of: MeterInfo | None = None
        self._last: Reading | None = None
        self._own_j = NONE
        self._idle = _IdlePower(meter.info.max_power_w)

    @property
    def info(self) -> MeterInfo:
        """The meter's own, but a modelled part makes a modelled figure."""
        info = self._meter.info
        if not self._modelled:
            return info
        if info is not self._of:
            describe = f"{info.describe}; {self._modelled}"
            self._of = info
            self._info = info._replace(method=Method.MODELLED, describe=describe)
        return self._info

    def read(self) -> Reading | Gap:
        """The meter's reading, and what of it is ours."""
        reading = self._meter.read()
        if isinstance(reading, Gap):
            return reading
        share = self._share.since_last(reading.at_ns)
        if self._last is not None:
            used_j = grown(reading.energy_j, self._last.energy_j)
            seconds = (reading.at_ns - self._last.at_ns) / 1e9
            idle_w = self._idle.after(reading)
            self._own_j += _ours(used_j, idle_w * seconds, share)
        self._last = reading
        return Reading(reading.at_ns, reading.energy_j, self._own_j, reading.power_w)

    def close(self) -> None:
        """Close the meter."""
        self._meter.close()


def _ours(used_j: Range, idle_j: float, share: Range) -> Range:
    if share == WHOLE:
        return used_j
    low = max(0.0, used_j.low - idle_j) * share.low
    mid = used_j.mid * share.mid
    shared_idle_j = min(used_j.high, idle_j) if share.high > 0 else 0.0
    high = shared_idle_j + (used_j.high - shared_idle_j) * share.high
    return ordered(low, mid, high)


class _IdlePower:
    """The least power seen, which idle power does not exceed."""

    def __init__(self, rated_w: float | None) -> None:
        self._least_w = rated_w * MOST_IDLE if rated_w else float("inf")
        self._start: Reading | None = None

    def after(self, reading: Reading) -> float:
        if self._start is None:
            self._start = reading
        elif (span_ns := reading.at_ns - self._start.at_ns) >= _SLOPE_NS:
            used_j = reading.energy_j.mid - self._start.energy_j.mid
            self._least_w = min(self._least_w, max(0.0, used_j) / (span_ns / 1e9))
            self._start = reading
        return self._least_w


class CpuShare:
    """The process tree's part of the CPU time spent on the machine.

    One of these may serve several meters that are read together: within 5 ms the answer stays.
    """

    def __init__(self, tree: Tree, proc: Path = Path("/proc")) -> None:
        """Nothing is read yet."""
        self._tree, self._proc = tree, proc
        self._last: tuple[float, float] | None = None
        self._answered_ns = 0
        self._answer = Range(0.0, 1.0, 1.0)  # until there is enough CPU time to tell

    def since_last(self, now_ns: int) -> Range:
        """Bounds from the grain of the kernel's accounting; the whole where it does not tell."""
        if self._last is not None and now_ns - self._answered_ns < 5_000_000:
            return self._answer
        self._answered_ns = now_ns
        tree_s, busy_s = self._tree.cpu_s(), busy_cpu_s(self._proc)
        if busy_s is None:
            return WHOLE
        last, self._last = self._last, (tree_s, busy_s)
        if last is None:
            return self._answer
        ours_s, all_s = max(0.0, tree_s - last[0]), max(0.0, busy_s - last[1])
        if max(ours_s, all_s) < 2 * _STEP_S:  # too short to tell: as before
            self._last = last
            return self._answer
        all_s = max(all_s, ours_s)
        self._answer = Range(
            max(0.0, ours_s - _STEP_S) / (all_s + _STEP_S),
            ours_s / all_s,
            min(1.0, (ours_s + _STEP_S) / max(_STEP_S, all_s - _STEP_S)),
        )
        return self._answer


class GpuShare:
    """The process tree's part of the work done on a GPU, from NVML's lists of processes."""

    def __init__(
        self,
        processes: Callable[[], dict[int, int] | None],
        tree: Tree,
        *,
        reserved: bool,
        trusted: bool,
    ) -> None:
        """``processes``: SM utilisation by process id; ``None``: the driver does not tell.

        ``reserved``: the GPU was given to this process (CUDA_VISIBLE_DEVICES). ``trusted``: process
        ids are those of this system, which they are not in a container with ids of its own.
        """
        self._processes, self._tree = processes, tree
        self._reserved, self._trusted = reserved, trusted
        self._answer: tuple[int, Range] | None = None

    def since_last(self, now_ns: int) -> Range:
        """Whole if nobody else is there; by utilisation if somebody is; none if only others are."""
        if self._answer is None or now_ns - self._answer[0] >= _ASK_NS:
            self._answer = (now_ns, self._ask())
        return self._answer[1]

    def _ask(self) -> Range:
        use = self._processes() if self._trusted else None
        if use is None:
            return WHOLE
        members = self._tree.members() if use else frozenset[int]()
        ours = {pid: sm for pid, sm in use.items() if pid in members}
        if len(ours) == len(use):
            return WHOLE if ours or self._reserved else Range(0.0, 0.0, 1.0)
        if not ours:
            return NONE
        total = sum(use.values())
        if not total:  # idle, or not told
            return Range(0.0, len(ours) / len(use), 1.0)
        share = sum(ours.values()) / total
        return Range(max(0.0, share - _SAMPLED), share, min(1.0, share + _SAMPLED))


class FixedShare:
    """A part that is known beforehand only roughly: the slices of a MIG device."""

    def __init__(self, share: Range) -> None:
        """``share`` is the answer."""
        self._share = share

    def since_last(self, now_ns: int) -> Range:
        """Always the same."""
        del now_ns
        return self._share
