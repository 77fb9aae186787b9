"""What is behind a driver, a program or the network: GPUs, Apple's chip, a sensor at the wall.

Any of it may take long to open, or hang, so here it is only named: who measures opens it on a thread
of its own (``Sampler``). What has to be imported is imported here.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from mlflow_carbon.energy import nvml as nvidia
from mlflow_carbon.energy.attribution import Attributed, FixedShare, GpuShare
from mlflow_carbon.energy.gpu import GpuMeter
from mlflow_carbon.energy.gpu_model import GpuModel, named_gpu
from mlflow_carbon.energy.meter import Component, Driver, Meter, Opened, Unmeasured
from mlflow_carbon.energy.nvml import (
    SLICES,
    Choice,
    Nvml,
    NvmlDevice,
    choose_gpus,
    visible_uuids,
)
from mlflow_carbon.energy.proc import Tree
from mlflow_carbon.energy.wall import Source, WallSensor, wall_source
from mlflow_carbon.settings import Settings, visible_amd_gpus, visible_gpus
from mlflow_carbon.units import Range

if TYPE_CHECKING:
    from mlflow_carbon.energy.amd import AmdDevice

_GPU_CLASSES = ("0x0300", "0x0302", "0x0380", "0x1200")
"""PCI classes of graphics and accelerator devices."""
_VENDORS = {"NVIDIA": "0x10de", "AMD": "0x1002"}

_FIRST_PID_NAMESPACE = 0xEFFFFFFC
"""PROC_PID_INIT_INO of include/linux/proc_ns.h."""

_T = TypeVar("_T")


def find_drivers(
    settings: Settings, root: Path, tree: Tree
) -> tuple[list[Driver], list[Unmeasured]]:
    """The drivers of this host, none of them opened, and the parts that have none."""
    amd, ours = (_pci_gpus(root, vendor) for vendor in ("AMD", "NVIDIA"))
    host = _Host(root, tree, visible_gpus())
    finders: list[_Finder] = [_Finder("NVIDIA's driver", ours, partial(_nvidia, host, ours))]
    if amd:
        finders.append(_Finder("AMD's driver", amd, partial(_amd, tree)))
    if sys.platform == "darwin" and platform.machine() == "arm64":
        finders.append(_Finder("IOReport", ("Apple silicon",), _apple))
    drivers: list[Driver] = []
    missing: list[Unmeasured] = []
    for name, parts, find in finders:
        start = opened_or_why(find)
        if isinstance(start, str):
            missing += [Unmeasured(Component.GPU, f"{part}: {start}") for part in parts]
        else:
            drivers.append(Driver(name, Component.GPU, parts, start))
    source = opened_or_why(partial(wall_source, settings))
    if isinstance(source, str):
        missing.append(Unmeasured(Component.SYSTEM, source))
    elif source is not None:
        drivers.append(_wall(source, settings))
    return drivers, missing


class _Host(NamedTuple):
    root: Path
    tree: Tree
    visible: str | None
    """CUDA_VISIBLE_DEVICES as it is when the first run begins."""


class _Finder(NamedTuple):
    name: str
    parts: tuple[str, ...]
    find: Callable[[], Callable[[], Opened]]
    """Imports what is needed; what it returns opens the driver. Either raises ``OSError``."""


def _pci_gpus(root: Path, vendor: str) -> tuple[str, ...]:
    """``NVIDIA GPU 0000:65:00.0`` and the like: devices that are there whether or not a driver is."""
    found = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        try:
            kind = (device / "class").read_text().strip()[:6]
            made_by = (device / "vendor").read_text().strip()
        except OSError:
            continue
        if made_by == _VENDORS[vendor] and kind in _GPU_CLASSES:
            found.append(f"{vendor} GPU {device.name}")
    return tuple(found)


def opened_or_why(meter: Callable[[], _T]) -> _T | str:
    """The meter, or why it cannot be opened."""
    try:
        return meter()
    except OSError as error:
        return str(error)


def _nvidia(host: _Host, gpus: tuple[str, ...]) -> Callable[[], Opened]:
    try:
        nvidia.load_api()
    except OSError as error:
        if not gpus:
            raise
        why = str(error)
        return lambda: _modelled(host, gpus, why)

    def start() -> Opened:
        try:
            nvml = Nvml()
        except OSError as error:
            return _modelled(host, gpus, str(error))
        return _nvidia_gpus(host, nvml)

    return start


def _modelled(host: _Host, gpus: tuple[str, ...], why: str) -> Opened:
    """GPUs by their rated power, as the library that would tell of them is not there or refuses."""
    known = {gpu: named_gpu(host.root, gpu.rpartition(" ")[2]) for gpu in gpus}
    shown = visible_uuids([one.uuid for one in known.values() if one], host.visible)
    meters: list[Meter] = []
    missing = []
    for gpu, one in known.items():
        if one is not None and one.uuid not in shown:
            continue
        model = why if one is None else opened_or_why(partial(GpuModel, one, host.tree, why))
        if isinstance(model, str):
            missing.append(Unmeasured(Component.GPU, f"{one.name if one else gpu}: {model}"))
        else:
            meters.append(model)
    return Opened(meters, missing)


def _nvidia_gpus(host: _Host, nvml: Nvml) -> Opened:
    choices = opened_or_why(partial(choose_gpus, nvml, host.visible))
    if isinstance(choices, str):
        return Opened((), [Unmeasured(Component.GPU, f"NVIDIA: {choices}")])
    gpus: list[Meter] = []
    unmeasured = []
    for choice in choices:
        device = opened_or_why(partial(NvmlDevice, nvml, choice.uuid))
        gpu = device if isinstance(device, str) else opened_or_why(partial(GpuMeter, device))
        if isinstance(gpu, str) or isinstance(device, str):
            unmeasured.append(Unmeasured(Component.GPU, f"NVIDIA {choice.uuid}: {gpu}"))
        else:
            gpus.append(_ours(gpu, device, choice, host.tree))
    inside = {component for gpu in gpus for component in gpu.info.contains}
    unmeasured += [Unmeasured(part, "contained in the figure of the module") for part in inside]
    return Opened(gpus, unmeasured)


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


def _pids_are_the_hosts() -> bool:
    """Whether this process is in the first PID namespace, whose ids NVML speaks of."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino == _FIRST_PID_NAMESPACE
    except OSError:
        return False


