"""NVIDIA's management library: loading it, and which GPUs are this process' own."""

from __future__ import annotations

import ctypes
import importlib
import os
from itertools import takewhile
from types import ModuleType
from typing import Any, NamedTuple

from mlflow_carbon.energy.gpu import Board
from mlflow_carbon.energy.meter import Component

TICK_S = 0.1
"""The counter is renewed about ten times a second (ml.energy, Measuring GPU Energy: Best Practices)."""
SENSOR_ERROR = 0.05
_NOTE = (
    "board power: +/-5 % (NVML reference, stated for Fermi and Kepler; nothing stated since); "
    "A100 and H100 sample a quarter of the time (arXiv:2312.02741)"
)
_SCOPE_GPU, _SCOPE_MODULE = 0, 1
"""NVML_POWER_SCOPE_* of nvml.h; old bindings have no names for them."""
_LOOK_BACK_US = 1_000_000
SLICES = 7
"""A GPU in MIG mode is cut into at most this many compute slices."""


def load_api() -> ModuleType:
    """NVIDIA's bindings.

    Raises:
        OSError: the host has no library that they could use.
    """
    ctypes.CDLL("libnvidia-ml.so.1")  # importing pynvml costs 0.1 s: not without the library
    return importlib.import_module("pynvml")


class Nvml:
    """The library, loaded once per process; started again after a fork."""

    def __init__(self) -> None:
        """Load and start it.

        Raises:
            OSError: no library, no driver, or the driver refuses; the text says which.
        """
        self.api: Any = load_api()
        self._pid = 0
        self.started = 0
        """How many times: handles are good for one."""
        self.start()

    @property
    def is_up(self) -> bool:
        """Whether it was started in this process and has not been shut down by others since."""
        return self._pid == os.getpid()

    def start(self) -> None:
        """Start the library in this process, unless it is."""
        if self.is_up:
            return
        try:
            self.api.nvmlInit()
        except self.api.NVMLError as error:
            raise OSError(f"NVML: {error}") from error
        self._pid = os.getpid()
        self.started += 1

    def ask(self, call: str, *arguments: object) -> Any:
        """One call by name; what the driver refuses becomes an ``OSError`` with its reason."""
        try:
            answer = getattr(self.api, call)(*arguments)
        except self.api.NVMLError_Uninitialized as error:
            self._pid = (
                0  # somebody in this process has shut it down; the next reading starts it again
            )
            raise OSError(f"{call}: {error}") from error
        except (self.api.NVMLError, AttributeError, UnicodeError) as error:
            raise OSError(f"{call}: {error}") from error
        return answer.decode(errors="replace") if isinstance(answer, bytes) else answer

    def try_ask(self, call: str, *arguments: object) -> Any | None:
        """The same; ``None`` where the driver refuses."""
        try:
            return self.ask(call, *arguments)
        except OSError:
            return None

    def tells_module_only(self, handle: Any) -> bool:
        """Whether power is that of a module of GPU, processor and memory, and of the GPU alone not told (GH200)."""
        return (
            self._field_w(handle, _SCOPE_GPU) is None
            and self._field_w(handle, _SCOPE_MODULE) is not None
        )

    def _field_w(self, handle: Any, scope: int) -> float | None:
        wanted = [(self.api.NVML_FI_DEV_POWER_INSTANT, scope)]
        fields = self.try_ask("nvmlDeviceGetFieldValues", handle, wanted)
        if not fields or fields[0].nvmlReturn != self.api.NVML_SUCCESS:
            return None
        return float(fields[0].value.uiVal) / 1000

    def instant_power_w(self, handle: Any, *, module: bool = False) -> float | None:
        """Board power of this moment; the driver's one-second mean where it has no better."""
        power_w = self._field_w(handle, _SCOPE_MODULE if module else _SCOPE_GPU)
        if power_w is not None:
            return power_w
        milliwatts = self.try_ask("nvmlDeviceGetPowerUsage", handle)
        return None if milliwatts is None else milliwatts / 1000


class NvmlDevice:
    """One GPU as NVML tells of it."""

    def __init__(self, nvml: Nvml, uuid: str) -> None:
        """Look it up.

        Raises:
            OSError: there is no such GPU.
        """
        self._nvml, self._uuid = nvml, uuid
        self._handle = nvml.ask("nvmlDeviceGetHandleByUUID", uuid)
        self._started = nvml.started
        self._sampled_us = 0
        """The newest sample of the processes' utilisation so far, on the driver's clock; 0: none."""
        self._module = nvml.tells_module_only(self._handle)
        limit_mw = nvml.try_ask("nvmlDeviceGetEnforcedPowerLimit", self._handle)
        self.board = Board(
            id=f"nvml:{uuid}",
            name=nvml.try_ask("nvmlDeviceGetName", self._handle) or "NVIDIA GPU",
            driver="NVML",
            limit_w=limit_mw / 1000 if limit_mw else None,
            sensor_error=SENSOR_ERROR,
            sensor_note=_NOTE,
            tick_s=TICK_S,
            component=Component.MODULE if self._module else Component.GPU,
            covers=" of the module: GPU, processor and memory" if self._module else "",
        )

    def ready(self) -> None:
        """Handles are good for one start of the library."""
        if self._nvml.is_up and self._started == self._nvml.started:
            return
        self._nvml.start()
        self._handle = self._nvml.ask("nvmlDeviceGetHandleByUUID", self._uuid)
        self._started = self._nvml.started

    def energy_j(self) -> float:
        """Since the driver was loaded."""
        return float(self._nvml.ask("nvmlDeviceGetTotalEnergyConsumption", self._handle)) / 1000

    def power_w(self) -> float:
        """Of this moment; the driver's one-second mean where it has no better."""
        power_w = self._nvml.instant_power_w(self._handle, module=self._module)
        if power_w is None:
            return float(self._nvml.ask("nvmlDeviceGetPowerUsage", self._handle)) / 1000
        return power_w

    def processes(self) -> dict[int, int] | None:
        """SM utilisation in per cent by process id since the last call; ``None`` if the driver does not tell."""
        running = self._nvml.try_ask("nvmlDeviceGetComputeRunningProcesses", self._handle)
        if running is None:
            return None
        use = {int(process.pid): 0 for process in running}
        if len(use) < 2:  # who alone is there needs no share
            self._sampled_us = 0
            return use
        if not self._sampled_us:
            # A driver that is not told since when gives the mean of six seconds (H200, driver 580).
            newest = max((int(sample.timeStamp) for sample in self._samples()), default=0)
            self._sampled_us = max(0, newest - _LOOK_BACK_US)
        for sample in self._samples():
            self._sampled_us = max(self._sampled_us, int(sample.timeStamp))
            if sample.pid in use:
                use[sample.pid] = max(use[sample.pid], int(sample.smUtil))
        return use

    def _samples(self) -> Any:
        ask = "nvmlDeviceGetProcessUtilization"
        return self._nvml.try_ask(ask, self._handle, self._sampled_us) or ()


