"""Models for what no sensor covers: CPU from the time it was used, memory from how much is used.

A model never gives a bare number: the range spans what the data sheets leave open and what such
models were seen to be off by.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path

from mlflow_carbon import resources
from mlflow_carbon.energy.meter import Component, Gap, MeterInfo, Method, Reading
from mlflow_carbon.energy.proc import Tree, busy_cpu_s
from mlflow_carbon.energy.processor import Processor
from mlflow_carbon.units import Range

MODEL_ERROR = 0.4
"""Relative: estimators against external meters were up to 40 % off (Fischer, arXiv:2509.22092)."""
_NOTE = "model: +/-40 % on top of the range of the data sheets (arXiv:2509.22092)"
GB = 1e9
_MEMORY_NS = 5_000_000_000
"""Memory in use is asked for this often: it moves slowly and costs little energy."""


class CpuModel:
    """CPU energy from CPU time: each CPU draws idle power all the time and full power while used.

    The process tree's own part: low is the extra power of its CPU time; mid its CPU time at
    full power; high adds the idle power of every CPU it may use.
    """

    def __init__(
        self, processor: Processor, tree: Tree, *, why: str = "", proc: Path = Path("/proc")
    ) -> None:
        """Start counting at the first reading; ``why`` tells why there is no counter."""
        self._processor, self._tree, self._proc = processor, tree, proc
        self.info = MeterInfo(
            id="model:cpu",
            component=Component.CPU,
            method=Method.MODELLED,
            describe=f"{processor.name}, {processor.cpus:g} CPUs (CPU time x watts: {processor.basis})"
            + (f"; {why}" if why else ""),
            period_s=10.0,
            sensor_error=MODEL_ERROR,
            sensor_note=_NOTE,
            owned=True,
            max_power_w=processor.full_w[2] * processor.cpus,
        )
        self._last: tuple[int, float, float] | None = None
        self._energy = self._own = Range(0.0, 0.0, 0.0)

    def read(self) -> Reading | Gap:
        """Joules of the CPUs this process may use, and its own part."""
        now_ns, tree_s = time.monotonic_ns(), self._tree.cpu_s()
        told_s = busy_cpu_s(self._proc)
        busy_s = tree_s if told_s is None else told_s
        if self._last is not None:
            last_ns, last_tree_s, last_busy_s = self._last
            self._advance((now_ns - last_ns) / 1e9, tree_s - last_tree_s, busy_s - last_busy_s)
        self._last = (now_ns, tree_s, busy_s)
        return Reading(now_ns, self._energy, self._own)

    def close(self) -> None:
        """Nothing is held open."""

    def _advance(self, wall_s: float, tree_s: float, busy_s: float) -> None:
        chip = self._processor
        busy_s = max(busy_s * chip.cpus / chip.host_cpus, tree_s, 0.0)
        idle_s = max(0.0, chip.cpus * wall_s - busy_s)
        idle_low, idle_high = chip.idle_w
        low, mid, high = chip.full_w
        self._own += Range(
            tree_s * max(0.0, low - idle_high),
            tree_s * mid,
            tree_s * high + max(0.0, chip.cpus * wall_s - tree_s) * idle_high,
        )
        self._energy += Range(
            busy_s * low + idle_s * idle_low,
            busy_s * mid + idle_s * (idle_low + idle_high) / 2,
            busy_s * high + idle_s * idle_high,
        )


class DramModel:
    """Memory energy: watts per gigabyte times what the process tree has resident."""

    def __init__(self, tree: Tree, total_bytes: float) -> None:
        """Start counting at the first reading; ``total_bytes`` is all the memory of the host."""
        self._tree, self._total_bytes = tree, total_bytes
        self._w_per_gb = _watts_per_gb()
        self.info = MeterInfo(
            id="model:dram",
            component=Component.DRAM,
            method=Method.MODELLED,
            describe=f"memory in use x {self._w_per_gb.low:g} to {self._w_per_gb.high:g} W/GB",
            period_s=10.0,
            sensor_error=MODEL_ERROR,
            sensor_note=_NOTE,
            owned=True,
            max_power_w=self._w_per_gb.high * total_bytes / GB,
        )
        self._last: tuple[int, float, float] | None = None
        self._asked_ns = 0
        self._energy = self._own = Range(0.0, 0.0, 0.0)

    def read(self) -> Reading | Gap:
        """Joules of all memory, and of what the process tree keeps resident."""
        now_ns = time.monotonic_ns()
        if self._last is None or now_ns - self._asked_ns >= _MEMORY_NS:
            least, most = (size / GB for size in self._tree.memory_bytes())
            self._asked_ns = now_ns
        else:
            _, least, most = self._last
        if self._last is not None:
            last_ns, last_least, last_most = self._last
            wall_s = (now_ns - last_ns) / 1e9
            least_gb, most_gb = (least + last_least) / 2, (most + last_most) / 2
            watts = self._w_per_gb
            self._own += Range(
                watts.low * least_gb * wall_s,
                watts.mid * (least_gb + most_gb) / 2 * wall_s,
                watts.high * most_gb * wall_s,
            )
            self._energy += watts.scaled(self._total_bytes / GB * wall_s)
        self._last = (now_ns, least, most)
        return Reading(now_ns, self._energy, self._own)

    def close(self) -> None:
        """Nothing is held open."""


def _watts_per_gb() -> Range:
    """The spread of the published linear models."""
    path = resources.carbon_data() / "dram_power.csv"
    with path.open(newline="", encoding="utf-8") as file:
        values = sorted(float(r["value"]) for r in csv.DictReader(file) if r["unit"] == "W/GB")
    return Range(values[0], values[len(values) // 2], values[-1])
