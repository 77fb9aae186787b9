"""Finding what can be measured on this host, and the reason for what cannot."""

from __future__ import annotations

import platform
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from mlflow_carbon.energy import nvml as nvidia
from mlflow_carbon.energy.attribution import Attributed, CpuShare, FixedShare, GpuShare, Share
from mlflow_carbon.energy.estimate import CpuModel, DramModel
from mlflow_carbon.energy.gpu import GpuMeter
from mlflow_carbon.energy.meter import Component, Meter, Unmeasured
from mlflow_carbon.energy.nvml import SLICES, Choice, Nvml, NvmlDevice, choose_gpus
from mlflow_carbon.energy.perf import open_counters
from mlflow_carbon.energy.proc import Tree, this_tree
from mlflow_carbon.energy.proc import memory_bytes as total_memory
from mlflow_carbon.energy.processor import Processor, read_processor
from mlflow_carbon.energy.psys import checked
from mlflow_carbon.energy.rapl import AMD_ERROR, INTEL_ERROR, NOTES, RaplZone, find_zones
from mlflow_carbon.energy.wall import WallSensor, wall_source
from mlflow_carbon.settings import Settings, visible_amd_gpus, visible_gpus
from mlflow_carbon.units import Range

_PATIENCE_S = 5.0
"""A driver that does not answer for this long is left alone."""
_GPU_CLASSES = ("0x0300", "0x0302", "0x0380", "0x1200")
"""PCI classes of graphics and accelerator devices."""
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD"}

_FIRST_PID_NAMESPACE = 0xEFFFFFFC
"""PROC_PID_INIT_INO of include/linux/proc_ns.h."""

_T = TypeVar("_T")


class Discovery(NamedTuple):
    """The meters of this host, opened, with no component counted twice."""

    meters: tuple[Meter, ...]
    unmeasured: tuple[Unmeasured, ...]
    hardware: str
    """For a person: ``AMD EPYC (2 CPUs), 24.6 GB memory, 2 x NVIDIA H100``."""


def discover(settings: Settings, root: Path = Path("/")) -> Discovery:
    """Open the best meter for each component: counter, else power readings, else a model.

    ``root`` is where ``sys`` and ``proc`` are looked for.
    """
    processor = read_processor(root)
    rapl, refused = _rapl(root, amd="amd" in processor.name.lower())
    tree, memory_bytes = this_tree(), total_memory(root / "proc")
    gpus, unmeasured = _gpus(root, tree)
    share: Share = CpuShare(tree, root / "proc")
    if sys.platform == "darwin" and platform.machine() == "arm64":
        rapl, missing = _apple()
        unmeasured += missing
        share = FixedShare(Range(0.0, 1.0, 1.0))  # whose work the chip counted is not told
    meters: list[Meter] = [*gpus]
    if any(gpu.info.component is Component.MODULE for gpu in gpus):
        # The module's sensor has both in it: a counter or a model beside it would count them twice.
        for meter in rapl:
            meter.close()
        inside = "contained in the figure of the module"
        unmeasured += [Unmeasured(part, inside) for part in (Component.CPU, Component.DRAM)]
    else:
        counters = checked(rapl, root / "sys/class/powercap")
        meters += [Attributed(counter, share) for counter in counters]
        measured = {meter.info.component for meter in rapl}
        if Component.CPU not in measured:
            meters.append(CpuModel(processor, tree, why=refused))
        if Component.DRAM not in measured:
            meters.append(DramModel(tree, memory_bytes))
    wall = _open(partial(_wall, settings))
    if isinstance(wall, str):
        unmeasured.append(Unmeasured(Component.SYSTEM, wall))
    elif wall is not None:
        meters.append(wall)
    hardware = _describe(
        processor, memory_bytes, [gpu.info.describe.partition(" (")[0] for gpu in gpus]
    )
    return Discovery(tuple(meters), tuple(unmeasured), hardware)


def _apple() -> tuple[Sequence[Meter], list[Unmeasured]]:
    from mlflow_carbon.energy import apple

    try:
        monitor = apple.load()
        return _in_time(lambda: apple.open_counters(monitor)), []
    except OSError as error:
        return [], [Unmeasured(Component.GPU, f"Apple silicon: {error}")]


def _wall(settings: Settings) -> WallSensor | None:
    source = wall_source(settings)
    if source is None:
        return None
    told = settings.wall_factor_source
    return WallSensor(source, factor=settings.wall_factor, factor_source=told)


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
        meter = _open(partial(RaplZone, zone, amd=amd))
        if isinstance(meter, str):
            for other in opened:
                other.close()
            return [], f"RAPL cannot be read (by root only since Linux 5.10): {meter}"
        opened.append(meter)
    return opened, ""


def _open(meter: Callable[[], _T]) -> _T | str:
    """The meter, or why it cannot be opened."""
    try:
        return meter()
    except OSError as error:
        return str(error)