class Choice(NamedTuple):
    """A GPU to be measured."""

    uuid: str
    reserved: bool = False
    """Given to this process by CUDA_VISIBLE_DEVICES."""
    slices: int | None = None
    """The process has this many of its seven slices (MIG)."""


def list_gpus(nvml: Nvml) -> list[str]:
    """The UUIDs of the host's GPUs in NVML's order (by PCI address).

    Raises:
        OSError: the driver does not even tell how many.
    """
    uuids = []
    for index in range(nvml.ask("nvmlDeviceGetCount")):
        handle = nvml.try_ask("nvmlDeviceGetHandleByIndex", index)
        uuid = nvml.try_ask("nvmlDeviceGetUUID", handle) if handle is not None else None
        if uuid:
            uuids.append(uuid)
    return uuids


def choose_gpus(nvml: Nvml, visible: str | None) -> list[Choice]:
    """The GPUs that CUDA shows to this process; ``visible`` is CUDA_VISIBLE_DEVICES.

    As in CUDA, the list ends at the first entry that names nothing, and only the first MIG device
    counts. https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-environment-variables

    Raises:
        OSError: the driver does not tell its GPUs.
    """
    uuids = list_gpus(nvml)
    if visible is None:
        return [Choice(uuid, slices=_first_slices(nvml, uuid)) for uuid in uuids]
    chosen: dict[str, Choice] = {}
    for entry in (part.strip() for part in visible.split(",")):
        choice = _choice(nvml, uuids, entry)
        if choice is None:
            break
        chosen.setdefault(choice.uuid, choice)
        if choice.slices is not None:
            break
    return list(chosen.values())


def _choice(nvml: Nvml, uuids: list[str], entry: str) -> Choice | None:
    if entry.startswith("MIG-"):
        mig = nvml.try_ask("nvmlDeviceGetHandleByUUID", entry)
        return None if mig is None else _of_mig(nvml, mig)
    uuid = _named(uuids, entry)
    if uuid is None:
        return None
    return Choice(uuid, reserved=True, slices=_first_slices(nvml, uuid))


def _named(uuids: list[str], entry: str) -> str | None:
    """The one GPU that an entry means: its number, its UUID or the start of it."""
    if entry.isdigit():
        found = uuids[int(entry) : int(entry) + 1]
    else:
        found = [uuid for uuid in uuids if entry and uuid.lower().startswith(entry.lower())]
    return found[0] if len(found) == 1 else None


def visible_uuids(uuids: list[str], visible: str | None) -> list[str]:
    """Those that CUDA shows, where the library cannot be asked; all of them where it takes the library to know."""
    if visible is None:
        return uuids
    entries = [entry.strip() for entry in visible.split(",")]
    unknown = not all(uuid.startswith("GPU-") for uuid in uuids)
    if "MIG-" in visible or (unknown and any(e.upper().startswith("GPU-") for e in entries)):
        return uuids
    named = (_named(uuids, entry) for entry in entries)
    return [uuid for uuid in takewhile(bool, named) if uuid]


def _of_mig(nvml: Nvml, mig: Any) -> Choice | None:
    parent = nvml.try_ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", mig)
    uuid = nvml.try_ask("nvmlDeviceGetUUID", parent) if parent is not None else None
    if uuid is None:
        return None
    attributes = nvml.try_ask("nvmlDeviceGetAttributes", mig)
    slices = int(attributes.gpuInstanceSliceCount) if attributes is not None else 0
    return Choice(uuid, reserved=True, slices=min(SLICES, max(1, slices)))


def _first_slices(nvml: Nvml, uuid: str) -> int | None:
    """For a GPU in MIG mode the slices of its first device, which is the one CUDA takes."""
    handle = nvml.try_ask("nvmlDeviceGetHandleByUUID", uuid)
    mode = nvml.try_ask("nvmlDeviceGetMigMode", handle) if handle is not None else None
    if not mode or not mode[0]:
        return None
    mig = nvml.try_ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, 0)
    choice = _of_mig(nvml, mig) if mig is not None else None
    return choice.slices if choice is not None else 1
