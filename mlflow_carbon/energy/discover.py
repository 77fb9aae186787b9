"""Finding what can be measured on this host, and the reason for what cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mlflow_carbon.energy.attribution import Attributed, CpuShare
from mlflow_carbon.energy.drivers import find_drivers, opened_or_why
from mlflow_carbon.energy.estimate import CpuModel, DramModel
from mlflow_carbon.energy.meter import Component, Driver, Meter, Unmeasured
from mlflow_carbon.energy.perf import open_counters
from mlflow_carbon.energy.proc import memory_bytes as total_memory
from mlflow_carbon.energy.proc import this_tree
from mlflow_carbon.energy.processor import read_processor
from mlflow_carbon.energy.psys import checked
from mlflow_carbon.energy.rapl import AMD_ERROR, INTEL_ERROR, NOTES, RaplZone, find_zones
from mlflow_carbon.settings import Settings


class Discovery(NamedTuple):
    """The meters of this host."""

    meters: tuple[Meter, ...]
    """Opened: files of the kernel, and models where it tells nothing; no component twice."""
    unmeasured: tuple[Unmeasured, ...]
    drivers: tuple[Driver, ...]
    """Of more meters, to be opened where it does no harm when that hangs."""
    host: str
    """For a person: ``AMD EPYC (2 CPUs), 24.6 GB memory``."""

    def hardware(self, meters: Iterable[Meter]) -> str:
        """The host, and the GPUs that there are meters of by now: ``..., 2 x NVIDIA H100``."""
        gpus = Counter(
            meter.info.describe.partition(" (")[0]
            for meter in meters
            if meter.info.component in (Component.GPU, Component.MODULE)
        )
        return ", ".join([self.host, *(f"{count} x {name}" for name, count in gpus.items())])


def discover(settings: Settings, root: Path = Path("/")) -> Discovery:
    """Find the best meter for each component: counter, else power readings, else a model.

    ``root`` is where ``sys`` and ``proc`` are looked for.
    """
    processor = read_processor(root)
    rapl, refused = _rapl(root, amd="amd" in processor.name.lower())
    tree, memory_bytes = this_tree(), total_memory(root / "proc")
    share = CpuShare(tree, root / "proc")
    counters = checked(rapl, root / "sys/class/powercap")
    meters: list[Meter] = [Attributed(counter, share) for counter in counters]
    measured = {meter.info.component for meter in rapl}
    if Component.CPU not in measured:
        meters.append(CpuModel(processor, tree, why=refused))
    if Component.DRAM not in measured:
        meters.append(DramModel(tree, memory_bytes))
    drivers, unmeasured = find_drivers(settings, root, tree)
    host = f"{processor.name} ({processor.cpus:g} CPUs), {memory_bytes / 1e9:.1f} GB memory"
    return Discovery(tuple(meters), tuple(unmeasured), tuple(drivers), host)


def _rapl(root: Path, *, amd: bool) -> tuple[Sequence[Meter], str]:
    """The counters, by perf events or else powercap, and why not if they cannot be read.

    All or none: a host with one of its packages is no figure.
    """
    error = AMD_ERROR if amd else INTEL_ERROR
    try:
        return open_counters(root, error=error, note=NOTES[error]), ""
    except OSError:
        return _powercap(root, amd=amd)


def _powercap(root: Path, *, amd: bool) -> tuple[Sequence[Meter], str]:
    zones = find_zones(root / "sys/class/powercap")
    if not zones:
        return [], "no RAPL counters on this host"
    opened: list[RaplZone] = []
    for zone in zones:
        meter = opened_or_why(partial(RaplZone, zone, amd=amd))
        if isinstance(meter, str):
            for other in opened:
                other.close()
            return [], f"RAPL cannot be read (by root only since Linux 5.10): {meter}"
        opened.append(meter)
    return opened, ""