def _gpus(root: Path, tree: Tree) -> tuple[list[Meter], list[Unmeasured]]:
    present = _pci_gpus(root)
    meters, unmeasured = _nvidia(present, tree)
    if names := [name for name in present if name.startswith("AMD")]:
        more, missing = _amd(names, tree)
        meters, unmeasured = meters + more, unmeasured + missing
    return meters, unmeasured


def _nvidia(present: list[str], tree: Tree) -> tuple[list[Meter], list[Unmeasured]]:
    try:
        nvidia.load_api()  # on this thread: an import beside the user's can keep both waiting for good
        nvml = _in_time(Nvml)
    except OSError as error:
        names = [name for name in present if name.startswith("NVIDIA")]
        return [], [Unmeasured(Component.GPU, f"{name}: {error}") for name in names]
    try:
        choices = choose_gpus(nvml, visible_gpus())
    except OSError as error:
        return [], [Unmeasured(Component.GPU, f"NVIDIA: {error}")]
    gpus: list[Meter] = []
    unmeasured = []
    for choice in choices:
        device = _open(partial(NvmlDevice, nvml, choice.uuid))
        gpu = device if isinstance(device, str) else _open(partial(GpuMeter, device))
        if isinstance(gpu, str) or isinstance(device, str):
            unmeasured.append(Unmeasured(Component.GPU, f"NVIDIA {choice.uuid}: {gpu}"))
        else:
            gpus.append(_ours(gpu, device, choice, tree))
    return gpus, unmeasured


def _ours(gpu: GpuMeter, device: NvmlDevice, choice: Choice, tree: Tree) -> Attributed:
    if choice.slices is not None:
        part = Range(0.0, choice.slices / SLICES, 1.0)
        told = f"MIG: {choice.slices} of {SLICES} slices of the board (arXiv:2501.17752)"
        return Attributed(gpu, FixedShare(part), modelled=told)
    return Attributed(gpu, _by_process(device.processes, tree, reserved=choice.reserved))


def _by_process(
    processes: Callable[[], dict[int, int] | None], tree: Tree, *, reserved: bool
) -> GpuShare:
    return GpuShare(processes, tree, reserved=reserved, trusted=_pids_are_the_hosts())


def _amd(names: list[str], tree: Tree) -> tuple[list[Meter], list[Unmeasured]]:
    from mlflow_carbon.energy.amd import AmdSmi, load_api

    try:
        load_api()  # as NVIDIA's
        devices = _in_time(lambda: AmdSmi().devices())
    except OSError as error:
        return [], [Unmeasured(Component.GPU, f"{name}: {error}") for name in names]
    visible = visible_amd_gpus()
    if visible is not None:
        numbers = [int(part) for part in visible.split(",") if part.strip().isdigit()]
        devices = [devices[n] for n in numbers if n < len(devices)]
    gpus: list[Meter] = []
    unmeasured = []
    for device in devices:
        gpu = _open(partial(GpuMeter, device, trial=True))
        if isinstance(gpu, str):
            unmeasured.append(Unmeasured(Component.GPU, f"{device.board.name}: {gpu}"))
        else:
            share = _by_process(device.processes, tree, reserved=visible is not None)
            gpus.append(Attributed(gpu, share))
    return gpus, unmeasured


def _pids_are_the_hosts() -> bool:
    """Whether this process is in the first PID namespace, whose ids NVML speaks of."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino == _FIRST_PID_NAMESPACE
    except OSError:
        return False


def _in_time(start: Callable[[], _T]) -> _T:
    """What ``start`` returns, if it does so in time.

    Raises:
        OSError: it failed with one, or did not return.
    """
    outcome: list[_T | OSError] = []

    def run() -> None:
        try:
            outcome.append(start())
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=run, name="mlflow-carbon-driver", daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    if not outcome:
        raise OSError(f"the driver did not answer within {_PATIENCE_S:g} s")
    if isinstance(outcome[0], OSError):
        raise outcome[0]
    return outcome[0]


def _pci_gpus(root: Path) -> list[str]:
    """``NVIDIA GPU 0000:65:00.0`` and the like: devices that are there whether or not a driver is."""
    found = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        try:
            kind = (device / "class").read_text().strip()[:6]
            vendor = _VENDORS.get((device / "vendor").read_text().strip())
        except OSError:
            continue
        if vendor and kind in _GPU_CLASSES:
            found.append(f"{vendor} GPU {device.name}")
    return found


def _describe(processor: Processor, memory_bytes: float, gpus: list[str]) -> str:
    parts = [
        f"{processor.name} ({processor.cpus:g} CPUs)",
        f"{memory_bytes / 1e9:.1f} GB memory",
        *(f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus)),
    ]
    return ", ".join(parts)
