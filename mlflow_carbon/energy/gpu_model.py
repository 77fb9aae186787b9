"""A GPU of which nobody tells anything but its name: from nothing to its rated power, while its device is open.

NVIDIA's kernel driver names its GPUs in ``/proc/driver/nvidia/gpus`` also where the library to ask them is
not there (a container without the capability ``utility``) or does not fit the driver.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from mlflow_carbon import resources
from mlflow_carbon.energy.meter import Component, Gap, MeterInfo, Method, Reading
from mlflow_carbon.energy.proc import PROC, Tree
from mlflow_carbon.units import Range

_NOTE = (
    "rated power of the data sheet; a board may be set to less. Half of it is assumed while in use"
)
_PER_BOARD = {"tesla k80": 2, "tesla m60": 2, "a16": 4}
"""GPUs on one board, whose rated power is that of the board."""
_ASK_NS = 5_000_000_000
"""Whether the device is open is looked for this often: a process may have thousands of files."""


class NamedGpu(NamedTuple):
    """What the kernel driver tells of a GPU."""

    name: str
    address: str
    """On the PCI bus."""
    uuid: str
    """The address where the driver has not learnt it yet."""
    device: str
    """Its file: ``/dev/nvidia0``; "" if not told."""
    rated_w: float | None
    """By the table of data sheets."""


def named_gpu(root: Path, address: str) -> NamedGpu | None:
    """The NVIDIA GPU at a PCI address, if its kernel driver is loaded."""
    try:
        text = (root / "proc/driver/nvidia/gpus" / address / "information").read_text()
    except (OSError, UnicodeError):
        return None
    facts = {key.strip(): value.strip() for key, _, value in map(_parted, text.splitlines())}
    if not facts.get("Model"):
        return None
    uuid, minor = facts.get("GPU UUID", "?"), facts.get("Device Minor", "")
    return NamedGpu(
        name=facts["Model"],
        address=address,
        uuid=address if "?" in uuid else uuid,
        device=f"/dev/nvidia{minor}" if minor else "",
        rated_w=_rated_w(facts["Model"]),
    )


def _parted(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def _rated_w(name: str) -> float | None:
    wanted = _plain(name)
    path = resources.carbon_data() / "hardware_gpu.csv"
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            # A module's rated power has its processor in it, which has a model of its own.
            if _plain(row["name"]) == wanted and row["klass"] != "superchip":
                return float(row["tdp_w"]) / _PER_BOARD.get(wanted, 1)
    return None


def _plain(name: str) -> str:
    return name.lower().removeprefix("nvidia ").strip()


def is_open(device: str, pids: Iterable[int], proc: Path = PROC) -> bool | None:
    """Whether one of the processes has the file open; ``None`` where that cannot be seen of all of them."""
    if not device:
        return None
    unseen = False
    for pid in pids:
        files = f"{proc}/{pid}/fd"
        try:
            numbers = os.listdir(files)  # noqa: PTH208 - for each open file: paths cost more than reading
        except FileNotFoundError:
            continue  # it has ended
        except OSError:
            unseen = True
            continue
        if any(_target(f"{files}/{number}") == device for number in numbers):
            return True
    return None if unseen else False


def _target(link: str) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - as above
    except OSError:
        return ""


class GpuModel:
    """One GPU by its rated power. Low is nothing: what a board draws at rest is on no data sheet."""

    def __init__(
        self,
        gpu: NamedGpu,
        tree: Tree,
        why: str,
        *,
        proc: Path = PROC,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Start counting at the first reading; ``why`` tells why nobody can be asked.

        Raises:
            OSError: the GPU is on no data sheet that we have.
        """
        if gpu.rated_w is None:
            raise OSError(f"{why}; its rated power is not known")
        self._gpu, self._tree, self._proc, self._clock = gpu, tree, proc, clock
        self._watts = Range(0.0, gpu.rated_w / 2, gpu.rated_w)
        self.info = MeterInfo(
            id=f"model-gpu:{gpu.address}",
            component=Component.GPU,
            method=Method.MODELLED,
            describe=f"{gpu.name} (half of its rated {gpu.rated_w:g} W while {gpu.device or 'it'} is open; {why})",
            period_s=10.0,
            sensor_note=_NOTE,
            owned=True,
            max_power_w=gpu.rated_w,
            may_block=True,  # it looks through all open files
        )
        self._last: tuple[int, bool | None] | None = None
        self._asked_ns = 0
        self._energy = self._own = Range(0.0, 0.0, 0.0)

    def read(self) -> Reading | Gap:
        """Joules that the board may have used, and this process tree's own: none while it has not opened it."""
        now_ns = self._clock()
        if self._last is None or now_ns - self._asked_ns >= _ASK_NS:
            opened = is_open(self._gpu.device, self._tree.members(), self._proc)
            self._asked_ns = now_ns
        else:
            opened = self._last[1]
        if self._last is not None:
            used = self._watts.scaled((now_ns - self._last[0]) / 1e9)
            self._energy += used
            if opened or self._last[1]:
                self._own += used
            elif opened is None:
                self._own += Range(0.0, 0.0, used.high)
        self._last = (now_ns, opened)
        return Reading(now_ns, self._energy, self._own)

    def close(self) -> None:
        """Nothing is held open."""
