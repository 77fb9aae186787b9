"""What a meter is: something that knows how many joules one part of the host has used since it was opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from mlflow_carbon.units import Range


class Method(str, Enum):
    """How a figure came about, best first."""

    COUNTER = "counter"
    """A hardware energy counter (NVML total energy, RAPL)."""
    SAMPLED = "sampled"
    """Power read many times a second and integrated."""
    MODELLED = "modelled"
    """Computed from load and data-sheet values; always a wide range."""
    DECLARED = "declared"
    """Stated by the user."""
    MISSING = "missing"
    """Not known; the reason stands beside it. Never 0."""


class Component(str, Enum):
    """The part of the host a meter covers."""

    GPU = "gpu"
    CPU = "cpu"
    DRAM = "dram"
    MODULE = "module"
    """CPU and GPU on one board behind one sensor (GH200)."""
    SYSTEM = "system"
    """The whole machine at the wall."""


class Reading(NamedTuple):
    """Joules since the meter was opened, at one moment of the monotonic clock.

    ``energy_j`` never decreases, bound by bound. For counters the three bounds are
    equal: the sensor's own error is added when a run is accounted for.
    """

    at_ns: int
    energy_j: Range
    own_j: Range | None = None
    """The part of ``energy_j`` that this process tree used; ``None``: all of it. Never decreases either."""
    power_w: float | None = None
    """Power at this moment where the device tells: bridges the stretch since a counter's last tick."""


class Gap(NamedTuple):
    """A meter that could not be read at ``at_ns``, and why."""

    at_ns: int
    reason: str
    lost: bool = False
    """What was used meanwhile cannot be learnt later (a reset counter), unlike an outage of a counter."""


class MeterInfo(NamedTuple):
    """What stays the same about a meter while it is open."""

    id: str
    """Stable across runs: ``nvml:GPU-<uuid>``, ``rapl:package-0``, ``model:cpu``."""
    component: Component
    method: Method
    describe: str
    """For a person: ``NVIDIA H200 (NVML energy counter)``."""
    period_s: float = 1.0
    """Longest time between readings that keeps the figure right (half a wrap, sampling rate)."""
    sensor_error: float = 0.0
    """Relative error of the sensor itself; ``sensor_note`` says where the value is from."""
    sensor_note: str = ""
    contains: tuple[Component, ...] = ()
    """What other meters of these components tell is already inside this one."""
    owned: bool = False
    """``own_j`` is this process tree's own use (a model from its CPU time), not a share of a device's."""
    tick_s: float = 0.0
    """The counter is renewed this often, so a reading may be this old (NVML: about 0.1 s)."""
    lag_s: float = 0.0
    """A power reading may be this old: the mean of a stretch, told until the next is there."""
    max_power_w: float | None = None
    """The device cannot draw more (its enforced limit); bounds what a reading missed."""
    may_block: bool = False
    """A read may hang in a driver or a program: it is read from a thread of its own."""


class Meter(Protocol):
    """A source of readings. ``read`` never raises: what goes wrong is a ``Gap``."""

    @property
    def info(self) -> MeterInfo:
        """Identity, method and error terms."""

    def read(self) -> Reading | Gap:
        """The joules so far; must return within a second or be read from a thread of its own."""

    def close(self) -> None:
        """Release the handle; reading afterwards is a ``Gap``."""


class Unmeasured(NamedTuple):
    """A component that no meter covers on this host, and why."""

    component: Component
    reason: str


class Opened(NamedTuple):
    """The meters of a driver, and what it does not tell."""

    meters: Sequence[Meter] = ()
    unmeasured: Sequence[Unmeasured] = ()


class Driver(NamedTuple):
    """What may take long to open, or hang: a GPU's driver, a sensor that is asked by a program or over the network."""

    name: str
    component: Component
    parts: tuple[str, ...]
    """What is known to be there, by name, and is unmeasured when the driver cannot be opened."""
    open: Callable[[], Opened]
    """Raises ``OSError``. Imports nothing: an import beside the user's can keep both waiting for good."""

    def opened(self) -> Opened:
        """Its meters, or why there are none; raises nothing."""
        try:
            return self.open()
        except OSError as error:
            return Opened((), self.missing(str(error)))
        except Exception as error:  # noqa: BLE001 - bindings that fail in a way of their own
            text = f"{self.name}: {type(error).__name__}: {error}"
            return Opened((), [Unmeasured(self.component, text)])

    def missing(self, reason: str) -> list[Unmeasured]:
        """Its parts, none of which can be measured for this reason; without known parts the reason alone."""
        found = [Unmeasured(self.component, f"{part}: {reason}") for part in self.parts]
        return found or [Unmeasured(self.component, reason)]
