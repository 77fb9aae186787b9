"""What is known about this machine's processor: its name, how much of it is ours, and its watts.

Watts come from our tables (``resources.carbon_data()``): ``cpu_arch_cloud.csv`` holds idle and full
watts per virtual CPU of cloud servers (Cloud Carbon Footprint, from SPECpower), ``hardware_cpu.csv``
the rated power of processors by name.
"""

from __future__ import annotations

import csv
import os
import platform
import re
from pathlib import Path
from typing import NamedTuple

from mlflow_carbon import resources

_ARCHITECTURES = {
    # Linux, arch/x86/include/asm/intel-family.h and arch/x86/kernel/cpu/amd.c: (vendor, family, model).
    ("GenuineIntel", 6, 45): "Sandy Bridge",
    ("GenuineIntel", 6, 62): "Ivy Bridge",
    ("GenuineIntel", 6, 63): "Haswell",
    ("GenuineIntel", 6, 79): "Broadwell",
    ("GenuineIntel", 6, 85): "Skylake",
    ("GenuineIntel", 6, 106): "Ice Lake",
    ("GenuineIntel", 6, 143): "Sapphire Rapids",
    ("GenuineIntel", 6, 207): "Emerald Rapids",
    ("GenuineIntel", 6, 173): "Granite Rapids",
    ("AuthenticAMD", 23, 1): "EPYC 1st Gen",
    ("AuthenticAMD", 23, 49): "EPYC 2nd Gen",
    ("AuthenticAMD", 25, 1): "EPYC 3rd Gen",
    ("AuthenticAMD", 25, 17): "EPYC 4th Gen",
    ("AuthenticAMD", 25, 160): "EPYC 4th Gen",
    ("AuthenticAMD", 26, 2): "EPYC 5th Gen",
    ("AuthenticAMD", 26, 17): "EPYC 5th Gen",
}
IDLE_SHARE = (0.05, 0.3)
"""Idle power over full power of servers: lowest and highest ratio of ``cpu_arch_cloud.csv``, rounded."""


class Processor(NamedTuple):
    """The processor as far as this process may use it."""

    name: str
    cpus: float
    """CPUs usable by this process: affinity and container quota counted in."""
    host_cpus: int
    idle_w: tuple[float, float]
    """Per CPU with nothing to do, from and to."""
    full_w: tuple[float, float, float]
    """Per CPU with everything to do: from, most likely, to."""
    basis: str
    """Where the watts are from, for a person."""


def read_processor(root: Path = Path("/")) -> Processor:
    """This machine's processor; one that no table knows gets the spread of all known ones."""
    facts = _cpuinfo(root)
    name = facts.get("model name") or platform.processor() or platform.machine() or "unknown CPU"
    host_cpus = os.cpu_count() or 1
    virtual = "hypervisor" in facts.get("flags", "").split()
    architecture = _architecture(facts)
    watts = None if virtual else _from_rated_power(name, host_cpus, facts)
    idle_w, full_w, basis = watts or _from_cloud_table(architecture)
    return Processor(
        name=" ".join(name.split()),
        cpus=_usable_cpus(root, host_cpus),
        host_cpus=host_cpus,
        idle_w=idle_w,
        full_w=full_w,
        basis=basis,
    )


def _cpuinfo(root: Path) -> dict[str, str]:
    """The facts of the first CPU, plus how many sockets there are."""
    facts: dict[str, str] = {}
    sockets = set()
    try:
        lines = (root / "proc/cpuinfo").read_text().splitlines()
    except OSError:
        return facts
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
        if key.startswith("physical id"):
            sockets.add(value)
    facts["sockets"] = str(max(1, len(sockets)))
    return facts


def _architecture(facts: dict[str, str]) -> str | None:
    try:
        key = (facts["vendor_id"], int(facts["cpu family"]), int(facts["model"]))
    except (KeyError, ValueError):
        return None
    return _ARCHITECTURES.get(key)


_Watts = tuple[tuple[float, float], tuple[float, float, float], str]


def _from_cloud_table(architecture: str | None) -> _Watts:
    path = resources.carbon_data() / "cpu_arch_cloud.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    known = [row for row in rows if row["cpu_architecture"] == architecture]
    chosen = known or rows
    idle = sorted(float(row["min_w_per_vcpu"]) for row in chosen)
    full = sorted(float(row["max_w_per_vcpu"]) for row in chosen)
    basis = f"SPECpower of {architecture} servers" if known else "SPECpower of all known servers"
    return (idle[0], idle[-1]), (full[0], full[len(full) // 2], full[-1]), basis


def _plain(name: str) -> str:
    """A processor's name without marks, cores and clock: ``intel xeon gold 6132``."""
    name = re.sub(r"\((r|tm)\)|@.*|\b\d+-core\b|\bcpu\b|\bprocessor\b", " ", name.lower())
    return " ".join(name.split())


def _from_rated_power(name: str, host_cpus: int, facts: dict[str, str]) -> _Watts | None:
    path = resources.carbon_data() / "hardware_cpu.csv"
    wanted = _plain(name)
    last = wanted.rpartition(" ")[2]
    with path.open(newline="", encoding="utf-8") as file:
        # Thousands of rows: only those that hold the model's number are looked at closely.
        candidates = (line for n, line in enumerate(file) if not n or last in line.lower())
        rows = csv.DictReader(candidates)
        rated_w = next((float(r["tdp_w"]) for r in rows if _plain(r["name"]) == wanted), None)
    if rated_w is None:
        return None
    per_cpu_w = rated_w * int(facts.get("sockets", "1")) / host_cpus
    idle = (per_cpu_w * IDLE_SHARE[0], per_cpu_w * IDLE_SHARE[1])
    return idle, (per_cpu_w * 0.7, per_cpu_w, per_cpu_w), f"rated power {rated_w:g} W"


def _usable_cpus(root: Path, host_cpus: int) -> float:
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = float(len(affinity(0)) if affinity else host_cpus)
    quota = _cgroup_quota(root)
    return min(cpus, quota) if quota else cpus


def _cgroup_quota(root: Path) -> float | None:
    """CPUs allowed by the container, if limited: cgroup v2, else v1."""
    group = root / "sys/fs/cgroup"
    told = _text(group / "cpu.max") or " ".join(
        _text(group / "cpu" / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    )
    try:
        limit, period = map(int, told.split())
    except ValueError:  # "max", or nothing is told
        return None
    return limit / period if limit > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
