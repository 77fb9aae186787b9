"""AMD GPUs, by AMD's own bindings (the extra ``amd``) over the library that ROCm installs.

https://rocm.docs.amd.com/projects/amdsmi. Counters of some boards were seen to tell much too little, so each
has to agree with the board's power first (``GpuMeter``'s trial). Of the two dies of a MI250 one tells for both.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from types import ModuleType
from typing import Any

from mlflow_carbon.energy.gpu import Board

_MOST_W = 5000.0
_NOTE = "board power: +/-5 % assumed, AMD states no error"
_TICK_S = 0.1


def load_api() -> ModuleType:
    """AMD's bindings.

    Raises:
        OSError: they or ROCm's library are not installed; the text says which.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints where it finds no library
            return importlib.import_module("amdsmi")
    except ModuleNotFoundError as error:
        raise OSError(
            "AMD's bindings are not installed: pip install 'mlflow-carbon[amd]'"
        ) from error
    except (ImportError, KeyError, AttributeError, OSError) as error:
        raise OSError(f"amdsmi finds no libamd_smi.so of its version: {error}") from error


class AmdSmi:
    """The library, started once per process."""

    def __init__(self) -> None:
        """Load and start it.

        Raises:
            OSError: the bindings or ROCm's library are not installed, or the driver refuses; the text says which.
        """
        self.api: Any = load_api()
        self.ask("amdsmi_init")

    def ask(self, call: str, *arguments: object) -> Any:
        """One call by name; what the driver refuses becomes an ``OSError`` with its reason."""
        try:
            return getattr(self.api, call)(*arguments)
        except (self.api.AmdSmiException, AttributeError, UnicodeError, ValueError) as error:
            raise OSError(f"{call}: {error}") from error

    def devices(self) -> list[AmdDevice]:
        """The host's GPUs, in the order of the library.

        Raises:
            OSError: it lists none.
        """
        handles = self.ask("amdsmi_get_processor_handles")
        if not handles:
            raise OSError("AMD SMI lists no GPU")
        return [AmdDevice(self, handle) for handle in handles]


class AmdDevice:
    """One GPU as AMD SMI tells of it."""

    def __init__(self, smi: AmdSmi, handle: Any) -> None:
        """Look it up.

        Raises:
            OSError: it does not even tell its name.
        """
        self._smi, self._handle = smi, handle
        uuid = smi.ask("amdsmi_get_gpu_device_uuid", handle)
        name = smi.ask("amdsmi_get_gpu_asic_info", handle)["market_name"]
        self.board = Board(
            id=f"amd:{uuid}",
            name=f"AMD {name}".replace("AMD AMD", "AMD"),
            driver="AMD SMI",
            limit_w=None,
            sensor_error=0.05,
            sensor_note=_NOTE,
            tick_s=_TICK_S,
        )

    def ready(self) -> None:
        """The library needs no starting again."""

    def energy_j(self) -> float:
        """The accumulator, in units that the device tells (15.3 microjoules)."""
        told = self._smi.ask("amdsmi_get_energy_count", self._handle)
        counted = float(told["energy_accumulator"]) * float(told["counter_resolution"])
        if not counted:
            raise OSError("no energy counter")
        return counted / 1e6

    def power_w(self) -> float:
        """Of the socket, in the first of the fields that holds a power."""
        told = self._smi.ask("amdsmi_get_power_info", self._handle)
        for field in ("current_socket_power", "socket_power", "average_socket_power"):
            power_w = told.get(field)
            if isinstance(power_w, (int, float)) and 0 < power_w < _MOST_W:
                return float(power_w)
        raise OSError("no power told; of two dies on a board the first tells for both")

    def processes(self) -> dict[int, int] | None:
        """Process ids; how much each uses is not told, so 0."""
        try:
            running = self._smi.ask("amdsmi_get_gpu_process_list", self._handle)
            return {int(process["pid"]): 0 for process in running}
        except (OSError, KeyError, TypeError):
            return None