def _amd(tree: Tree) -> Callable[[], Opened]:
    from mlflow_carbon.energy.amd import AmdSmi, load_api

    load_api()
    visible = visible_amd_gpus()
    return lambda: _amd_gpus(AmdSmi().devices(), visible, tree)


def _amd_gpus(devices: Sequence[AmdDevice], visible: str | None, tree: Tree) -> Opened:
    if visible is not None:
        numbers = [int(part) for part in visible.split(",") if part.strip().isdigit()]
        devices = [devices[n] for n in numbers if n < len(devices)]
    gpus: list[Meter] = []
    unmeasured = []
    for device in devices:
        gpu = opened_or_why(partial(GpuMeter, device, trial=True))
        if isinstance(gpu, str):
            unmeasured.append(Unmeasured(Component.GPU, f"{device.board.name}: {gpu}"))
        else:
            share = _by_process(device.processes, tree, reserved=visible is not None)
            gpus.append(Attributed(gpu, share))
    return Opened(gpus, unmeasured)


def _apple() -> Callable[[], Opened]:
    from mlflow_carbon.energy import apple

    monitor = apple.load()
    share = FixedShare(Range(0.0, 1.0, 1.0))  # whose work the chip counted is not told
    return lambda: Opened([Attributed(one, share) for one in apple.open_counters(monitor)])


def _wall(source: Source, settings: Settings) -> Driver:
    def start() -> Opened:
        told = settings.wall_factor_source
        return Opened([WallSensor(source, factor=settings.wall_factor, factor_source=told)])

    return Driver(source.name, Component.SYSTEM, (), start)
